"""From cases to the figure by which a challenge ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np

from msseg.evaluation.lesions import LesionCounts
from msseg.evaluation.overlap import OverlapCounts, overlap_metrics
from msseg.evaluation.phases import phase_row, phases_of
from msseg.evaluation.rankings import Ranking, find_ranking
from msseg.evaluation.summary import mean

if TYPE_CHECKING:
    from msseg.evaluation.case import CaseMetrics
    from msseg.evaluation.object_summary import ObjectSummary

Values = Mapping[str, float | None]


@dataclass(frozen=True)
class ChallengeSummary:
    """All cases as the challenge ranks them.

    `mean` and `counted` (how many cases a mean is of) go by region, and phase where the challenge tells them apart, and
    metric; `pooled` has the figures of all cases together. `score` is what ranks, more is better, None where nothing
    could be measured: the mean of `ranked_by` over `ranked_regions`.
    """

    challenge: str
    title: str
    score: float | None
    ranked_by: tuple[str, ...]
    ranked_regions: tuple[str, ...]
    mean: Mapping[str, Values]
    counted: Mapping[str, Mapping[str, int]]
    pooled: Mapping[str, Values]
    tolerance_mm: Mapping[str, float]
    source: str


def summarise_challenge(
    cases: Sequence[CaseMetrics],
    name: str,
    labels: Mapping[str, int | Sequence[int]],
    tolerance_mm: float,
    objects: ObjectSummary | None = None,
) -> ChallengeSummary:
    """The summary of cases that were measured for that challenge; `objects` are those of the same cases."""
    ranking = find_ranking(name)
    rows = _rows(ranking, cases, labels)
    means = {row: {one: mean(_defined(of_row, one)) for one in ranking.metrics_of(row)} for row, of_row in rows.items()}
    ranked = [row for row in rows if ranking.ranked_regions is None or row in ranking.ranked_regions]
    figures = [means[row][metric] for row in ranked for metric in ranking.ranked_by if metric in ranking.metrics]
    if ranking.objects and objects is not None:
        figures = [objects.mean[metric] for metric in ranking.ranked_by]
    return ChallengeSummary(
        challenge=name,
        title=ranking.title,
        score=mean([figure for figure in figures if figure is not None]),
        ranked_by=ranking.ranked_by,
        ranked_regions=tuple(ranked),
        mean=means,
        counted={
            row: {one: len(_defined(of_row, one)) for one in ranking.metrics_of(row)} for row, of_row in rows.items()
        },
        pooled={region: {one: POOLED[one](cases, region) for one in ranking.pooled_of(region)} for region in labels},
        tolerance_mm=dict(ranking.tolerances(labels, tolerance_mm)),
        source=ranking.source,
    )


def _rows(ranking: Ranking, cases: Sequence[CaseMetrics], labels: Mapping[str, object]) -> dict[str, list[Values]]:
    """The values of every case by region, or by region and phase."""
    phases = phases_of(cases) if ranking.phases else {}
    rows: dict[str, list[Values]] = {}
    for region in labels:
        for phase in dict.fromkeys(phases.get(case.name, "") for case in cases):
            rows[phase_row(region, phase)] = [
                case.challenge[region]
                for case in cases
                if case.challenge is not None and phases.get(case.name, "") == phase
            ]
    return rows


def _defined(values: Sequence[Values], metric: str) -> list[float]:
    return [value for one in values if (value := one.get(metric)) is not None]


def _dice_global(cases: Sequence[CaseMetrics], region: str) -> float | None:
    counts = [case.labels[region].counts for case in cases]
    return overlap_metrics(reduce(add, counts, OverlapCounts(0, 0, 0, 0)))["dice"]


def _lesions(cases: Sequence[CaseMetrics], region: str) -> LesionCounts:
    values = [case.challenge[region] for case in cases if case.challenge is not None]
    names = ("lesions_found", "lesions_false", "lesions_missed")
    return LesionCounts(*(int(np.sum(_defined(values, name))) for name in names))


POOLED: Mapping[str, Callable[[Sequence[CaseMetrics], str], float | None]] = {
    "dice_global": _dice_global,
    "lesion_precision": lambda cases, region: _lesions(cases, region).precision,
    "lesion_recall": lambda cases, region: _lesions(cases, region).recall,
}
