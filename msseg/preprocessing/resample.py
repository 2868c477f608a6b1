"""Images on another grid: separable spline resampling, as one weight matrix an axis.

The grid convention is scikit-image's `resize(mode="edge", anti_aliasing=False)`: voxels are cells, the outer faces of
the two grids coincide, and values beyond the edge repeat the edge. Axis-aligned spline interpolation is linear and
separable, so an axis of `n_in` voxels becomes one of `n_out` by a product with the (n_out, n_in) responses to unit
impulses; see docs/preprocessing.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from msseg.preprocessing.label_vote import AxisTaps, vote
from msseg.preprocessing.slabwise import AxisSpline, resample_slices, resample_volume

ANISOTROPY_LIMIT = 3.0
"""Beyond this ratio of coarsest to finest spacing the coarse axis is resampled apart (nnU-Net's threshold)."""

_CUBIC_REACH = 14  # the cubic's weights fall by 0.27 a voxel: beyond this reach all together are below 1e-7
_BLOCK_ROWS = 32  # 16 to 64 take the same time on axes of 512; the slices that wait for a block are the fewer


def resampled_shape(
    shape: Sequence[int], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]
) -> tuple[int, ...]:
    """Voxels per axis after resampling: round(n * old / new), at least 1.

    A `new_spacing_mm` with fewer entries than axes (a 2D configuration) leaves the leading axes as they are.
    """
    target = full_spacing(spacing_mm, new_spacing_mm)
    return tuple(max(1, round(old / new * n)) for n, old, new in zip(shape, spacing_mm, target, strict=True))


