"""What went wrong with which object: found, missed, invented, merged or split, for pictures of instance masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msseg.evaluation.objects import overlaps

FOUND, MISSED, FALSE, MERGED, SPLIT = "found", "missed", "false", "merged", "split"
# A picture has one threshold; at more than one half no object can have two partners.
LEAST_IOU = 0.5


@dataclass(frozen=True)
class ObjectErrors:
    """The numbers of the objects of each side by verdict, ascending; every object has exactly one.

    `reference`: found, missed (nothing explains it), merged (a prediction swallowed it and another one), split (lies in
    pieces). `prediction`: found, false, merged (swallowed several), split (a piece).
    """

    reference: dict[str, np.ndarray]
    prediction: dict[str, np.ndarray]

    def counts(self) -> dict[str, int]:
        """The number of objects by verdict: those of the reference, and of the prediction the false ones."""
        counted = {verdict: len(numbers) for verdict, numbers in self.reference.items()}
        return {**counted, FALSE: len(self.prediction[FALSE])}


def object_errors(prediction: np.ndarray, reference: np.ndarray, least_iou: float = LEAST_IOU) -> ObjectErrors:
    """The verdict on every object of two maps of object numbers of one shape (0 is background).

    Two objects belong together where their intersection over union exceeds `least_iou`. An object *lies in* another one
    where more than half of its pixels do. What has no partner is merged where it lies in a prediction in which another
    reference object lies too, split where several predictions lie in one reference object; else missed or false.
    """
    pairs = overlaps(prediction, reference)
    predicted, expected = len(pairs.predicted_px), len(pairs.expected_px)
    is_match = pairs.shared_px > least_iou * pairs.union_px
    in_prediction = 2 * pairs.shared_px > pairs.expected_px[pairs.expected]
    in_reference = 2 * pairs.shared_px > pairs.predicted_px[pairs.predicted]
    swallowing = np.bincount(pairs.predicted[in_prediction], minlength=predicted) > 1
    broken = np.bincount(pairs.expected[in_reference], minlength=expected) > 1
    swallowed = _marked(pairs.expected[in_prediction & swallowing[pairs.predicted]], expected)
    piece = _marked(pairs.predicted[in_reference & broken[pairs.expected]], predicted)
    return ObjectErrors(
        _sorted_out(_numbers(reference), _marked(pairs.expected[is_match], expected), swallowed, broken, MISSED),
        _sorted_out(_numbers(prediction), _marked(pairs.predicted[is_match], predicted), swallowing, piece, FALSE),
    )


def _numbers(ids: np.ndarray) -> np.ndarray:
    numbers = np.unique(ids)
    return numbers[numbers != 0]


def _marked(places: np.ndarray, length: int) -> np.ndarray:
    marked = np.zeros(length, dtype=bool)
    marked[places] = True
    return marked


def _sorted_out(
    numbers: np.ndarray, found: np.ndarray, merged: np.ndarray, split: np.ndarray, otherwise: str
) -> dict[str, np.ndarray]:
    left = ~found
    verdicts = {FOUND: found, otherwise: left & ~merged & ~split, MERGED: left & merged, SPLIT: left & ~merged & split}
    return {verdict: numbers[mask] for verdict, mask in verdicts.items()}
