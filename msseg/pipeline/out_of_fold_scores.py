"""One case's stored probabilities, averaged over members, looked at in every way that choosing takes.

Apart from `find_best`, so that the workers that look do not load torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msseg.data.geometry import Geometry
from msseg.data.image import read_label
from msseg.data.labels import LabelMap
from msseg.errors import DatasetError
from msseg.evaluation.case import CaseMetrics, EvaluationOptions, LabelValues, measure_case
from msseg.inference.averaging import Mean, read_mean
from msseg.inference.probability_files import probabilities_path
from msseg.instances.decision import Decision
from msseg.pipeline.reference import read_reference
from msseg.postprocessing.rules import Rule, apply_rules
from msseg.postprocessing.tables import CaseTable, case_table
from msseg.postprocessing.thresholds import ShareCounts, count_shares
from planning.plan import Plan

# The folder of a fold that holds them.
OUT_OF_FOLD = "validation_probabilities"

ObjectTable = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class ScoredCase:
    """A case with the fold that left it out, the files of its members' probabilities and its reference."""

    name: str
    fold: str
    probabilities: tuple[Path, ...]
    reference: Path


@dataclass(frozen=True)
class Treatment:
    """What is done with probabilities: `decision` (None: ½, or the most probable class), then `rules`."""

    decision: Decision | None = None
    rules: tuple[Rule, ...] = ()

    @property
    def threshold(self) -> float | None:
        """The foreground's threshold, None for the most probable class."""
        return None if self.decision is None else self.decision.foreground


@dataclass(frozen=True)
class Measuring:
    """What cases are measured by: the labels or regions of the figure, and options."""

    plan: Plan
    labels: Mapping[str, LabelValues]
    options: EvaluationOptions


def scored_path(model: Path, fold: str, case: str) -> Path:
    """Where the probabilities of a case by the fold that left it out lie."""
    return probabilities_path(case, model / f"fold_{fold}" / OUT_OF_FOLD)


def look_at_thresholds(item: ScoredCase, plan: Plan, steps: int) -> tuple[ShareCounts, ObjectTable | None]:
    """How probable the foreground is in and out of the reference, in so many steps; of numbered objects also what each
    candidate adds to the metrics of objects."""
    mean = _read(item, plan)
    reference = read_reference(item.reference, plan)
    shares = np.concatenate([_shares(slab, steps) for _, slab in mean.slabs()])
    counts = count_shares(shares, reference, steps)
    if plan.instances is None:
        return counts, None
    from msseg.pipeline.object_search import probabilities_table  # loads torch

    return counts, probabilities_table(mean.probabilities(), item.reference)


def look_at_rules(item: ScoredCase, plan: Plan, thresholds: Sequence[float | None]) -> dict[float | None, CaseTable]:
    """What rules would do to the case, for every threshold."""
    mean, reference = _read(item, plan), read_reference(item.reference, plan)
    values, spacing_mm = _label_map(plan).values, spacing_in(mean.geometry, plan.has_spacing)
    return {
        threshold: case_table(mean.classes(threshold), reference, len(values), spacing_mm) for threshold in thresholds
    }


def measure(item: ScoredCase, measuring: Measuring, treatments: Mapping[str, Sequence[Treatment]]) -> list[CaseMetrics]:
    """The case's figures under each of its fold's treatments."""
    mean = _read(item, measuring.plan)
    reference, geometry = read_label(item.reference)
    return [
        measure_case(
            item.name,
            segmented(mean, measuring.plan, treatment),
            reference,
            geometry.spacing_mm,
            measuring.labels,
            replace(measuring.options, ignore=measuring.plan.ignore),
        )
        for treatment in treatments[item.fold]
    ]


def segmented(mean: Mean, plan: Plan, treatment: Treatment) -> np.ndarray:
    """The label map (z, y, x) in the values of files, or object numbers where the data set has numbered objects."""
    if plan.instances is not None:
        from msseg.instances.watershed import instances_from  # loads scipy

        return instances_from(mean.probabilities(), treatment.decision or Decision())
    classes = mean.classes(treatment.threshold)
    return _label_map(plan).to_values(
        apply_rules(classes, treatment.rules, spacing_in(mean.geometry, plan.has_spacing))
    )


def spacing_in(geometry: Geometry, has_spacing: bool) -> tuple[float, float, float] | None:
    """The spacing in which rules take sizes; None, voxels, where the training images told none."""
    return geometry.known_spacing_mm if has_spacing else None


def _read(item: ScoredCase, plan: Plan) -> Mean:
    mean = read_mean(item.probabilities)
    if mean.regions != plan.regions:
        raise DatasetError(
            f"{item.probabilities[0]}: not the probabilities of the model's regions. Delete the file and run the same "
            "command again."
        )
    if list(mean.labels) != list(plan.labels):
        raise DatasetError(
            f"{item.probabilities[0]}: classes {', '.join(mean.labels)}, but the model has {', '.join(plan.labels)}. "
            "Delete the file and run the same command again."
        )
    return mean


def _label_map(plan: Plan) -> LabelMap:
    values = plan.labels.values() if plan.instances is None else (0, plan.instances.value)
    return LabelMap(tuple(values))


def _shares(slab: np.ndarray, steps: int) -> np.ndarray:
    """The foreground's probability in steps: it exceeds k / steps where the share is k or more; uint8."""
    return np.clip(np.ceil((1 - slab[0]) * steps) - 1, 0, steps - 1).astype(np.uint8)
