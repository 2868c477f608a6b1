"""How well the objects of a segmentation match those of its reference: detection, panoptic quality, Jaccard index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cc3d
import numpy as np

# IoU thresholds in per cent, as DSB2018 scores. Above a half no object can have two partners.
THRESHOLDS_PERCENT = tuple(range(50, 100, 5))
_TABLE_ENTRIES = 1 << 24  # of counts kept for every pair of objects, also those that do not meet


@dataclass(frozen=True)
class Overlaps:
    """Sizes of the objects of both sides in pixels, and of each pair that meets, by their places in the sizes."""

    predicted_px: np.ndarray
    expected_px: np.ndarray
    predicted: np.ndarray
    expected: np.ndarray
    shared_px: np.ndarray

    @property
    def union_px(self) -> np.ndarray:
        """The union of each pair."""
        return self.predicted_px[self.predicted] + self.expected_px[self.expected] - self.shared_px


@dataclass(frozen=True)
class ObjectCounts:
    """What the objects of one image, or of several together, add up to.

    `matched` has the pairs of an IoU above each of `THRESHOLDS_PERCENT`, `matched_iou` the sum of those pairs' IoU
    above a half. `aggregated_shared_px`, `aggregated_union_px` are the two sums of the aggregated Jaccard index.
    """

    predicted: int = 0
    expected: int = 0
    matched: tuple[int, ...] = (0,) * len(THRESHOLDS_PERCENT)
    matched_iou: float = 0.0
    aggregated_shared_px: int = 0
    aggregated_union_px: int = 0

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(
            self.predicted + other.predicted,
            self.expected + other.expected,
            tuple(one + two for one, two in zip(self.matched, other.matched, strict=True)),
            self.matched_iou + other.matched_iou,
            self.aggregated_shared_px + other.aggregated_shared_px,
            self.aggregated_union_px + other.aggregated_union_px,
        )


def object_counts(prediction: np.ndarray, reference: np.ndarray) -> ObjectCounts:
    """The counts of two maps of object numbers of one shape, of any integers and gaps; 0 is the background.

    A predicted and an expected object match at a threshold where their intersection over union exceeds it.
    """
    pairs = overlaps(prediction, reference)
    union_px = pairs.union_px
    over = [100 * pairs.shared_px > percent * union_px for percent in THRESHOLDS_PERCENT]
    iou = pairs.shared_px / np.maximum(union_px, 1)
    shared_px, all_px = _aggregated(pairs)
    return ObjectCounts(
        predicted=len(pairs.predicted_px),
        expected=len(pairs.expected_px),
        matched=tuple(int(matches.sum()) for matches in over),
        matched_iou=float(iou[over[0]].sum()),
        aggregated_shared_px=shared_px,
        aggregated_union_px=all_px,
    )


def overlaps(prediction: np.ndarray, reference: np.ndarray) -> Overlaps:
    """The overlaps of two maps of object numbers of one shape; objects stand in the order of their numbers.

    Memory follows the pixels that are an object's on either side.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, reference {reference.shape}")
    foreground = (prediction != 0) | (reference != 0)
    predicted, predictions = _places(prediction[foreground])
    expected, references = _places(reference[foreground])
    codes, shared_px = _counted(expected * (predictions + 1) + predicted, (predictions + 1) * (references + 1))
    expected_of, predicted_of = codes // (predictions + 1), codes % (predictions + 1)
    meet = (expected_of > 0) & (predicted_of > 0)
    return Overlaps(
        predicted_px=np.bincount(predicted, minlength=predictions + 1)[1:],
        expected_px=np.bincount(expected, minlength=references + 1)[1:],
        predicted=predicted_of[meet] - 1,
        expected=expected_of[meet] - 1,
        shared_px=shared_px[meet],
    )


def _places(ids: np.ndarray) -> tuple[np.ndarray, int]:
    """The place of each pixel's object, int64 from 1 on in the order of the numbers, 0 for none, and their count."""
    lowest, highest = (int(ids.min()), int(ids.max())) if ids.size else (0, 0)
    if lowest < 0 or highest > _TABLE_ENTRIES:
        numbers, inverse = np.unique(ids, return_inverse=True)
        table = np.where(numbers == 0, 0, np.cumsum(numbers != 0))
        return table[inverse.reshape(-1)], int(table.max(initial=0))
    table = np.zeros(highest + 1, np.int64)
    table[ids] = 1
    table[0] = 0
    return np.where(table > 0, np.cumsum(table), 0)[ids], int(table.sum())


def _counted(codes: np.ndarray, possible: int) -> tuple[np.ndarray, np.ndarray]:
    """The codes that occur, ascending, and how often each does."""
    if possible > _TABLE_ENTRIES:
        return np.unique(codes, return_counts=True)
    counts = np.bincount(codes, minlength=1)
    present = np.flatnonzero(counts)
    return present, counts[present]


