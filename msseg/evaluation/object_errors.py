"""What went wrong with which object: found, missed, invented, merged or split, for pictures of instance masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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


@dataclass(frozen=True)
class _Overlaps:
    """Pairs of objects that share pixels, by their places in the lists of objects, and the areas of all objects."""

    reference: np.ndarray
    prediction: np.ndarray
    shared_px: np.ndarray
    reference_px: np.ndarray
    prediction_px: np.ndarray


def object_errors(prediction: np.ndarray, reference: np.ndarray, least_iou: float = LEAST_IOU) -> ObjectErrors:
    """The verdict on every object of two maps of object numbers of one shape (0 is background).

    Two objects belong together where their intersection over union exceeds `least_iou`. An object *lies in* another one
    where more than half of its pixels do. What has no partner is merged where it lies in a prediction in which another
    reference object lies too, split where several predictions lie in one reference object; else missed or false.
    """
    numbers, places = zip(*(np.unique(ids, return_inverse=True) for ids in (reference, prediction)), strict=True)
    pairs = _overlaps(*(place.ravel() for place in places), *(len(one) for one in numbers))
    union = pairs.reference_px[pairs.reference] + pairs.prediction_px[pairs.prediction] - pairs.shared_px
    is_match = _objects(pairs, numbers) & (pairs.shared_px > least_iou * union)
    in_prediction = _objects(pairs, numbers) & (2 * pairs.shared_px > pairs.reference_px[pairs.reference])
    in_reference = _objects(pairs, numbers) & (2 * pairs.shared_px > pairs.prediction_px[pairs.prediction])
    swallowing = np.bincount(pairs.prediction[in_prediction], minlength=len(numbers[1])) > 1
    broken = np.bincount(pairs.reference[in_reference], minlength=len(numbers[0])) > 1
    swallowed = _marked(pairs.reference[in_prediction & swallowing[pairs.prediction]], len(numbers[0]))
    piece = _marked(pairs.prediction[in_reference & broken[pairs.reference]], len(numbers[1]))
    found = (_marked(pairs.reference[is_match], len(numbers[0])), _marked(pairs.prediction[is_match], len(numbers[1])))
    return ObjectErrors(
        _sorted_out(numbers[0], found[0], swallowed, broken, MISSED),
        _sorted_out(numbers[1], found[1], swallowing, piece, FALSE),
    )


def _overlaps(reference: np.ndarray, prediction: np.ndarray, references: int, predictions: int) -> _Overlaps:
    pairs, shared_px = np.unique(reference.astype(np.int64) * predictions + prediction, return_counts=True)
    areas = np.bincount(reference, minlength=references), np.bincount(prediction, minlength=predictions)
    return _Overlaps(pairs // predictions, pairs % predictions, shared_px, *areas)


def _objects(pairs: _Overlaps, numbers: tuple[np.ndarray, ...]) -> np.ndarray:
    """Which pairs are of two objects, none of them the background."""
    return (numbers[0][pairs.reference] != 0) & (numbers[1][pairs.prediction] != 0)


def _marked(places: np.ndarray, length: int) -> np.ndarray:
    marked = np.zeros(length, dtype=bool)
    marked[places] = True
    return marked


def _sorted_out(
    numbers: np.ndarray, found: np.ndarray, merged: np.ndarray, split: np.ndarray, otherwise: str
) -> dict[str, np.ndarray]:
    left = (numbers != 0) & ~found
    verdicts = {FOUND: found, otherwise: left & ~merged & ~split, MERGED: left & merged, SPLIT: left & ~merged & split}
    return {verdict: numbers[mask] for verdict, mask in verdicts.items()}
