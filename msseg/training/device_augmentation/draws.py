"""What augmentation does to a batch, drawn before it is done: arrays of parameters from one numpy generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from msseg.training.augmentation import (
    GRID_POINTS,
    Augmentation,
    Range,
    colour_matrix,
    read_size,
    rotation_degrees,
    unshifted_size,
)

# The spline of an image forgets its border by 0.27 a voxel.
_SPLINE_MARGIN = 6
# Regions in steps of so many voxels, so that few sizes occur and their matrices are kept.
_SIZE_STEP = 8


@dataclass(frozen=True)
class Draws:
    """The parameters of one batch, samples first; a value that changes nothing stands where a transform is left out.

    `read_size` is what to read around each patch. Per sample and axis of the patch that moves (all, or the last two
    with dummy-2D): `window` (b, d) the lower corner of what is in view, `quarter_turns` (b,) 0 to 3, `grid` (b, d, 3,
    …) displacements of the coarse points in voxels, `elastic` (b, 2) alpha and sigma, `matrices` (b, d, d) from places
    in the patch to places in what was read, both from their centres. Per sample and channel (b, c): `noise` and `blur`
    standard deviations (0), `brightness`, `contrast`, `low_resolution`, `inverted_gamma` and `gamma` factors and
    exponents (1), then `added` (0) and `last_contrast` (1). `mirrored` (b, axes of the patch) booleans. `seed` is for
    the generator of what is drawn per voxel: noise and elastic fields. `inverted` (b,) booleans; `colours` (b, 3, 4)
    the matrix by which red, green and blue are mixed and what is then added to them.
    """

    read_size: tuple[int, ...]
    window: np.ndarray
    quarter_turns: np.ndarray
    grid: np.ndarray
    elastic: np.ndarray
    matrices: np.ndarray
    noise: np.ndarray
    blur: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    low_resolution: np.ndarray
    inverted_gamma: np.ndarray
    gamma: np.ndarray
    added: np.ndarray
    last_contrast: np.ndarray
    mirrored: np.ndarray
    seed: int
    inverted: np.ndarray
    colours: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}

    def of(self, samples: range) -> Draws:
        """Those of some samples, one after another."""
        part = slice(samples.start, samples.stop)
        cut: dict[str, Any] = {name: array[part] for name, array in self.arrays().items()}
        return replace(self, **cut)

    @property
    def moved(self) -> np.ndarray:
        """Which samples (b,) are interpolated: the others are only cut out."""
        turned = (self.matrices != np.eye(self.matrices.shape[1])).any(axis=(1, 2))
        return turned | (self.elastic[:, 0] > 0)


def draw(
    row: Augmentation,
    generator: np.random.Generator,
    samples: int,
    channels: int,
    patch_size: Sequence[int],
    dummy_2d: bool,
    mirror_axes: Sequence[int],
) -> Draws:
    """The parameters of a batch: with the row's probabilities and ranges, independent for each sample."""
    matrices = _matrices(row, generator, samples, patch_size, dummy_2d)
    each = samples, channels
    added, last_contrast = _one_intensity(row, generator, *each)
    (colour_generator,) = generator.spawn(1)  # so that rows without colours draw what they always drew
    return Draws(
        read_size=_needed_size(row, matrices, patch_size, dummy_2d),
        window=_window(row, generator, samples, patch_size, dummy_2d),
        quarter_turns=np.where(_chance(generator, row.quarter_turn, samples), generator.integers(4, size=samples), 0),
        grid=_grid(row, generator, samples, patch_size, dummy_2d),
        elastic=_elastic(row, generator, samples),
        matrices=matrices,
        noise=_noise(row, generator, *each),
        blur=_half_of_channels(row.blur, row.blur_sigma, generator, *each, nothing=0.0),
        brightness=_where(
            _per_sample(generator, row.brightness, *each), _uniform(generator, row.brightness_range, each)
        ),
        contrast=_where(_per_sample(generator, row.contrast, *each), _both_sides(generator, row.contrast_range, each)),
        low_resolution=_half_of_channels(row.low_resolution, row.low_resolution_range, generator, *each, nothing=1.0),
        inverted_gamma=_where(
            _per_sample(generator, row.inverted_gamma, *each), _both_sides(generator, row.gamma_range, each)
        ),
        gamma=_where(_per_sample(generator, row.gamma, *each), _both_sides(generator, row.gamma_range, each)),
        added=added,
        last_contrast=last_contrast,
        mirrored=_mirrored(row, generator, samples, len(patch_size), mirror_axes),
        seed=int(generator.integers(2**62)),
        inverted=_chance(colour_generator, row.inversion, samples),
        colours=_colours(row, colour_generator, samples),
    )


