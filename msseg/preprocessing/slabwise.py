"""One channel on another grid, slab by slab along its first axis.

Beside input and output there are never more than a few slabs. Their extent follows from the shapes alone, unless
a limit of memory asks for thinner ones: results then differ by rounding alone. Values are resampled as differences to
the background: what is 0 stays 0 to the bit under any weights, so that a constant background comes out as exactly that
constant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

CHUNK_VOXELS = 1 << 20  # 4 MB of slices resampled at a time: what one axis leaves is in the cache for the next
LEAST_CHUNK_VOXELS = 1 << 16
_chunk_voxels: ContextVar[int] = ContextVar("chunk voxels", default=CHUNK_VOXELS)


@contextlib.contextmanager
def chunks_of(voxels: int) -> Iterator[None]:
    """Within it, and in this process alone, so many voxels are resampled at a time, but never less than a slice."""
    token = _chunk_voxels.set(voxels)
    try:
        yield
    finally:
        _chunk_voxels.reset(token)


@dataclass(frozen=True)
class AxisSpline:
    """The banded (n_out, n_in) float32 weights of an axis, and its blocks: rows with the columns that they reach."""

    weights: np.ndarray
    blocks: tuple[tuple[slice, slice], ...]

    @property
    def growth(self) -> float:
        """New voxels for an old one."""
        return self.weights.shape[0] / self.weights.shape[1]


Splines = Sequence[AxisSpline | None]
"""One an axis; None where the axis stays as it is."""


@dataclass(frozen=True)
class _Values:
    """The values of a volume that resampling has to keep: its range, and its background."""

    lowest: float
    highest: float
    background: float


def resample_volume(volume: np.ndarray, resampled: np.ndarray, splines: Splines) -> None:
    """Fills `resampled` (C order) with `volume` (z, y, x) on the new grid, both float32, clipped to its range.

    The first axis is resampled before the others where it shrinks, else after them: either way on the fewer slices.
    """
    values = _values_of(volume)
    first, plane = splines[0], splines[1:]
    if first is None:
        _slices_alone(volume, resampled, plane, values)
    elif first.growth < 1:
        _first_axis_first(volume, resampled, first, plane, values)
    else:
        _first_axis_last(volume, resampled, first, plane, values)


def resample_slices(volume: np.ndarray, resampled: np.ndarray, splines: Splines, picked: np.ndarray) -> None:
    """Fills slice i of `resampled` with slice `picked[i]` of `volume`, resampled and clipped to its own range.

    `splines` are of the other two axes; `picked` ascends.
    """
    background = _values_of(volume).background
    sources, source_of = np.unique(picked, return_inverse=True)
    for chunk in _chunks(len(sources), volume[0].size):
        chosen = volume[sources[chunk]]
        lowest, highest = chosen.min((1, 2), keepdims=True), chosen.max((1, 2), keepdims=True)
        part = _within_slices(_differences(chosen, background), splines)
        part += background
        np.clip(part, lowest, highest, out=part)
        rows = slice(*np.searchsorted(source_of, (chunk.start, chunk.stop)))
        resampled[rows] = part[source_of[rows] - chunk.start]


def apply_spline(volume: np.ndarray, spline: AxisSpline, axis: int) -> np.ndarray:
    """`volume` float32 in C order with its `axis` resampled; rows of a block meet only the columns they reach."""
    n_out, n_in = spline.weights.shape
    before, after = volume.shape[:axis], volume.shape[axis + 1 :]
    flat = volume.reshape(int(np.prod(before)), n_in, int(np.prod(after)))
    product = np.empty((flat.shape[0], n_out, flat.shape[2]), np.float32)
    for rows, columns in spline.blocks:
        if flat.shape[2] == 1:
            np.matmul(flat[:, columns, 0], spline.weights[rows, columns].T, out=product[:, rows, 0])
        else:
            np.matmul(spline.weights[rows, columns], flat[:, columns], out=product[:, rows])
    return product.reshape(*before, n_out, *after)


def _values_of(volume: np.ndarray) -> _Values:
    """Background is 0 or the lowest value, whichever is there more often: padding, or the air of a clipped CT."""
    lowest, highest = float(volume.min()), float(volume.max())
    background = lowest
    if lowest < 0 <= highest:
        zeros = sum(part.size - np.count_nonzero(part) for part in volume)
        background = 0.0 if zeros > sum(np.count_nonzero(part == lowest) for part in volume) else lowest
    return _Values(lowest, highest, background)


def _slices_alone(volume: np.ndarray, resampled: np.ndarray, plane: Splines, values: _Values) -> None:
    for chunk in _chunks(len(volume), volume[0].size):
        part = _within_slices(_differences(volume[chunk], values.background), plane)
        resampled[chunk] = _finished(part, values)


def _first_axis_first(
    volume: np.ndarray, resampled: np.ndarray, first: AxisSpline, plane: Splines, values: _Values
) -> None:
    for rows, columns in first.blocks:
        slab = _differences(volume[columns], values.background)
        fewer = first.weights[rows, columns] @ slab.reshape(len(slab), -1)
        del slab
        fewer = fewer.reshape(-1, *volume.shape[1:])
        for chunk in _chunks(len(fewer), max(volume[0].size, resampled[0].size)):
            part = _within_slices(fewer[chunk], plane)
            resampled[rows][chunk] = _finished(part, values)


def _first_axis_last(
    volume: np.ndarray, resampled: np.ndarray, first: AxisSpline, plane: Splines, values: _Values
) -> None:
    """The slices that a block reaches wait in a window, so that none is resampled twice."""
    widest = max(columns.stop - columns.start for _, columns in first.blocks)
    window = np.empty((widest, *resampled.shape[1:]), np.float32)
    start = stop = 0
    for rows, columns in first.blocks:
        window[: stop - columns.start] = window[columns.start - start : stop - start]
        for chunk in _chunks(columns.stop - stop, resampled[0].size):
            new = slice(stop + chunk.start, stop + chunk.stop)
            part = _within_slices(_differences(volume[new], values.background), plane)
            window[new.start - columns.start : new.stop - columns.start] = part
        start, stop = columns.start, columns.stop
        within_reach = window[: stop - start].reshape(stop - start, -1)
        np.matmul(first.weights[rows, columns], within_reach, out=resampled[rows].reshape(-1, within_reach.shape[1]))
        for finished in resampled[rows]:
            _finished(finished, values)


def _differences(slab: np.ndarray, background: float) -> np.ndarray:
    """`slab` less the background, float32 in C order."""
    return np.subtract(slab, np.float32(background), out=np.empty(slab.shape, np.float32))


def _within_slices(slab: np.ndarray, plane: Splines) -> np.ndarray:
    """`slab` with its axes after the first resampled, the one that grows least before the other."""
    changing = [(spline.growth, axis, spline) for axis, spline in enumerate(plane, start=1) if spline is not None]
    for _, axis, spline in sorted(changing, key=lambda one: one[0]):
        slab = apply_spline(slab, spline, axis)
    return slab


def _finished(part: np.ndarray, values: _Values) -> np.ndarray:
    part += np.float32(values.background)
    return np.clip(part, np.float32(values.lowest), np.float32(values.highest), out=part)


def _chunks(count: int, slice_voxels: int) -> Iterator[slice]:
    thickness = max(1, _chunk_voxels.get() // max(1, slice_voxels))
    for start in range(0, count, thickness):
        yield slice(start, min(start + thickness, count))