def full_spacing(spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> tuple[float, ...]:
    """`new_spacing_mm`, led by the old spacing of the axes that a 2D configuration does not resample."""
    kept = len(spacing_mm) - len(new_spacing_mm)
    return (*map(float, spacing_mm[:kept]), *map(float, new_spacing_mm))


def separate_axis(spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> int | None:
    """The axis to resample apart by nearest neighbour, or None.

    It is the coarsest axis of the present grid, where that is anisotropic, or else of the new grid. Two equally
    coarse axes are not taken apart.
    """
    for spacing in (spacing_mm, full_spacing(spacing_mm, new_spacing_mm)):
        if max(spacing) / min(spacing) > ANISOTROPY_LIMIT:
            coarsest = [axis for axis, mm in enumerate(spacing) if mm == max(spacing)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def sample_positions(n_in: int, n_out: int) -> np.ndarray:
    """The centres of the `n_out` new voxels in voxel coordinates of the old axis, float64."""
    return (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5


def nearest_indices(n_in: int, n_out: int) -> np.ndarray:
    """The old voxel whose cell holds the centre of each of the `n_out` new ones; a centre on a face goes up."""
    return np.clip(np.floor(sample_positions(n_in, n_out) + 0.5), 0, n_in - 1).astype(np.intp)


@lru_cache(maxsize=64)
def axis_weights(n_in: int, n_out: int, order: int) -> np.ndarray:
    """The (n_out, n_in) float32 matrix that resamples one axis by a spline of `order` 0, 1 or 3. Read-only.

    Each row sums to 1.
    """
    try:
        weights = _WEIGHTS[order](n_in, n_out)
    except KeyError:
        raise ValueError(f"spline order {order}; known are {sorted(_WEIGHTS)}") from None
    weights = weights.astype(np.float32)
    weights.setflags(write=False)
    return weights


def _nearest_weights(n_in: int, n_out: int) -> np.ndarray:
    return np.eye(n_in)[nearest_indices(n_in, n_out)]


def _linear_weights(n_in: int, n_out: int) -> np.ndarray:
    lower, fraction = _linear_taps(n_in, n_out)
    weights = np.zeros((n_out, n_in))
    rows = np.arange(n_out)
    weights[rows, lower] = 1 - fraction
    weights[rows, np.minimum(lower + 1, n_in - 1)] += fraction
    return weights


def _linear_taps(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    position = np.clip(sample_positions(n_in, n_out), 0, n_in - 1)
    lower = np.floor(position).astype(np.intp)
    return lower, position - lower


def _cubic_weights(n_in: int, n_out: int) -> np.ndarray:
    """The cardinal cubic spline at the new positions; what falls beyond an edge counts for the edge voxel.

    Coefficients of the spline through a unit impulse are sqrt(3) z^|k|, z = sqrt(3) - 2 (Unser 1999, "Splines: a
    perfect fit for signal and image processing", IEEE Signal Processing Magazine 16(6)); four taps read it.
    """
    knots = np.arange(-_CUBIC_REACH, n_in + _CUBIC_REACH)
    coefficients = np.sqrt(3) * (np.sqrt(3) - 2) ** np.abs(knots[:, None] - knots)
    position = sample_positions(n_in, n_out) + _CUBIC_REACH
    lower = np.floor(position).astype(np.intp)
    t = (position - lower)[:, None]
    taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3)
    cardinal = np.zeros((n_out, len(knots)))
    for shift, tap in enumerate(taps, start=-1):
        cardinal += tap / 6 * coefficients[lower + shift]
    weights = cardinal[:, _CUBIC_REACH:-_CUBIC_REACH].copy()
    weights[:, 0] += cardinal[:, :_CUBIC_REACH].sum(axis=1)
    weights[:, -1] += cardinal[:, -_CUBIC_REACH:].sum(axis=1)
    from_lower = np.arange(n_in) - (lower - _CUBIC_REACH)[:, None]
    weights[(from_lower < -_CUBIC_REACH) | (from_lower > _CUBIC_REACH + 1)] = 0  # so that what is far never counts
    return weights


_WEIGHTS = {0: _nearest_weights, 1: _linear_weights, 3: _cubic_weights}


def resample_image(
    image_czyx: np.ndarray, new_shape: Sequence[int], order: int, separate: int | None = None
) -> np.ndarray:
    """The image (c, *new_shape) float32 on a new grid of the same extent; the very input where nothing changes.

    Along the axis `separate`, if given, the nearest voxel is taken. Values are clipped to the range that each
    channel (each slice across the separate axis) had, because a cubic spline overshoots at edges. A constant
    background (see `slabwise`) stays that constant to the bit wherever nothing else is within 16 voxels.
    """
    new_shape = tuple(new_shape)
    if image_czyx.shape[1:] == new_shape:
        return image_czyx
    resampled = np.empty((len(image_czyx), *new_shape), np.float32)
    for new, old in zip(resampled, image_czyx, strict=True):
        _resample_channel(np.asarray(old, np.float32), new, order, separate)
    return resampled


def _resample_channel(volume: np.ndarray, resampled: np.ndarray, order: int, separate: int | None) -> None:
    splines = [_axis_spline(old, new, order) for old, new in zip(volume.shape, resampled.shape, strict=True)]
    if separate is None:
        resample_volume(volume, resampled, splines)
        return
    picked = nearest_indices(volume.shape[separate], resampled.shape[separate])
    del splines[separate]
    resample_slices(np.moveaxis(volume, separate, 0), np.moveaxis(resampled, separate, 0), splines, picked)


def _axis_spline(n_in: int, n_out: int, order: int) -> AxisSpline | None:
    """What resamples an axis, None where nothing does."""
    if n_in == n_out:
        return None
    return AxisSpline(axis_weights(n_in, n_out, order), tuple(row_blocks(n_in, n_out)))


def row_blocks(n_in: int, n_out: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of rows of `axis_weights(n_in, n_out, order)`, each with the columns that weigh 1e-7 or more."""
    positions = sample_positions(n_in, n_out)
    for start in range(0, n_out, _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, n_out)
        first = max(0, int(positions[start]) - _CUBIC_REACH)
        last = min(n_in, int(positions[stop - 1]) + _CUBIC_REACH + 2)
        yield slice(start, stop), slice(first, last)


def resample_label(label: np.ndarray, new_shape: Sequence[int], order: int, separate: int | None = None) -> np.ndarray:
    """The label map on a new grid of the same extent, same dtype; the very input where nothing changes.

    Order 0 takes the nearest voxel. Order 1 takes the label whose indicator interpolates to the most, the nearest
    voxel's where it ties for that; no value appears that the neighbours do not have. Along `separate` it is nearest.
    """
    new_shape = tuple(new_shape)
    if label.shape == new_shape:
        return label
    if order not in (0, 1):
        raise ValueError(f"label order {order}; known are [0, 1]")
    taps = [
        _axis_taps(old, new, linear=order == 1 and axis != separate)
        for axis, (old, new) in enumerate(zip(label.shape, new_shape, strict=True))
    ]
    return vote(label, taps)


def _axis_taps(n_in: int, n_out: int, linear: bool) -> AxisTaps:
    nearest = nearest_indices(n_in, n_out)
    if not linear or n_in in (1, n_out):
        return AxisTaps(nearest, None, nearest)
    position = np.clip(sample_positions(n_in, n_out), 0, n_in - 1)
    lower = np.minimum(np.floor(position).astype(np.intp), n_in - 2)  # the next voxel is there, at the edge too
    return AxisTaps(lower, (position - lower).astype(np.float32), nearest)
