"""What challenges measure of a region of one case beyond overlap and surfaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from msseg.evaluation.lesions import LesionCounts, LesionRule, LesionScores, detect_lesions, score_lesions
from msseg.evaluation.membranes import MembraneScores, membrane_scores
from msseg.evaluation.overlap import OverlapCounts
from msseg.evaluation.rankings import Ranking
from msseg.evaluation.surface import surface_metrics
from msseg.evaluation.surface_elements import SurfaceElements, robust_hausdorff_mm, surface_dice, surface_elements


@dataclass(frozen=True)
class Region:
    """One region of one case: its masks (z, y, x) on both sides, cropped to a common box, and what is known of them.

    `counts` and `values` are the overlap of the whole images and the metrics of `msseg.evaluation.case`.
    """

    prediction: np.ndarray
    reference: np.ndarray
    spacing_mm: tuple[float, ...]
    counts: OverlapCounts
    values: Mapping[str, float | None]
    tolerance_mm: float
    lesions: LesionRule | None = None

    @cached_property
    def surfaces(self) -> Mapping[str, float | None]:
        """The distances between surfaces; measured here where the evaluation left them out."""
        if "assd_mm" in self.values:
            return self.values
        return surface_metrics(self.prediction, self.reference, self.spacing_mm, self.tolerance_mm, empty="excluded")

    @cached_property
    def elements(self) -> SurfaceElements:
        """The surface elements; both sides must hold a voxel."""
        return surface_elements(self.prediction, self.reference, self.spacing_mm)

    @cached_property
    def detected(self) -> LesionCounts:
        """The lesions found at an overlap above a half."""
        return detect_lesions(self.prediction, self.reference)

    @cached_property
    def lesion_scores(self) -> LesionScores:
        """The lesion-wise scores by the rule, which must be given."""
        assert self.lesions is not None
        return score_lesions(self.prediction, self.reference, self.spacing_mm, self.lesions)

    @cached_property
    def membranes(self) -> MembraneScores:
        """The mean over the slices of how well cells are parted; the reference must hold a pixel."""
        slices = [
            membrane_scores(*pages) for pages in zip(self.prediction, self.reference, strict=True) if pages[1].any()
        ]
        return MembraneScores(
            float(np.mean([one.rand for one in slices])), float(np.mean([one.information for one in slices]))
        )


Measure = Callable[[Region], float | None]


def _value(name: str) -> Measure:
    """The metric of that name as every evaluation has it."""
    return lambda region: region.values.get(name)


def _distance(name: str) -> Measure:
    """The distance of that name, in mm."""
    return lambda region: region.surfaces.get(name)


def _specificity(region: Region) -> float:
    outside = region.counts.true_negative + region.counts.false_positive
    return region.counts.true_negative / outside if outside else 1.0


def _volumetric_overlap_error(region: Region) -> float | None:
    jaccard = region.values.get("jaccard")
    return None if jaccard is None else 1 - jaccard


def _relative_volume_difference(region: Region) -> float | None:
    """(predicted - expected) / expected volume; None without a reference."""
    if not region.counts.expected:
        return None
    return (region.counts.predicted - region.counts.expected) / region.counts.expected


def _absolute_volume_difference(region: Region) -> float | None:
    """|predicted - expected| / expected volume in per cent; None without a reference."""
    difference = _relative_volume_difference(region)
    return None if difference is None else 100 * abs(difference)


def _rising_score(measure: Measure, least: float) -> Measure:
    """100 times a metric in 0..1, 0 below `least`."""

    def score(region: Region) -> float:
        value = measure(region)
        return 100 * value if value is not None and value > least else 0.0

    return score


def _falling_score(measure: Measure, most: float) -> Measure:
    """From 100 at 0 down to 0 at `most` and beyond."""

    def score(region: Region) -> float:
        value = measure(region)
        return 100 * (1 - value / most) if value is not None and value < most else 0.0

    return score


# Kavur et al. 2021 (Medical Image Analysis 69:101950), table 4: what lies beyond scores 0.
CHAOS_LEAST_DICE, CHAOS_MOST_RAVD_PERCENT, CHAOS_MOST_ASSD_MM, CHAOS_MOST_MSSD_MM = 0.8, 5.0, 15.0, 60.0

CHAOS_SCORES: Mapping[str, Measure] = {
    "dice_score": _rising_score(_value("dice"), CHAOS_LEAST_DICE),
    "ravd_score": _falling_score(_absolute_volume_difference, CHAOS_MOST_RAVD_PERCENT),
    "assd_score": _falling_score(_distance("assd_mm"), CHAOS_MOST_ASSD_MM),
    "mssd_score": _falling_score(_distance("hausdorff_mm"), CHAOS_MOST_MSSD_MM),
}

REGION_METRICS: Mapping[str, Measure] = {
    "dice": _value("dice"),
    "hausdorff_mm": _distance("hausdorff_mm"),
    "hd95_mm": _distance("hd95_mm"),
    "assd_mm": _distance("assd_mm"),
    "sensitivity": _value("recall"),
    "specificity": _specificity,
    "voe": _volumetric_overlap_error,
    "rvd": _relative_volume_difference,
    "ravd_percent": _absolute_volume_difference,
    **CHAOS_SCORES,
    "surface_dice": lambda region: surface_dice(region.elements, region.tolerance_mm),
    "robust_hd95_mm": lambda region: robust_hausdorff_mm(region.elements),
    "lesions_found": lambda region: region.detected.found,
    "lesions_false": lambda region: region.detected.false,
    "lesions_missed": lambda region: region.detected.missed,
    "lesion_dice": lambda region: region.lesion_scores.dice,
    "lesion_hd95_mm": lambda region: region.lesion_scores.hd95_mm,
    "v_rand": lambda region: region.membranes.rand,
    "v_info": lambda region: region.membranes.information,
}


def measure_region(ranking: Ranking, name: str, region: Region) -> dict[str, float | None]:
    """The ranking's metrics of the region of that name in one case; None where one is not defined."""
    metrics = ranking.metrics_of(name)
    if region.counts.both_empty:
        return {metric: ranking.both_empty.get(metric) for metric in metrics}
    given = ranking.one_empty if region.counts.one_empty else {}
    return {metric: given[metric] if metric in given else REGION_METRICS[metric](region) for metric in metrics}
