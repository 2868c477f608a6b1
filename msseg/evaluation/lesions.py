"""Lesions: the connected components of a mask, found or missed, and scored one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cc3d
import numpy as np
from scipy.ndimage import find_objects

from msseg.evaluation.objects import Overlaps, overlaps
from msseg.evaluation.surface import bounding_box
from msseg.evaluation.surface_elements import robust_hausdorff_mm, surface_elements

Neighbours = Literal[6, 26]
FACES: Neighbours = 6
CORNERS: Neighbours = 26


@dataclass(frozen=True)
class LesionCounts:
    """Lesions of one case, or of several together: found, predicted where none is, and missed."""

    found: int = 0
    false: int = 0
    missed: int = 0

    def __add__(self, other: LesionCounts) -> LesionCounts:
        return LesionCounts(self.found + other.found, self.false + other.false, self.missed + other.missed)

    @property
    def precision(self) -> float | None:
        """Share of the predicted lesions that are one; None where none is predicted."""
        predicted = self.found + self.false
        return self.found / predicted if predicted else None

    @property
    def recall(self) -> float | None:
        """Share of the expected lesions that are found; None where none is expected."""
        expected = self.found + self.missed
        return self.found / expected if expected else None


@dataclass(frozen=True)
class LesionRule:
    """How BraTS parts and weighs lesions (Saluja et al., BraTS-2023-Metrics, BraTS-2024-Metrics).

    Expected lesions nearer than twice `dilation` voxels are one, predicted ones nearer than `dilation` belong to them;
    a lesion of at most `smallest_mm3` is not asked for. `lost_mm` is the distance of one that is missed or invented.
    With `joins_predicted` predicted lesions are made one as the expected are, and such small ones are no lesions.
    """

    dilation: int
    smallest_mm3: float
    lost_mm: float
    joins_predicted: bool = False


@dataclass(frozen=True)
class LesionScores:
    """Means over the lesions of one case that are asked for and over the invented ones; 1 and 0 mm where none is."""

    dice: float
    hd95_mm: float
    counts: LesionCounts


def components(mask: np.ndarray, neighbours: Neighbours = CORNERS) -> np.ndarray:
    """The numbers, from 1 on, of the components of a boolean mask (z, y, x), connected over faces or also corners."""
    found: np.ndarray = cc3d.connected_components(mask, connectivity=neighbours)
    return found


def detect_lesions(prediction: np.ndarray, reference: np.ndarray, overlap: float = 0.5) -> LesionCounts:
    """Lesions (components over faces) of two masks (z, y, x) found at an intersection over union above `overlap`.

    As LiTS matches them (`detect_lesions` of its scoring program): expected lesions that the same predicted one
    overlaps most are one, and so are predicted lesions that overlap the same expected one most; a group counts once.
    """
    pairs = overlaps(components(prediction, FACES), components(reference, FACES))
    group_of_expected = _groups(pairs)
    matched, found = _matches(pairs, group_of_expected, overlap)
    predicted = len(pairs.predicted_px) - (len(matched) - len(np.unique(matched)))
    return LesionCounts(found, predicted - found, len(np.unique(group_of_expected)) - found)


def _groups(pairs: Overlaps) -> np.ndarray:
    """The group of each expected lesion: the predicted one that overlaps it most, else a number of its own."""
    groups = len(pairs.predicted_px) + np.arange(len(pairs.expected_px))
    most_last = np.lexsort((-pairs.predicted, pairs.shared_px))
    groups[pairs.expected[most_last]] = pairs.predicted[most_last]
    return groups


def _matches(pairs: Overlaps, group_of_expected: np.ndarray, overlap: float) -> tuple[np.ndarray, int]:
    """The group that each overlapping predicted lesion belongs to, and how many groups are found."""
    names, group = np.unique(group_of_expected, return_inverse=True)
    shared_px = np.zeros((len(pairs.predicted_px), len(names)), dtype=np.int64)
    np.add.at(shared_px, (pairs.predicted, group[pairs.expected]), pairs.shared_px)
    overlapping = np.flatnonzero(shared_px.any(axis=1))
    matched = shared_px[overlapping].argmax(axis=1) if overlapping.size else overlapping
    within_px = np.bincount(matched, weights=shared_px[overlapping].max(axis=1, initial=0), minlength=len(names))
    predicted_px = np.bincount(matched, weights=pairs.predicted_px[overlapping], minlength=len(names))
    expected_px = np.bincount(group, weights=pairs.expected_px, minlength=len(names))
    return matched, int(np.count_nonzero(within_px > overlap * (predicted_px + expected_px - within_px)))


def score_lesions(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float], rule: LesionRule
) -> LesionScores:
    """The lesion-wise scores of two masks (z, y, x) of one shape, as BraTS has ranked by since 2023."""
    box = bounding_box(prediction | reference)
    prediction, reference = (np.pad(mask[box], rule.dilation) for mask in (prediction, reference))
    predicted, expected = predicted_lesions(prediction, spacing_mm, rule), joined_lesions(reference, rule.dilation)
    boxes = find_objects(predicted)
    belonging: set[int] = set()
    scores = []
    for number, box in enumerate(find_objects(expected), start=1):
        numbers = _near(predicted, expected, number, box, rule.dilation)
        belonging |= numbers
        if np.count_nonzero(expected[box] == number) * float(np.prod(spacing_mm)) > rule.smallest_mm3:
            around = _union([box, *(boxes[one - 1] for one in numbers)])
            found = np.isin(predicted[around], sorted(numbers))
            scores.append(_score(found, expected[around] == number, spacing_mm) if numbers else None)
    return _mean_scores(scores, int(predicted.max(initial=0)) - len(belonging), rule.lost_mm)


def _mean_scores(scores: Sequence[tuple[float, float] | None], false: int, lost_mm: float) -> LesionScores:
    """The means over lesions of which None are missed, and over `false` invented ones."""
    found = [score for score in scores if score is not None]
    counts = LesionCounts(len(found), false, len(scores) - len(found))
    total = len(scores) + false
    if not total:
        return LesionScores(1.0, 0.0, counts)
    lost = total - len(found)
    dice, hd95_mm = (sum(values) for values in zip(*found, strict=True)) if found else (0.0, 0.0)
    return LesionScores(dice / total, (hd95_mm + lost * lost_mm) / total, counts)


def joined_lesions(mask: np.ndarray, dilation: int) -> np.ndarray:
    """The lesion of each voxel of a mask (z, y, x): the component of the mask dilated so many times; 0 outside."""
    grown = components(_dilated(mask, dilation))
    return np.multiply(grown, mask, out=grown)


def predicted_lesions(prediction: np.ndarray, spacing_mm: Sequence[float], rule: LesionRule) -> np.ndarray:
    """The numbers, from 1 on and without gaps, of the lesions of a predicted mask (z, y, x); 0 outside."""
    if not rule.joins_predicted:
        return components(prediction)
    joined = joined_lesions(prediction, rule.dilation)
    stays = cc3d.statistics(joined)["voxel_counts"] * float(np.prod(spacing_mm)) > rule.smallest_mm3
    if stays[1:].all():
        return joined
    stays[0] = False
    numbers: np.ndarray = np.where(stays, np.cumsum(stays), 0).astype(joined.dtype)[joined]
    return numbers


def _dilated(mask: np.ndarray, times: int) -> np.ndarray:
    """The mask grown by the 18 neighbours over faces and edges, so many times.

    Those neighbours are three squares of nine, one across each pair of axes, and each square grows axis by axis.
    """
    for _ in range(times):
        over_y, over_x = _wider(mask, 1), _wider(mask, 2)
        mask = _wider(over_y, 2) | _wider(over_y, 0) | _wider(over_x, 0)
    return mask


def _wider(mask: np.ndarray, axis: int) -> np.ndarray:
    """The mask (z, y, x) grown by one voxel to both sides along an axis."""
    lower, upper = ((slice(None),) * axis + (side,) for side in (slice(None, -1), slice(1, None)))
    grown = mask.copy()
    grown[lower] |= mask[upper]
    grown[upper] |= mask[lower]
    return grown


def _near(predicted: np.ndarray, expected: np.ndarray, number: int, box: tuple[slice, ...], dilation: int) -> set[int]:
    """The numbers of the predicted lesions that meet an expected one once that is dilated."""
    around = tuple(slice(max(side.start - dilation, 0), side.stop + dilation) for side in box)
    met = np.unique(predicted[around][_dilated(expected[around] == number, dilation)])
    return {int(one) for one in met if one}


def _union(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The smallest box around several."""
    sides = zip(*boxes, strict=True)
    return tuple(slice(min(side.start for side in axis), max(side.stop for side in axis)) for axis in map(list, sides))


def _score(prediction: np.ndarray, lesion: np.ndarray, spacing_mm: Sequence[float]) -> tuple[float, float]:
    shared = np.count_nonzero(prediction & lesion)
    dice = float(2 * shared / (np.count_nonzero(prediction) + np.count_nonzero(lesion)))
    return dice, robust_hausdorff_mm(surface_elements(prediction, lesion, spacing_mm))
