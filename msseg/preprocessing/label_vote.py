"""Label maps on another grid: every new voxel is decided by the vote of the old voxels around it.

Interpolating the indicator of each of K labels costs K passes over the volume. A new voxel has at most 2^d neighbours,
though, and where they agree, which is nearly everywhere, there is nothing to decide: the cost does not depend on K.
Where they do not, there are nearly always two labels, and two sums decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations, product

import numpy as np

_SLAB_VOXELS = 1 << 22  # new voxels decided at a time: bounds the memory of the votes
_VOTES_AT_A_TIME = 1 << 16  # contested voxels whose 2^d labels and weights stay in the cache
_TIE = 1e-5  # votes closer than this are a tie: above float32's rounding of a product of three weights


@dataclass(frozen=True)
class AxisTaps:
    """Per new voxel along one axis: the lower of two old voxels, the weight of the next in [0, 1], and the nearest.

    `fraction` is None where nothing lies between: `lower` is the nearest then.
    """

    lower: np.ndarray
    fraction: np.ndarray | None
    nearest: np.ndarray

    def part(self, rows: slice) -> AxisTaps:
        """The taps of the new voxels `rows`."""
        fraction = None if self.fraction is None else self.fraction[rows]
        return AxisTaps(self.lower[rows], fraction, self.nearest[rows])

    def within(self) -> tuple[slice, AxisTaps]:
        """The old voxels that the taps reach, and the taps counted from the first of them."""
        first = int(self.lower.min())
        last = int(self.lower.max()) + (1 if self.fraction is None else 2)
        return slice(first, last), replace(self, lower=self.lower - first, nearest=self.nearest - first)


def vote(label: np.ndarray, taps: Sequence[AxisTaps]) -> np.ndarray:
    """The label map on the grid of `taps` (one an axis), same dtype: the label with the most weight.

    The nearest voxel's label wins where it shares the most weight; among others the smallest does.
    """
    shape = tuple(len(axis.nearest) for axis in taps)
    resampled = np.empty(shape, label.dtype)
    slab = max(1, _SLAB_VOXELS // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], slab):
        rows = slice(start, start + slab)
        reached, first = taps[0].part(rows).within()
        _vote_slab(np.ascontiguousarray(label[reached]), [first, *taps[1:]], resampled[rows])
    return resampled


def _vote_slab(label: np.ndarray, taps: list[AxisTaps], resampled: np.ndarray) -> None:
    """Fills the slab `resampled` (C order) from the part of the label that it reaches."""
    resampled[...] = reduce(lambda values, axis: np.take(values, taps[axis].nearest, axis), range(len(taps)), label)
    if all(tap.fraction is None for tap in taps):
        return
    winners = resampled.reshape(-1)
    contested = np.flatnonzero(_contested(label, taps))
    for start in range(0, len(contested), _VOTES_AT_A_TIME):
        voxels = contested[start : start + _VOTES_AT_A_TIME]
        labels, weights = _neighbours(label, taps, np.unravel_index(voxels, resampled.shape))
        winners[voxels] = _most_voted(labels, weights, winners[voxels])


def _contested(label: np.ndarray, taps: list[AxisTaps]) -> np.ndarray:
    """True for the new voxels whose neighbours do not all agree: the least of their labels is not the largest."""
    differs = _of_neighbours(np.minimum, label, taps) != _of_neighbours(np.maximum, label, taps)
    return reduce(lambda values, axis: np.take(values, taps[axis].lower, axis), range(len(taps)), differs)


def _of_neighbours(choose: Callable[..., np.ndarray], label: np.ndarray, taps: list[AxisTaps]) -> np.ndarray:
    """The least or largest label of every voxel and those next to it along the axes that are interpolated."""
    for axis, tap in enumerate(taps):
        if tap.fraction is not None:
            count = label.shape[axis] - 1
            ahead = (slice(None),) * axis
            here, following = (*ahead, slice(0, count)), (*ahead, slice(1, count + 1))
            label = choose(label[here], label[following])
    return label


def _neighbours(
    label: np.ndarray, taps: list[AxisTaps], voxels: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The labels (2^k, n) around n new voxels and their weights, k being the axes that are interpolated."""
    corner = np.zeros(len(voxels[0]), np.intp)
    sides: list[tuple[tuple[int, np.ndarray], tuple[int, np.ndarray]]] = []
    for tap, stride_bytes, index in zip(taps, label.strides, voxels, strict=True):
        stride = stride_bytes // label.itemsize
        corner += (tap.lower * stride)[index]
        if tap.fraction is not None:
            upper = tap.fraction[index]
            sides.append(((0, 1 - upper), (stride, upper)))
    flat = label.reshape(-1)
    labels = np.empty((2 ** len(sides), len(corner)), label.dtype)
    weights = np.empty(labels.shape, np.float32)
    for number, chosen in enumerate(product(*sides)):
        labels[number] = flat[corner + sum(offset for offset, _ in chosen)]
        weights[number] = reduce(np.multiply, [weight for _, weight in chosen])
    return labels, weights


def _most_voted(labels: np.ndarray, weights: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """The winner of each column; where two labels are all there are, of those two alone."""
    lowest, highest = labels.min(axis=0), labels.max(axis=0)
    for_lowest = (weights * (labels == lowest)).sum(axis=0)
    for_highest = (weights * (labels == highest)).sum(axis=0)
    winners = np.where(for_highest > for_lowest + _TIE, highest, lowest)
    for_nearest = np.where(nearest == lowest, for_lowest, for_highest)
    np.copyto(winners, nearest, where=for_nearest > np.maximum(for_lowest, for_highest) - _TIE)
    others = np.flatnonzero(for_lowest + for_highest < 1 - _TIE)
    winners[others] = _most_voted_of_many(labels[:, others], weights[:, others], nearest[others])
    return winners


def _most_voted_of_many(labels: np.ndarray, weights: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    votes = weights.copy()
    for one, other in combinations(range(len(labels)), 2):
        same = labels[one] == labels[other]
        votes[one] += weights[other] * same
        votes[other] += weights[one] * same
    winner, most = labels[0].copy(), votes[0].copy()
    for candidate, weight in zip(labels[1:], votes[1:], strict=True):
        better = (weight > most + _TIE) | ((weight > most - _TIE) & (candidate < winner))
        np.copyto(winner, candidate, where=better)
        np.copyto(most, weight, where=better)
    for_nearest = (weights * (labels == nearest)).sum(axis=0)
    return np.where(for_nearest > most - _TIE, nearest, winner)
