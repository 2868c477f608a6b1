"""Voxel overlap of a segmentation with its reference: one confusion pass, then ratios of counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# A block of 4 Mi voxels keeps the temporaries of the confusion pass near 100 MB whatever the image's size.
_BLOCK_VOXELS = 1 << 22


@dataclass(frozen=True)
class OverlapCounts:
    """Voxels of one label by agreement of prediction and reference."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def predicted(self) -> int:
        """Voxels of the label in the prediction."""
        return self.true_positive + self.false_positive

    @property
    def expected(self) -> int:
        """Voxels of the label in the reference."""
        return self.true_positive + self.false_negative

    @property
    def both_empty(self) -> bool:
        """True where neither side holds the label: nothing to measure."""
        return self.predicted == 0 and self.expected == 0

    @property
    def one_empty(self) -> bool:
        """True where exactly one side holds the label: missed, or invented."""
        return (self.predicted == 0) != (self.expected == 0)

    def __add__(self, other: OverlapCounts) -> OverlapCounts:
        return OverlapCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )


def confusion_matrix(prediction: np.ndarray, reference: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Voxel counts (k + 2, k + 2), int64: rows are the reference, columns the prediction.

    Row and column 0 are the background (value 0), 1..k the `values` in their order, k + 1 any other value.
    Both arrays have the same shape, of any dimension, and hold integers. The voxels that are background on
    both sides are only counted, so the cost follows the foreground.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, reference {reference.shape}")
    size = len(values) + 2
    total = np.zeros(size * size, dtype=np.int64)
    flat_prediction, flat_reference = prediction.reshape(-1), reference.reshape(-1)
    for start in range(0, flat_prediction.size, _BLOCK_VOXELS):
        predicted = flat_prediction[start : start + _BLOCK_VOXELS]
        expected = flat_reference[start : start + _BLOCK_VOXELS]
        foreground = np.flatnonzero((predicted != 0) | (expected != 0))
        total[0] += predicted.size - foreground.size
        rows = _positions(expected[foreground], values)
        columns = _positions(predicted[foreground], values)
        total += np.bincount(rows * size + columns, minlength=size * size)
    return total.reshape(size, size)


def _positions(voxels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Index of each voxel's value: 0 for background, 1..k in `values`, k + 1 for anything else (int64)."""
    known = np.array([0, *values], dtype=np.int64)
    order = np.argsort(known)
    found = np.searchsorted(known[order], voxels).clip(max=len(known) - 1)
    index = order[found]
    return np.where(known[index] == voxels, index, len(known))


def counts_of(confusion: np.ndarray, members: Sequence[int]) -> OverlapCounts:
    """Counts of the label, or of the region united from several, at the positions `members` (1..k)."""
    inside = list(members)
    true_positive = int(confusion[np.ix_(inside, inside)].sum())
    predicted = int(confusion[:, inside].sum())
    expected = int(confusion[inside, :].sum())
    total = int(confusion.sum())
    return OverlapCounts(
        true_positive,
        predicted - true_positive,
        expected - true_positive,
        total - predicted - expected + true_positive,
    )


def _dice(counts: OverlapCounts) -> float:
    return 2 * counts.true_positive / (counts.predicted + counts.expected)


def _jaccard(counts: OverlapCounts) -> float:
    return counts.true_positive / (counts.predicted + counts.false_negative)


def _accuracy(counts: OverlapCounts) -> float:
    voxels = counts.predicted + counts.false_negative + counts.true_negative
    return (counts.true_positive + counts.true_negative) / voxels


def _precision(counts: OverlapCounts) -> float:
    return counts.true_positive / counts.predicted if counts.predicted else 0.0


def _recall(counts: OverlapCounts) -> float:
    return counts.true_positive / counts.expected if counts.expected else 0.0


OVERLAP_METRICS: Mapping[str, Callable[[OverlapCounts], float]] = {
    "dice": _dice,
    "jaccard": _jaccard,
    "accuracy": _accuracy,
    "precision": _precision,
    "recall": _recall,
}


def overlap_metrics(counts: OverlapCounts) -> dict[str, float | None]:
    """Dice, Jaccard, accuracy, precision and recall, in 0..1.

    Neither side holds the label: all None, to be left out of means and counted. Only one side holds it: Dice,
    Jaccard, precision and recall are 0 (the 0/0 among them too), accuracy is what it is.
    """
    if counts.both_empty:
        return dict.fromkeys(OVERLAP_METRICS)
    return {name: metric(counts) for name, metric in OVERLAP_METRICS.items()}
