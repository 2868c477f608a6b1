"""Augmentation: rows of probabilities and ranges, what a plan adds to them, and the region that each needs to read.

The rows are applied by batchgenerators in worker processes (`worker_augmentation`) or by torch on the device
(`device_augmentation`). Intensities are normalised, so that a noise of 0.1 is a tenth of a standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from msseg.errors import MssegError

Range = tuple[float, float]

# An elongated 2D patch turned further than this shows mostly padding.
_ELONGATED = 1.5
_ELONGATED_DEGREES = 15.0
GRID_POINTS = 3


@dataclass(frozen=True)
class Augmentation:
    """Probabilities per sample and ranges; a probability of 0 leaves the transform out.

    `rotation_degrees` holds for each axis in 3D, `rotation_degrees_in_plane` for 2D and dummy-2D patches. Blur and
    low resolution touch each channel with probability one half, as in nnU-Net. `shift` is the largest shift as a share
    of the patch's edge; `quarter_turn` turns in the plane of the last two axes; `grid_elastic` displaces 3 × 3 (× 3)
    points by `grid_share` of the edge, at most `grid_largest` voxels (standard deviations). `one_intensity` is the
    probability of exactly one of three: each channel made brighter or darker for itself, by `colour_deviation`, all
    alike, by `brightness_deviation`, or the contrast changed within `one_contrast_range`.

    The planes that show what a cascade's first network predicted are moved as the labels are, and no intensity changes.
    `plane_change` is the probability that each is grown, shrunk, opened or closed by a ball of a radius (voxels) within
    `plane_radius`, `plane_loss` that each loses one component, of those that fill less than `plane_loss_share` of the
    patch.

    `inversion` is the probability of the negative, about 0, the mean of normalised intensities. The others change red,
    green and blue alone, where an image has them, each by a matrix (3, 3) about 0: `hue` turns colours about grey by up
    to `hue_degrees`, `saturation` takes them nearer to grey or further from it by a factor, `stain` mixes the channels
    (identity plus normal numbers of `stain_deviation`) and adds to each (`stain_shift`, a standard deviation).
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
    inversion: float = 0.0
    hue: float = 0.0
    hue_degrees: float = 45.0
    saturation: float = 0.0
    saturation_range: Range = (0.5, 1.5)
    stain: float = 0.0
    stain_deviation: float = 0.1
    stain_shift: float = 0.1
    plane_change: float = 0.4
    plane_radius: tuple[int, int] = (1, 8)
    plane_loss: float = 0.2
    plane_loss_share: float = 0.15
    mirror: bool = True
    image_order: int = 3
    label_order: int = 1


# What a training adds to its row where the plan says that the images differ in this.
_OF_VARIATION: dict[str, dict[str, Any]] = {
    "colour": {"hue": 0.2, "saturation": 0.2, "stain": 0.3},
    "polarity": {"inversion": 0.3},
}

# Cheap enough for two cores shared with the network: linear images, nearest labels. Mild: in a short training stronger
# turns and scales cost more than they teach (docs/benchmarks.md).
_BUDGET = Augmentation(
    name="budget",
    rotation=0.6,
    rotation_degrees=15.0,
    rotation_degrees_in_plane=30.0,
    scaling=0.6,
    scaling_range=(0.86, 1.16),
    noise=0.15,
    blur=0.1,
    brightness=0.2,
    contrast=0.15,
    low_resolution=0.1,
    gamma=0.2,
    image_order=1,
    label_order=0,
)

AUGMENTATIONS = {
    row.name: row
    for row in (
        Augmentation(name="none", mirror=False, plane_change=0.0, plane_loss=0.0),
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
        _BUDGET,
        # The same for cells, which lie any way round and come in more sizes.
        replace(_BUDGET, name="microscopy", rotation_degrees_in_plane=180.0, scaling_range=(0.7, 1.4)),
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


def varied(augmentation: Augmentation, variations: Sequence[str]) -> Augmentation:
    """The row with what `variations` (names of `planning.plan.VARIATIONS`) ask for; its own probabilities stay."""
    added = {
        name: probability
        for variation in variations
        for name, probability in _OF_VARIATION[variation].items()
        if not getattr(augmentation, name)
    }
    return replace(augmentation, **added)


def colour_matrix(hue_degrees: float, saturation: float, stain: np.ndarray) -> np.ndarray:
    """The (3, 3) matrix that turns the hue, then scales the saturation, then mixes by `stain` (3, 3).

    Grey is the direction (1, 1, 1), the hue the angle about it: the mean of the three, and so what is grey, stays as
    it is but for `stain`.
    """
    grey = np.full((3, 3), 1 / 3)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # the cross product with the grey axis
    angle = math.radians(hue_degrees)
    turned = math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * across  # Rodrigues, of what is not grey
    return stain @ (grey + saturation * turned)


def read_size(augmentation: Augmentation, patch_size: Sequence[int], dummy_2d: bool) -> tuple[int, ...]:
    """The region to read around a patch so that a turned or shrunk patch is filled with image, not padding.

    At least the patch; each axis covers the patch turned in each plane by up to the largest angle, times the
    largest scale, and then shifted. Elastic shifts of a few voxels are left to the padding. Dummy-2D leaves the first
    axis alone.
    """
    size = list(unshifted_size(augmentation, patch_size, dummy_2d))
    for axis in range(int(dummy_2d), len(patch_size)):
        size[axis] += 2 * round(augmentation.shift * patch_size[axis])
    return tuple(size)


def unshifted_size(augmentation: Augmentation, patch_size: Sequence[int], dummy_2d: bool) -> tuple[int, ...]:
    """The window of what is read that is in view once the shift is drawn."""
    free = range(1, len(patch_size)) if dummy_2d else range(len(patch_size))
    degrees = rotation_degrees(augmentation, patch_size, dummy_2d) if augmentation.rotation else 0.0
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


def rotation_degrees(augmentation: Augmentation, patch_size: Sequence[int], dummy_2d: bool) -> float:
    """The largest angle of the row for such patches."""
    if len(patch_size) == 3 and not dummy_2d:
        return augmentation.rotation_degrees
    plane = patch_size[-2:]
    elongated = len(patch_size) == 2 and max(plane) > _ELONGATED * min(plane)
    largest = augmentation.rotation_degrees_in_plane
    return min(largest, _ELONGATED_DEGREES) if elongated else largest