def _aggregated(pairs: Overlaps) -> tuple[int, int]:
    """Intersection and union of the aggregated Jaccard index (Kumar et al. 2017, algorithm 1).

    Every expected object takes the predicted one of the largest IoU, which several may take, the first of equals; a
    predicted object that none takes adds to the union.
    """
    union_px = pairs.union_px
    best_first = np.lexsort((pairs.predicted, -pairs.shared_px / np.maximum(union_px, 1), pairs.expected))
    expected, first = np.unique(pairs.expected[best_first], return_index=True)
    taken = best_first[first]
    missed_px = pairs.expected_px.sum() - pairs.expected_px[expected].sum()
    used = np.unique(pairs.predicted[taken])
    invented_px = pairs.predicted_px.sum() - pairs.predicted_px[used].sum()
    return int(pairs.shared_px[taken].sum()), int(union_px[taken].sum() + missed_px + invented_px)


@dataclass(frozen=True)
class Detections:
    """Objects found, invented and missed at one threshold, and the ratios of the three; 0/0 among them is 0."""

    true_positive: int
    false_positive: int
    false_negative: int

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return self._share(self.false_positive)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return self._share(self.false_negative)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return self._share((self.false_positive + self.false_negative) / 2)

    @property
    def score(self) -> float:
        """TP / (TP + FP + FN), which DSB2018 calls precision."""
        return self._share(self.false_positive + self.false_negative)

    def _share(self, others: float) -> float:
        return self.true_positive / (self.true_positive + others) if self.true_positive else 0.0


def detections(counts: ObjectCounts, percent: int) -> Detections:
    """The detections at an IoU above `percent`, one of `THRESHOLDS_PERCENT`."""
    matched = counts.matched[THRESHOLDS_PERCENT.index(percent)]
    return Detections(matched, counts.predicted - matched, counts.expected - matched)


def _dsb2018(counts: ObjectCounts) -> float:
    scores = [detections(counts, percent).score for percent in THRESHOLDS_PERCENT]
    return sum(scores) / len(scores)


def _aggregated_jaccard(counts: ObjectCounts) -> float:
    return counts.aggregated_shared_px / counts.aggregated_union_px


def _panoptic_quality(counts: ObjectCounts) -> float:
    """Sum of the matches' IoU / (TP + FP/2 + FN/2) (Kirillov et al. 2019, equation 1)."""
    return 2 * counts.matched_iou / (counts.predicted + counts.expected)


OBJECT_METRICS: Mapping[str, Callable[[ObjectCounts], float]] = {
    "object_f1": lambda counts: detections(counts, 50).f1,
    "object_precision": lambda counts: detections(counts, 50).precision,
    "object_recall": lambda counts: detections(counts, 50).recall,
    "object_f1_75": lambda counts: detections(counts, 75).f1,
    "object_f1_90": lambda counts: detections(counts, 90).f1,
    "dsb2018": _dsb2018,
    "aji": _aggregated_jaccard,
    "pq": _panoptic_quality,
}


def object_metrics(counts: ObjectCounts) -> dict[str, float | None]:
    """Each metric in 0..1: F1, precision and recall at IoU 0.5, F1 at 0.75 and 0.9, DSB2018's score, AJI and PQ.

    Neither side has an object: all None, to be left out of means. Only one side has: all 0.
    """
    if counts.predicted == counts.expected == 0:
        return dict.fromkeys(OBJECT_METRICS)
    return {name: metric(counts) for name, metric in OBJECT_METRICS.items()}


@dataclass(frozen=True)
class ObjectMetrics:
    """The objects of one case: their counts, and the value of each metric (None = not defined)."""

    counts: ObjectCounts
    values: Mapping[str, float | None]


def measure_objects(prediction: np.ndarray, reference: np.ndarray) -> ObjectMetrics:
    """The metrics of two maps of object numbers of one shape.

    A prediction that holds a single value beside 0 is taken for a mask: its components (corners connect) are objects.
    """
    counts = object_counts(parted(prediction), reference)
    return ObjectMetrics(counts, object_metrics(counts))


def parted(prediction: np.ndarray) -> np.ndarray:
    """The map itself, or the numbered components of one that holds a single value."""
    values = prediction[prediction != 0]
    if values.size == 0 or values.min() != values.max():
        return prediction
    padded = np.pad(prediction.reshape((1,) * (3 - prediction.ndim) + prediction.shape) != 0, 1)
    components: np.ndarray = cc3d.connected_components(padded, connectivity=26)
    return components[1:-1, 1:-1, 1:-1].reshape(prediction.shape)
