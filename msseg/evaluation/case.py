"""One case: a segmentation and its reference in, every metric of every label out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from msseg.data.geometry import grid_distance_mm
from msseg.data.image import GRID_TOLERANCE_MM, read_label
from msseg.errors import DatasetError
from msseg.evaluation.objects import ObjectMetrics, measure_objects
from msseg.evaluation.overlap import (
    OVERLAP_METRICS,
    OverlapCounts,
    confusion_matrix,
    counts_of,
    overlap_metrics,
)
from msseg.evaluation.rankings import RANKINGS, Ranking, find_ranking
from msseg.evaluation.region_metrics import Region, measure_region
from msseg.evaluation.surface import (
    DEFAULT_TOLERANCE_MM,
    EMPTY_DISTANCES,
    METRIC_ORDERS,
    SURFACE_METRICS,
    bounding_box,
    surface_metrics,
)

METRICS = (*OVERLAP_METRICS, *SURFACE_METRICS)

# A label is one value in the file; a region is several, united (KiTS "kidney" = kidney and tumour).
LabelValues = int | Sequence[int]


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured: surfaces or not, NSD's tolerance, the distance of a missed label, the distance's metric.

    `instances`: the files number objects, which are measured as such; None finds out from what lies beside the
    references, where a folder of them is evaluated, and is no elsewhere. `challenge` names one of
    `msseg.evaluation.rankings.RANKINGS`, by which cases are measured beside. Voxels of the value `ignore` in the
    reference, which nobody annotated, are left out on both sides; not where the files number objects.
    """

    surfaces: bool = True
    tolerance_mm: float = DEFAULT_TOLERANCE_MM
    empty: str = "diagonal"
    metric: str = "euclidean"
    instances: bool | None = None
    challenge: str | None = None
    ignore: int | None = None

    def __post_init__(self) -> None:
        if self.empty not in EMPTY_DISTANCES:
            raise ValueError(f"empty={self.empty!r}; known: {', '.join(EMPTY_DISTANCES)}")
        if self.metric not in METRIC_ORDERS:
            raise ValueError(f"metric={self.metric!r}; known: {', '.join(METRIC_ORDERS)}")
        if self.challenge is not None and self.challenge not in RANKINGS:
            raise ValueError(f"challenge={self.challenge!r}; known: {', '.join(RANKINGS)}")


@dataclass(frozen=True)
class LabelMetrics:
    """One label of one case: voxel counts, volumes in ml, and the value of each metric (None = not defined)."""

    counts: OverlapCounts
    prediction_ml: float
    reference_ml: float
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class CaseMetrics:
    """One case: metrics by label name; `undeclared` gives the voxels of each value that is in no label, by side.

    `objects` are its numbered objects' metrics where they were asked for, `challenge` those of a challenge's ranking by
    region. Without `has_spacing` a pixel counts as 1 mm.
    """

    name: str
    labels: Mapping[str, LabelMetrics]
    undeclared: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    objects: ObjectMetrics | None = None
    has_spacing: bool = True
    challenge: Mapping[str, Mapping[str, float | None]] | None = None


def evaluate_case(
    prediction_path: Path,
    reference_path: Path,
    labels: Mapping[str, LabelValues],
    options: EvaluationOptions | None = None,
    name: str | None = None,
) -> CaseMetrics:
    """The metrics of a segmentation file against its reference file, on the reference's spacing.

    Raises DatasetError where the two do not lie on the same grid (shape, or corners more than 1e-3 mm apart).
    """
    prediction, prediction_geometry = read_label(prediction_path)
    reference, geometry = read_label(reference_path)
    if prediction.shape != reference.shape:
        raise DatasetError(
            f"{prediction_path}: shape {prediction.shape} (z, y, x), but its reference {reference_path} is "
            f"{reference.shape}. Resample the segmentation to the reference's grid."
        )
    apart_mm = grid_distance_mm(prediction_geometry, geometry)
    if apart_mm > GRID_TOLERANCE_MM:
        raise DatasetError(
            f"{prediction_path}: its grid lies {apart_mm:.3g} mm off that of its reference {reference_path} "
            f"(at most {GRID_TOLERANCE_MM:g} mm). Write the segmentation with the geometry of its image."
        )
    case = measure_case(name or reference_path.name, prediction, reference, geometry.spacing_mm, labels, options)
    return replace(case, has_spacing=geometry.has_spacing)


