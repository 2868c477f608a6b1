"""Label maps on another grid: every new voxel is decided by the vote of the old voxels around it.

Interpolating the indicator of each of K labels costs K passes over the volume. A new voxel has at most 2^d neighbours,
though, and where they agree, which is nearly everywhere, there is nothing to decide: the cost does not depend on K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

_SLAB_VOXELS = 1 << 22  # new voxels decided at a time: bounds the memory of the votes
_TIE = 1e-5  # votes closer than this are a tie: above float32's rounding of a product of three weights


@dataclass(frozen=True)
class AxisTaps:
    """Per new voxel along one axis: two old voxels, the weight of the upper one in [0, 1], and the nearest."""

    lower: np.ndarray
    upper: np.ndarray
    fraction: np.ndarray
    nearest: np.ndarray

    def part(self, rows: slice) -> AxisTaps:
        """The taps of the new voxels `rows`."""
        return AxisTaps(self.lower[rows], self.upper[rows], self.fraction[rows], self.nearest[rows])


def vote(label: np.ndarray, taps: Sequence[AxisTaps]) -> np.ndarray:
    """The label map on the grid of `taps` (one an axis), same dtype: the label with the most weight.

    The nearest voxel's label wins where it shares the most weight; among others the smallest does.
    """
    shape = tuple(len(axis.nearest) for axis in taps)
    resampled = np.empty(shape, label.dtype)
    slab = max(1, _SLAB_VOXELS // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], slab):
        rows = slice(start, start + slab)
        resampled[rows] = _vote_slab(label, [taps[0].part(rows), *taps[1:]])
    return resampled


def _vote_slab(label: np.ndarray, taps: list[AxisTaps]) -> np.ndarray:
    first, last = int(taps[0].lower.min()), int(taps[0].upper.max()) + 1
    first, last = min(first, int(taps[0].nearest.min())), max(last, int(taps[0].nearest.max()) + 1)
    local = AxisTaps(taps[0].lower - first, taps[0].upper - first, taps[0].fraction, taps[0].nearest - first)
    taps = [local, *taps[1:]]
    near = label[first:last]
    resampled = near
    for axis, tap in enumerate(taps):
        resampled = np.take(resampled, tap.nearest, axis)
    contested = _contested(near, taps)
    if len(contested[0]):
        resampled[contested] = _winners(near, taps, contested, resampled[contested])
    return resampled


def _contested(label: np.ndarray, taps: list[AxisTaps]) -> tuple[np.ndarray, ...]:
    """Indices of the new voxels whose neighbours do not all agree, one array an axis."""
    differs = np.zeros((1,) * label.ndim, bool)
    for axis, tap in enumerate(taps):
        if not tap.fraction.any():
            continue
        step = _differs_from_next(label, axis)
        for other, other_tap in enumerate(taps):
            if other != axis and other_tap.fraction.any():
                step |= _next(step, other)
        differs = differs | step
    for axis, tap in enumerate(taps):
        if differs.shape[axis] > 1 or label.shape[axis] == 1:
            differs = np.take(differs, tap.lower, axis)
    shape = tuple(len(tap.nearest) for tap in taps)
    return np.nonzero(np.broadcast_to(differs, shape))


def _differs_from_next(label: np.ndarray, axis: int) -> np.ndarray:
    """True where a voxel's label is not that of the next along `axis`; False at the end."""
    differs = np.zeros(label.shape, bool)
    moved, moved_differs = np.moveaxis(label, axis, 0), np.moveaxis(differs, axis, 0)
    np.not_equal(moved[:-1], moved[1:], out=moved_differs[:-1])
    return differs


def _next(values: np.ndarray, axis: int) -> np.ndarray:
    """`values` one step on along `axis`, the last repeated."""
    following = np.arange(1, values.shape[axis] + 1)
    following[-1] -= 1
    return np.take(values, following, axis)


def _winners(
    label: np.ndarray, taps: list[AxisTaps], voxels: tuple[np.ndarray, ...], nearest: np.ndarray
) -> np.ndarray:
    """The label with the most weight at each of the contested `voxels`; `nearest` is their nearest label."""
    labels, weights = [], []
    for corner in product((False, True), repeat=label.ndim):
        if any(up and not tap.fraction.any() for up, tap in zip(corner, taps, strict=True)):
            continue
        where, weight = [], np.ones(len(nearest), np.float32)
        for up, tap, index in zip(corner, taps, voxels, strict=True):
            where.append((tap.upper if up else tap.lower)[index])
            weight = weight * (tap.fraction if up else 1 - tap.fraction)[index]
        labels.append(label[tuple(where)])
        weights.append(weight)
    return _most_voted(labels, weights, nearest)


def _most_voted(labels: list[np.ndarray], weights: list[np.ndarray], nearest: np.ndarray) -> np.ndarray:
    votes = [weight.copy() for weight in weights]
    for one, other in combinations(range(len(labels)), 2):
        same = labels[one] == labels[other]
        votes[one] += weights[other] * same
        votes[other] += weights[one] * same
    winner, most = labels[0].copy(), votes[0].copy()
    for candidate, weight in zip(labels[1:], votes[1:], strict=True):
        better = (weight > most + _TIE) | ((weight > most - _TIE) & (candidate < winner))
        np.copyto(winner, candidate, where=better)
        np.copyto(most, weight, where=better)
    for_nearest = sum(weight * (one == nearest) for one, weight in zip(labels, weights, strict=True))
    return np.where(for_nearest > most - _TIE, nearest, winner)
