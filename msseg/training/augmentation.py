"""Augmentation: rows of probabilities and ranges, assembled into batchgenerators' transforms.

Arrays are batches: image (b, c, *patch), label (b, 1, *patch); the spatial axes are the plan's. Intensities are
normalised, so that a noise of 0.1 is a tenth of a standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from batchgenerators.transforms.abstract_transforms import AbstractTransform, Compose
from batchgenerators.transforms.color_transforms import (
    BrightnessMultiplicativeTransform,
    BrightnessTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.noise_transforms import GaussianBlurTransform, GaussianNoiseTransform
from batchgenerators.transforms.resample_transforms import SimulateLowResolutionTransform
from batchgenerators.transforms.spatial_transforms import MirrorTransform, SpatialTransform
from batchgenerators.transforms.utility_transforms import OneOfTransformPerSample

from msseg.errors import MssegError
from msseg.training.sampling import PADDING_IMAGE, PADDING_LABEL
from msseg.training.transforms import FoldDepth, GridElastic, QuarterTurn, RandomWindow, UnfoldDepth

Range = tuple[float, float]

# An elongated 2D patch turned further than this shows mostly padding.
_ELONGATED = 1.5
_ELONGATED_DEGREES = 15.0
_GRID_POINTS = 3


@dataclass(frozen=True)
class Augmentation:
    """Probabilities per sample and ranges; a probability of 0 leaves the transform out.

    `rotation_degrees` holds for each axis in 3D, `rotation_degrees_in_plane` for 2D and dummy-2D patches. Blur and
    low resolution touch each channel with probability one half, as in nnU-Net. `shift` is the largest shift as a share
    of the patch's edge; `quarter_turn` turns in the plane of the last two axes; `grid_elastic` displaces 3 × 3 (× 3)
    points by `grid_share` of the edge, at most `grid_largest` voxels (standard deviations). `one_intensity` is the
    probability of exactly one of three: each channel made brighter or darker for itself, by `colour_deviation`, all
    alike, by `brightness_deviation`, or the contrast changed within `one_contrast_range`.
    """

    name: str
    rotation: float = 0.0
    rotation_degrees: float = 30.0
    rotation_degrees_in_plane: float = 180.0
    scaling: float = 0.0
    scaling_range: Range = (0.7, 1.4)
    elastic: float = 0.0
    elastic_alpha: Range = (0.0, 900.0)
    elastic_sigma: Range = (9.0, 13.0)
    noise: float = 0.0
    noise_deviation: Range = (0.0, 0.1)
    blur: float = 0.0
    blur_sigma: Range = (0.5, 1.0)
    brightness: float = 0.0
    brightness_range: Range = (0.75, 1.25)
    contrast: float = 0.0
    contrast_range: Range = (0.75, 1.25)
    low_resolution: float = 0.0
    low_resolution_range: Range = (0.5, 1.0)
    inverted_gamma: float = 0.0
    gamma: float = 0.0
    gamma_range: Range = (0.7, 1.5)
    shift: float = 0.0
    quarter_turn: float = 0.0
    grid_elastic: float = 0.0
    grid_share: float = 10 / 256
    grid_largest: float = 10.0
    one_intensity: float = 0.0
    colour_deviation: float = 0.25
    brightness_deviation: float = 0.5
    one_contrast_range: Range = (0.8, 1.2)
    mirror: bool = True
    image_order: int = 3
    label_order: int = 1


AUGMENTATIONS = {
    row.name: row
    for row in (
        Augmentation(name="none", mirror=False),
        Augmentation(
            name="nnunet",
            rotation=0.2,
            scaling=0.2,
            noise=0.1,
            blur=0.2,
            brightness=0.15,
            contrast=0.15,
            low_resolution=0.25,
            inverted_gamma=0.1,
            gamma=0.3,
        ),
        # The MSS U-Net's paper: small rotations and scalings, elastic deformation, gamma, all mirrors.
        Augmentation(
            name="mss",
            rotation=0.2,
            rotation_degrees=15.0,
            rotation_degrees_in_plane=15.0,
            scaling=0.2,
            scaling_range=(0.85, 1.25),
            elastic=0.2,
            gamma=0.3,
        ),
        # Cheap enough for two cores shared with the network: linear images, nearest labels.
        Augmentation(
            name="budget",
            rotation=0.7,
            rotation_degrees=20.0,
            rotation_degrees_in_plane=30.0,
            scaling=0.7,
            scaling_range=(0.82, 1.22),
            noise=0.2,
            blur=0.15,
            brightness=0.3,
            contrast=0.2,
            low_resolution=0.1,
            gamma=0.3,
            image_order=1,
            label_order=0,
        ),
        # UNet#'s paper: RandomRotate90, Flip, OneOf(HSV, brightness, contrast), in its public code with probabilities
        # 0.5, 0.5 and 1 and within a fifth of the range of 8-bit colours. Images here have a standard deviation of 1
        # and any number of channels: decided are half a deviation for brightness, a quarter for a channel alone.
        Augmentation(name="unet_sharp", quarter_turn=0.5, one_intensity=1.0),
        # The U-Net school's paper: rotation, shift, horizontal flip, elastic on a 3 × 3 grid by 10 pixels (of 256, its
        # first input; decided: less on smaller patches). Shift and 0.2 (decided: radians) are its base code's.
        Augmentation(
            name="unet_school",
            rotation=1.0,
            rotation_degrees=11.5,
            rotation_degrees_in_plane=11.5,
            shift=0.05,
            grid_elastic=1.0,
            image_order=1,
            label_order=0,
        ),
    )
}


def augmentation_named(name: str) -> Augmentation:
    """The row called `name`; MssegError lists the known ones."""
    if name not in AUGMENTATIONS:
        raise MssegError(f"augmentation {name!r}: unknown. Known are: {', '.join(AUGMENTATIONS)}.")
    return AUGMENTATIONS[name]


def read_size(augmentation: Augmentation, patch_size: Sequence[int], dummy_2d: bool) -> tuple[int, ...]:
    """The region to read around a patch so that a turned or shrunk patch is filled with image, not padding.

    At least the patch; each axis covers the patch turned in each plane by up to the largest angle, times the
    largest scale, and then shifted. Elastic shifts of a few voxels are left to the padding. Dummy-2D leaves the first
    axis alone.
    """
    size = list(_unshifted_size(augmentation, patch_size, dummy_2d))
    for axis in range(int(dummy_2d), len(patch_size)):
        size[axis] += 2 * round(augmentation.shift * patch_size[axis])
    return tuple(size)


def _unshifted_size(augmentation: Augmentation, patch_size: Sequence[int], dummy_2d: bool) -> tuple[int, ...]:
    free = range(1, len(patch_size)) if dummy_2d else range(len(patch_size))
    degrees = _rotation_degrees(augmentation, patch_size, dummy_2d) if augmentation.rotation else 0.0
    scale = max(augmentation.scaling_range[1], 1.0) if augmentation.scaling else 1.0
    size = list(patch_size)
    for axis in free:
        others = [patch_size[other] for other in free if other != axis]
        extent = max((_turned_extent(patch_size[axis], other, degrees) for other in others), default=patch_size[axis])
        size[axis] = max(patch_size[axis], math.ceil(extent * scale))
    if augmentation.quarter_turn:
        size[-2:] = [max(size[-2:])] * 2
    return tuple(size)


def _turned_extent(length: float, other: float, degrees: float) -> float:
    angle = min(math.radians(degrees), math.atan2(other, length))
    return length * math.cos(angle) + other * math.sin(angle)


def _rotation_degrees(augmentation: Augmentation, patch_size: Sequence[int], dummy_2d: bool) -> float:
    if len(patch_size) == 3 and not dummy_2d:
        return augmentation.rotation_degrees
    plane = patch_size[-2:]
    elongated = len(patch_size) == 2 and max(plane) > _ELONGATED * min(plane)
    largest = augmentation.rotation_degrees_in_plane
    return min(largest, _ELONGATED_DEGREES) if elongated else largest


def build_transforms(
    augmentation: Augmentation, patch_size: Sequence[int], dummy_2d: bool, mirror_axes: Sequence[int]
) -> AbstractTransform:
    """The transform of a batch read at `read_size` to one of `patch_size`, in nnU-Net's order.

    Call it with `data` (b, c, *read_size) and `seg` (b, 1, *read_size) as float32; it draws from numpy's and
    Python's global generators, as all of batchgenerators does, and may write into its arguments.
    """
    steps: list[AbstractTransform] = []
    if dummy_2d:
        steps.append(FoldDepth())
    if augmentation.shift:
        steps.append(RandomWindow(_unshifted_size(augmentation, patch_size, dummy_2d)[int(dummy_2d) :]))
    steps += _own_spatial(augmentation)
    steps.append(_spatial(augmentation, patch_size, dummy_2d))
    if dummy_2d:
        steps.append(UnfoldDepth(patch_size[0]))
    steps += _intensity(augmentation, dummy_2d)
    if augmentation.mirror and mirror_axes:
        steps.append(MirrorTransform(axes=tuple(mirror_axes)))
    return Compose(steps)


def _spatial(augmentation: Augmentation, patch_size: Sequence[int], dummy_2d: bool) -> AbstractTransform:
    radians = math.radians(_rotation_degrees(augmentation, patch_size, dummy_2d))
    angle = (-radians, radians)
    return SpatialTransform(
        tuple(patch_size[1:]) if dummy_2d else tuple(patch_size),
        do_elastic_deform=augmentation.elastic > 0,
        alpha=augmentation.elastic_alpha,
        sigma=augmentation.elastic_sigma,
        p_el_per_sample=augmentation.elastic,
        do_rotation=augmentation.rotation > 0,
        angle_x=angle,
        angle_y=angle,
        angle_z=angle,
        p_rot_per_sample=augmentation.rotation,
        do_scale=augmentation.scaling > 0,
        scale=augmentation.scaling_range,
        p_scale_per_sample=augmentation.scaling,
        border_mode_data="constant",
        border_cval_data=PADDING_IMAGE,
        order_data=augmentation.image_order,
        border_mode_seg="constant",
        border_cval_seg=PADDING_LABEL,
        order_seg=augmentation.label_order,
        random_crop=False,
    )


def _own_spatial(row: Augmentation) -> list[AbstractTransform]:
    """The spatial transforms of ours whose probability is not 0, on the region that was read."""
    candidates = (
        (row.quarter_turn, QuarterTurn(row.quarter_turn)),
        (
            row.grid_elastic,
            GridElastic(
                _GRID_POINTS, row.grid_share, row.grid_largest, row.image_order, row.label_order, row.grid_elastic
            ),
        ),
    )
    return [transform for probability, transform in candidates if probability > 0]


def _intensity(augmentation: Augmentation, dummy_2d: bool) -> list[AbstractTransform]:
    """The intensity transforms whose probability is not 0."""
    row = augmentation
    candidates = (
        (row.noise, GaussianNoiseTransform(row.noise_deviation, p_per_sample=row.noise)),
        (row.blur, GaussianBlurTransform(row.blur_sigma, p_per_sample=row.blur, p_per_channel=0.5)),
        (row.brightness, BrightnessMultiplicativeTransform(row.brightness_range, p_per_sample=row.brightness)),
        (row.contrast, ContrastAugmentationTransform(row.contrast_range, p_per_sample=row.contrast)),
        (
            row.low_resolution,
            SimulateLowResolutionTransform(
                zoom_range=row.low_resolution_range,
                per_channel=True,
                p_per_channel=0.5,
                order_downsample=0,
                order_upsample=row.image_order,
                p_per_sample=row.low_resolution,
                ignore_axes=(0,) if dummy_2d else None,
            ),
        ),
        (row.inverted_gamma, _gamma(row, inverted=True, probability=row.inverted_gamma)),
        (row.gamma, _gamma(row, inverted=False, probability=row.gamma)),
        (row.one_intensity, _one_intensity(row)),
    )
    return [transform for probability, transform in candidates if probability > 0]


def _one_intensity(row: Augmentation) -> AbstractTransform:
    each = row.one_intensity
    choices = [
        BrightnessTransform(0, row.colour_deviation, per_channel=True, p_per_sample=each),
        BrightnessTransform(0, row.brightness_deviation, per_channel=False, p_per_sample=each),
        ContrastAugmentationTransform(row.one_contrast_range, per_channel=False, p_per_sample=each),
    ]
    return OneOfTransformPerSample(choices, ["data"])


def _gamma(row: Augmentation, inverted: bool, probability: float) -> AbstractTransform:
    return GammaTransform(
        row.gamma_range, invert_image=inverted, per_channel=True, retain_stats=True, p_per_sample=probability
    )