def _chance(generator: np.random.Generator, probability: float, shape: int | tuple[int, ...]) -> np.ndarray:
    return generator.random(shape) < probability


def _per_sample(generator: np.random.Generator, probability: float, samples: int, channels: int) -> np.ndarray:
    """The channels (b, c) of the samples that are hit, all or none of each."""
    return np.repeat(_chance(generator, probability, (samples, 1)), channels, axis=1)


def _where(hit: np.ndarray, values: np.ndarray, nothing: float = 1.0) -> np.ndarray:
    return np.where(hit, values, nothing)


def _uniform(generator: np.random.Generator, values: Range, shape: tuple[int, ...]) -> np.ndarray:
    return generator.uniform(*values, size=shape)


def _both_sides(generator: np.random.Generator, values: Range, shape: tuple[int, ...]) -> np.ndarray:
    """Factors, as often below 1 as above it where the range has both."""
    low, high = values
    below = generator.uniform(low, max(low, 1.0), size=shape)
    above = generator.uniform(max(low, 1.0), high, size=shape)
    return np.where(_chance(generator, 0.5 if low < 1 else 0.0, shape), below, above)


def _half_of_channels(
    probability: float, values: Range, generator: np.random.Generator, samples: int, channels: int, nothing: float
) -> np.ndarray:
    """Values for each channel with probability one half, in the samples that are hit."""
    hit = _per_sample(generator, probability, samples, channels) & _chance(generator, 0.5, (samples, channels))
    return _where(hit, _uniform(generator, values, (samples, channels)), nothing)


def _noise(row: Augmentation, generator: np.random.Generator, samples: int, channels: int) -> np.ndarray:
    deviation = np.repeat(_uniform(generator, row.noise_deviation, (samples, 1)), channels, axis=1)
    return _where(_per_sample(generator, row.noise, samples, channels), deviation, 0.0)


