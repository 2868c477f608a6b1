"""A row of augmentation as batchgenerators' transforms, which run in the workers.

Arrays are batches: image (b, c, *patch), label (b, 1, *patch); the spatial axes are the plan's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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

from msseg.training.augmentation import GRID_POINTS, Augmentation, rotation_degrees, unshifted_size
from msseg.training.sampling import PADDING_IMAGE, PADDING_LABEL
from msseg.training.transforms import (
    FoldDepth,
    GridElastic,
    Inversion,
    MixColours,
    QuarterTurn,
    RandomWindow,
    SidedMirror,
    UnfoldDepth,
)
from planning.label_pairs import Sides


def build_transforms(
    augmentation: Augmentation,
    patch_size: Sequence[int],
    dummy_2d: bool,
    mirror_axes: Sequence[int],
    colour_channels: Sequence[int] = (),
    sides: Sides | None = None,
) -> AbstractTransform:
    """The transform of a batch read at `read_size` to one of `patch_size`, in nnU-Net's order.

    `colour_channels` says where red, green and blue lie; without them no colour is changed. `sides` says what a mirror
    from side to side makes of the classes.

    Call it with `data` (b, c, *read_size) and `seg` (b, 1, *read_size) as float32; it draws from numpy's and
    Python's global generators, as all of batchgenerators does, and may write into its arguments.
    """
    steps: list[AbstractTransform] = []
    if dummy_2d:
        steps.append(FoldDepth())
    if augmentation.shift:
        steps.append(RandomWindow(unshifted_size(augmentation, patch_size, dummy_2d)[int(dummy_2d) :]))
    steps += _own_spatial(augmentation)
    steps.append(_spatial(augmentation, patch_size, dummy_2d))
    if dummy_2d:
        steps.append(UnfoldDepth(patch_size[0]))
    steps += _colours(augmentation, colour_channels)
    steps += _intensity(augmentation, dummy_2d)
    if augmentation.mirror and mirror_axes:
        mirror = MirrorTransform(axes=tuple(mirror_axes))
        steps.append(mirror if sides is None else SidedMirror(mirror, sides))
    return Compose(steps)


def _spatial(augmentation: Augmentation, patch_size: Sequence[int], dummy_2d: bool) -> AbstractTransform:
    radians = math.radians(rotation_degrees(augmentation, patch_size, dummy_2d))
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
                GRID_POINTS, row.grid_share, row.grid_largest, row.image_order, row.label_order, row.grid_elastic
            ),
        ),
    )
    return [transform for probability, transform in candidates if probability > 0]


def _colours(row: Augmentation, channels: Sequence[int]) -> list[AbstractTransform]:
    """The transforms of ours that change all channels together, as far as their probability is not 0."""
    steps: list[AbstractTransform] = [Inversion(row.inversion)] if row.inversion else []
    if channels and (row.hue or row.saturation or row.stain):
        steps.append(MixColours(row, channels))
    return steps


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