def measure_case(
    name: str,
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Sequence[float],
    labels: Mapping[str, LabelValues],
    options: EvaluationOptions | None = None,
) -> CaseMetrics:
    """The metrics of a label map (z, y, x) of file values against its reference of the same shape.

    `labels` names the value, or the values of a region; background (0) is left out of it. Where the options say that
    the maps number objects, whatever is above 0 is the one label that there may be.
    """
    options = options or EvaluationOptions()
    objects = measure_objects(prediction, reference) if options.instances else None
    if objects is not None:
        prediction, reference = (_one_label(ids, labels) for ids in (prediction, reference))
    unknown = _ignored(reference, options)
    if unknown is not None:
        prediction, reference = (np.where(unknown, label.dtype.type(0), label) for label in (prediction, reference))
    declared = sorted({value for values in labels.values() for value in members_of(values)})
    confusion = confusion_matrix(prediction, reference, declared)
    confusion[0, 0] -= 0 if unknown is None else np.count_nonzero(unknown)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    box = _foreground_box(prediction, reference)
    ranking = None if options.challenge is None else find_ranking(options.challenge)
    measured, ranked = {}, {}
    for label, values in labels.items():
        members = members_of(values)
        counts = counts_of(confusion, [1 + declared.index(value) for value in members])
        metrics = overlap_metrics(counts)
        if options.surfaces:
            metrics |= _surfaces(prediction, reference, box, members, counts, spacing_mm, options)
        volumes = counts.predicted * voxel_ml, counts.expected * voxel_ml
        measured[label] = LabelMetrics(counts, *volumes, metrics)
        if ranking is not None:
            tolerance_mm = ranking.tolerances(labels, options.tolerance_mm)[label]
            sides = (_mask(prediction[box], members), _mask(reference[box], members))
            ranked[label] = _ranked(ranking, label, sides, spacing_mm, measured[label], tolerance_mm)
    undeclared = _undeclared(prediction, reference, confusion, declared)
    return CaseMetrics(name, measured, undeclared, objects, challenge=None if ranking is None else ranked)


def _ignored(reference: np.ndarray, options: EvaluationOptions) -> np.ndarray | None:
    """True where nobody annotated the reference; None where all of it is."""
    if options.ignore is None or options.instances:
        return None
    ignored = reference == options.ignore
    return ignored if ignored.any() else None


def _ranked(
    ranking: Ranking,
    label: str,
    sides: tuple[np.ndarray, np.ndarray],
    spacing_mm: Sequence[float],
    measured: LabelMetrics,
    tolerance_mm: float,
) -> dict[str, float | None]:
    """What the challenge measures of one region, whose masks are `sides`."""
    region = Region(
        *sides,
        tuple(spacing_mm),
        measured.counts,
        measured.values,
        tolerance_mm=tolerance_mm,
        lesions=ranking.lesions_of(label),
    )
    return measure_region(ranking, label, region)


def members_of(values: LabelValues) -> tuple[int, ...]:
    """The file values of a label or region, as a tuple."""
    return (int(values),) if isinstance(values, int | np.integer) else tuple(int(value) for value in values)


def _one_label(ids: np.ndarray, labels: Mapping[str, LabelValues]) -> np.ndarray:
    """A map of the one label's value wherever there is an object."""
    value = the_label(labels)
    return np.where(ids != 0, np.min_scalar_type(value).type(value), np.min_scalar_type(value).type(0))


def the_label(labels: Mapping[str, LabelValues]) -> int:
    """The value of the one label that numbered objects have. Raises DatasetError where there are several."""
    values = [value for of_label in labels.values() for value in members_of(of_label)]
    if len(values) != 1:
        raise DatasetError(
            f"labels: found {', '.join(labels)}, expected one label of one value, which all numbered objects have. "
            "Name it with --labels, or leave --instances out."
        )
    return values[0]


def _surfaces(
    prediction: np.ndarray,
    reference: np.ndarray,
    box: tuple[slice, ...],
    members: tuple[int, ...],
    counts: OverlapCounts,
    spacing_mm: Sequence[float],
    options: EvaluationOptions,
) -> dict[str, float | None]:
    if counts.one_empty:
        penalty_mm = EMPTY_DISTANCES[options.empty](reference.shape, spacing_mm)
        return {**dict.fromkeys(SURFACE_METRICS, penalty_mm), "nsd": 0.0}
    masks = (_mask(prediction[box], members), _mask(reference[box], members))
    return surface_metrics(*masks, spacing_mm, options.tolerance_mm, options.empty, options.metric)


def _mask(label: np.ndarray, members: tuple[int, ...]) -> np.ndarray:
    return label == members[0] if len(members) == 1 else np.isin(label, members)


def _foreground_box(prediction: np.ndarray, reference: np.ndarray) -> tuple[slice, ...]:
    return bounding_box((prediction != 0) | (reference != 0))


def _undeclared(
    prediction: np.ndarray, reference: np.ndarray, confusion: np.ndarray, declared: Sequence[int]
) -> dict[str, dict[int, int]]:
    """Voxels of each value outside `declared` and 0, by side; a side without any is left out."""
    strangers = {"prediction": (prediction, confusion[:, -1]), "reference": (reference, confusion[-1])}
    return {side: _other_values(label, declared) for side, (label, others) in strangers.items() if others.any()}


def _other_values(label: np.ndarray, declared: Sequence[int]) -> dict[int, int]:
    values, voxels = np.unique(label, return_counts=True)
    counted = zip(values.tolist(), voxels.tolist(), strict=True)
    return {value: count for value, count in counted if value != 0 and value not in declared}