def _one_intensity(
    row: Augmentation, generator: np.random.Generator, samples: int, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """What is added to each channel, and the factor of its contrast: one of three for each sample."""
    choice = np.repeat(generator.integers(3, size=(samples, 1)), channels, axis=1)
    hit = _per_sample(generator, row.one_intensity, samples, channels)
    colour = generator.normal(0.0, row.colour_deviation, (samples, channels))
    brightness = np.repeat(generator.normal(0.0, row.brightness_deviation, (samples, 1)), channels, axis=1)
    factor = np.repeat(_both_sides(generator, row.one_contrast_range, (samples, 1)), channels, axis=1)
    added = np.select([hit & (choice == 0), hit & (choice == 1)], [colour, brightness], 0.0)
    return added, _where(hit & (choice == 2), factor)


def _colours(row: Augmentation, generator: np.random.Generator, samples: int) -> np.ndarray:
    hue = _where(_chance(generator, row.hue, samples), generator.uniform(-1, 1, samples) * row.hue_degrees, 0.0)
    saturation = _where(
        _chance(generator, row.saturation, samples), _both_sides(generator, row.saturation_range, (samples,))
    )
    stained = _chance(generator, row.stain, (samples, 1, 1))
    mixed = np.eye(3) + _where(stained, generator.normal(0.0, row.stain_deviation, (samples, 3, 3)), 0.0)
    added = _where(stained, generator.normal(0.0, row.stain_shift, (samples, 3, 1)), 0.0)
    matrices = np.stack([colour_matrix(*values) for values in zip(hue, saturation, mixed, strict=True)])
    return np.concatenate([matrices, added], axis=2)


def _mirrored(
    row: Augmentation, generator: np.random.Generator, samples: int, dimensions: int, axes: Sequence[int]
) -> np.ndarray:
    allowed = np.isin(np.arange(dimensions), axes) & row.mirror
    return _chance(generator, 0.5, (samples, dimensions)) & allowed


def _moving(size: Sequence[int], dummy_2d: bool) -> tuple[int, ...]:
    return tuple(size[int(dummy_2d) :])


def _window(
    row: Augmentation, generator: np.random.Generator, samples: int, patch_size: Sequence[int], dummy_2d: bool
) -> np.ndarray:
    whole = np.array(_moving(read_size(row, patch_size, dummy_2d), dummy_2d))
    view = np.array(_moving(unshifted_size(row, patch_size, dummy_2d), dummy_2d))
    return generator.integers(whole - view + 1, size=(samples, len(view)))


def _grid(
    row: Augmentation, generator: np.random.Generator, samples: int, patch_size: Sequence[int], dummy_2d: bool
) -> np.ndarray:
    view = np.array(_moving(unshifted_size(row, patch_size, dummy_2d), dummy_2d))
    axes = len(view)
    deviation = np.minimum(row.grid_largest, row.grid_share * view).reshape(1, axes, *(1,) * axes)
    points = generator.normal(size=(samples, axes, *(GRID_POINTS,) * axes)) * deviation
    return points * _chance(generator, row.grid_elastic, samples).reshape(samples, 1, *(1,) * axes)


def _elastic(row: Augmentation, generator: np.random.Generator, samples: int) -> np.ndarray:
    alpha, sigma = (_uniform(generator, values, (samples,)) for values in (row.elastic_alpha, row.elastic_sigma))
    return np.stack([_where(_chance(generator, row.elastic, samples), alpha, 0.0), sigma], axis=1)


def _matrices(
    row: Augmentation, generator: np.random.Generator, samples: int, patch_size: Sequence[int], dummy_2d: bool
) -> np.ndarray:
    axes = len(_moving(patch_size, dummy_2d))
    largest = math.radians(rotation_degrees(row, patch_size, dummy_2d))
    turned = _chance(generator, row.rotation, samples)
    angles = generator.uniform(-largest, largest, size=(samples, 3 if axes == 3 else 1)) * turned[:, None]
    scales = _where(_chance(generator, row.scaling, samples), _both_sides(generator, row.scaling_range, (samples,)))
    return np.stack([rotation(angle) * scale for angle, scale in zip(angles, scales, strict=True)])


def rotation(angles: Sequence[float] | np.ndarray) -> np.ndarray:
    """The matrix that batchgenerators turns places by: one angle turns the plane, three one axis after another."""
    cos, sin = np.cos(angles), np.sin(angles)
    if len(angles) == 1:
        return np.array([[cos[0], sin[0]], [-sin[0], cos[0]]])
    x = np.array([[1, 0, 0], [0, cos[0], -sin[0]], [0, sin[0], cos[0]]])
    y = np.array([[cos[1], 0, sin[1]], [0, 1, 0], [-sin[1], 0, cos[1]]])
    z = np.array([[cos[2], -sin[2], 0], [sin[2], cos[2], 0], [0, 0, 1]])
    return (x @ y @ z).T


def _needed_size(row: Augmentation, matrices: np.ndarray, patch_size: Sequence[int], dummy_2d: bool) -> tuple[int, ...]:
    """The region that this batch needs, at most the row's `read_size`.

    Where nothing but turns and scales moves the samples, it is what the turned and scaled patches cover; reading less
    is what makes large patches cheap.
    """
    largest = read_size(row, patch_size, dummy_2d)
    if row.shift or row.quarter_turn or row.grid_elastic or row.elastic:
        return largest
    margin = _SPLINE_MARGIN if row.image_order > 1 else 0
    patch = np.array(_moving(patch_size, dummy_2d))
    still = (matrices == np.eye(len(patch))).all(axis=(1, 2))
    covered = np.abs(matrices) @ (patch - 1) + 1 + 2 * margin
    needed = np.where(still[:, None], patch, covered).max(axis=0)
    grown = patch + _SIZE_STEP * np.ceil(np.maximum(needed - patch, 0) / _SIZE_STEP).astype(int)
    sizes = (*patch_size[: int(dummy_2d)], *grown.tolist())
    return tuple(min(size, most) for size, most in zip(sizes, largest, strict=True))
