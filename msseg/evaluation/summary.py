"""From cases to figures of a label: means over cases, pooled counts, and how many cases had nothing to measure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from msseg.evaluation.case import METRICS, CaseMetrics
from msseg.evaluation.overlap import OVERLAP_METRICS, overlap_metrics


@dataclass(frozen=True)
class LabelSummary:
    """One label over all cases.

    `mean` and `standard_deviation` (of the cases, not of the mean) leave out cases where the metric is None;
    `counted` says how many were left. `pooled` are the overlap metrics of the voxels of all cases together.
    `both_empty`: neither side holds the label; `missed`: only the reference does; `invented`: only the prediction.
    """

    mean: Mapping[str, float | None]
    standard_deviation: Mapping[str, float | None]
    counted: Mapping[str, int]
    pooled: Mapping[str, float | None]
    both_empty: int
    missed: int
    invented: int


def summarise(cases: Sequence[CaseMetrics], label: str) -> LabelSummary:
    """The summary of one label over the cases (none of them: every mean None)."""
    metrics = [case.labels[label] for case in cases]
    defined = {name: _defined(one.values.get(name) for one in metrics) for name in METRICS}
    counts = [one.counts for one in metrics]
    return LabelSummary(
        mean={name: mean(values) for name, values in defined.items()},
        standard_deviation={name: standard_deviation(values) for name, values in defined.items()},
        counted={name: len(values) for name, values in defined.items()},
        pooled=overlap_metrics(reduce(add, counts)) if counts else dict.fromkeys(OVERLAP_METRICS),
        both_empty=sum(one.both_empty for one in counts),
        missed=sum(one.one_empty and one.predicted == 0 for one in counts),
        invented=sum(one.one_empty and one.expected == 0 for one in counts),
    )


def foreground_mean(of_labels: Iterable[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean over labels of each metric, every label with the same weight; None entries are left out."""
    rows = list(of_labels)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: mean(_defined(row[name] for row in rows)) for name in names}


def mean(values: Sequence[float]) -> float | None:
    """The arithmetic mean; None of nothing."""
    return sum(values) / len(values) if values else None


def standard_deviation(values: Sequence[float]) -> float | None:
    """With n in the denominator; None of nothing, or where a value is infinite."""
    centre = mean(values)
    if centre is None or centre == float("inf"):
        return None
    return (sum((value - centre) ** 2 for value in values) / len(values)) ** 0.5


def _defined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
