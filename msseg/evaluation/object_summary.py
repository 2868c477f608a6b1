"""From cases to figures of their objects: means over cases, pooled counts, and every threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from msseg.evaluation.case import CaseMetrics
from msseg.evaluation.objects import (
    OBJECT_METRICS,
    THRESHOLDS_PERCENT,
    ObjectCounts,
    ObjectMetrics,
    detections,
    object_metrics,
)
from msseg.evaluation.summary import mean, standard_deviation


@dataclass(frozen=True)
class ObjectSummary:
    """The objects of all cases.

    `mean` and `standard_deviation` (of the cases) leave out the cases without an object on either side, of which there
    are `both_empty`; `counted` says how many were left. `pooled` are the metrics of all cases' objects taken together.
    """

    mean: Mapping[str, float | None]
    standard_deviation: Mapping[str, float | None]
    counted: int
    both_empty: int
    pooled: Mapping[str, float | None]
    counts: ObjectCounts


def summarise_objects(cases: Sequence[CaseMetrics]) -> ObjectSummary | None:
    """The summary of the cases whose objects were measured, None where those of no case were."""
    measured = [case.objects for case in cases if case.objects is not None]
    if not measured:
        return None
    values = {name: _defined(measured, name) for name in OBJECT_METRICS}
    counted = len(values["object_f1"])
    counts = sum((one.counts for one in measured), ObjectCounts())
    return ObjectSummary(
        mean={name: mean(of_cases) for name, of_cases in values.items()},
        standard_deviation={name: standard_deviation(of_cases) for name, of_cases in values.items()},
        counted=counted,
        both_empty=len(measured) - counted,
        pooled=object_metrics(counts),
        counts=counts,
    )


def _defined(measured: Sequence[ObjectMetrics], name: str) -> list[float]:
    return [value for one in measured if (value := one.values[name]) is not None]


def object_summary_to_json(summary: ObjectSummary) -> dict[str, Any]:
    """The summary as a JSON value, with the pooled detections at every threshold."""
    return {**asdict(summary), "counts": object_counts_to_json(summary.counts)}


def objects_to_json(objects: ObjectMetrics) -> dict[str, Any]:
    """The metrics of one case as a JSON value."""
    return {**objects.values, "counts": object_counts_to_json(objects.counts)}


def object_counts_to_json(counts: ObjectCounts) -> dict[str, Any]:
    """The objects on both sides, and the detections at every IoU threshold ("0.50" … "0.95")."""
    return {"predicted": counts.predicted, "expected": counts.expected, "thresholds": _thresholds(counts)}


def _thresholds(counts: ObjectCounts) -> dict[str, dict[str, float]]:
    rows = {}
    for percent in THRESHOLDS_PERCENT:
        found = detections(counts, percent)
        ratios = {"precision": found.precision, "recall": found.recall, "f1": found.f1, "score": found.score}
        rows[f"{percent / 100:.2f}"] = {**asdict(found), **ratios}
    return rows
