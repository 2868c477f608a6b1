"""The thresholds of a model of one foreground, chosen on what validation predicts anyway.

While validation cases are predicted, each leaves a small file of how probable the foreground was inside and outside of
its reference: from these all thresholds follow at once. Of numbered objects, some cases leave their probabilities too,
from which objects are made with every candidate. Each fold keeps what it found, and the model's decision follows from
all its folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from msseg.checkpoint import FINAL
from msseg.data.cases import Case
from msseg.errors import DatasetError, MssegError
from msseg.files import content_hash, read_json, write_json
from msseg.inference.collectors import SHARE_STEPS
from msseg.inference.outputs import PredictedCase, shares_on_grid
from msseg.inference.prediction import Keep, has_one_foreground
from msseg.inference.predictor import DECISION_FILE, Predictor
from msseg.instances.decision import Decision, decision_to_json
from msseg.pipeline.reference import read_reference
from msseg.postprocessing.thresholds import (
    OBJECT_METRICS,
    PIXEL_METRICS,
    Choice,
    ShareCounts,
    Tallies,
    choose,
    count_shares,
    share_tallies,
)
from planning.plan import Plan

# What a fold's validation cases say about thresholds, in the fold's folder.
CANDIDATES = "decision_candidates.json"
CANDIDATES_VERSION = 1
NO_DECISION = "none"
METRICS = (*PIXEL_METRICS, *OBJECT_METRICS)

_PIXELS_DEFAULT, _OBJECTS_DEFAULT = "dice", "dsb2018"


def deciding_metric(plan: Plan, wish: str | None) -> str | None:
    """The metric that thresholds are chosen by, None where none are.

    By itself that is DSB2018's score for numbered objects, pooled Dice for images, and none for volumes. Raises
    MssegError for a metric that is unknown or not for this plan.
    """
    if wish is None:
        is_flat = all(one.dimensions == 2 for one in plan.configurations.values())
        wish = _OBJECTS_DEFAULT if plan.instances else _PIXELS_DEFAULT if is_flat else NO_DECISION
        return wish if wish != NO_DECISION and has_one_foreground(plan) else None
    if wish == NO_DECISION:
        return None
    if wish not in METRICS:
        raise MssegError(f"--decide-by {wish}: unknown; expected one of {', '.join((*METRICS, NO_DECISION))}.")
    if not has_one_foreground(plan):
        found = f"{len(plan.regions)} regions" if plan.regions else f"{len(plan.labels) - 1}"
        raise MssegError(f"--decide-by {wish}: for a single label, but the data set has {found}.")
    if wish in OBJECT_METRICS and plan.instances is None:
        raise MssegError(f"--decide-by {wish}: for data sets of numbered objects; expected {', '.join(PIXEL_METRICS)}.")
    return wish


def looks_for_objects(plan: Plan, wish: str | None) -> bool:
    """Whether objects are made with every candidate at the end of a fold; `wish` as of `deciding_metric`."""
    return plan.instances is not None and deciding_metric(plan, wish) is not None


@dataclass(frozen=True)
class ForegroundCounts:
    """An output of prediction: how probable the foreground was, by voxels inside and outside of the reference."""

    folder: Path
    keep: ClassVar[Keep] = Keep(shares=True)

    def path(self, case: Case) -> Path:
        return self.folder / f"{case.name}.foreground.json"

    def write(self, predictor: Predictor, one: PredictedCase) -> None:
        reference_path = one.case.label_path
        if reference_path is None:
            raise DatasetError(f"{one.case.image_paths[0]}: a validation case without a label. Put its label back.")
        shares, reference = shares_on_grid(one), read_reference(reference_path, predictor.model.plan)
        if shares.shape != reference.shape:
            raise DatasetError(f"{reference_path}: shape {reference.shape}, but its image is {shares.shape}.")
        counts = count_shares(shares, reference, SHARE_STEPS)
        write_json(self.path(one.case), {"inside": counts.inside.tolist(), "outside": counts.outside.tolist()})


@dataclass(frozen=True)
class Findings:
    """What validation cases say: counts of each, and for objects what each adds to the metrics for every candidate."""

    shares: Mapping[str, ShareCounts]
    candidates: tuple[Decision, ...] = ()
    objects: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] | None = None


def read_counts(output: ForegroundCounts, cases: Sequence[Case]) -> dict[str, ShareCounts]:
    """The counts that prediction has left, by case."""
    return {case.name: _counts_of(read_json(output.path(case), DatasetError)) for case in cases}


def write_findings(fold: Path, plan: Plan, findings: Findings) -> None:
    """Write what a fold found into its folder, with the hash of its weights."""
    record = {
        "version": CANDIDATES_VERSION,
        "checkpoint": content_hash(fold / FINAL),
        "labels": plan.labels,
        "cases": {
            name: {"inside": one.inside.tolist(), "outside": one.outside.tolist()}
            for name, one in findings.shares.items()
        },
        "candidates": [[one.foreground, one.seed, one.smallest_px] for one in findings.candidates],
        "objects": findings.objects,
    }
    write_json(fold / CANDIDATES, record)


def read_findings(fold: Path, plan: Plan) -> Findings | None:
    """What a fold found with the weights that it has now and these labels, None where that is nothing."""
    if not (fold / CANDIDATES).is_file() or not (fold / FINAL).is_file():
        return None
    record = read_json(fold / CANDIDATES)
    if record.get("version") != CANDIDATES_VERSION or record["labels"] != plan.labels:
        return None
    if record["checkpoint"] != content_hash(fold / FINAL):
        return None
    candidates = tuple(Decision(*thresholds) for thresholds in record["candidates"])
    shares = {name: _counts_of(counts) for name, counts in record["cases"].items()}
    return Findings(shares, candidates, record["objects"])


def _counts_of(record: Mapping[str, Any]) -> ShareCounts:
    return ShareCounts(*(np.array(record[side], np.int64) for side in ("inside", "outside")))


@dataclass(frozen=True)
class Decided:
    """A decision, and the figures that it was chosen by.

    `wanted` is the metric that was asked for where there was no time to look at it.
    """

    decision: Decision
    choice: Choice
    wanted: str = ""

    def summary(self) -> str:
        """One line for the end of the command."""
        one, decision = self.choice, self.decision
        found = f"above a probability of {decision.foreground:.3g}"
        if decision.metric in OBJECT_METRICS:
            found += f", seeds above {decision.seed:.3g}, objects of {decision.smallest_px} pixels or more"
        cases = f"{one.cases} validation case{'s' if one.cases != 1 else ''}"
        figures = f"{decision.metric} {one.value:.4f} on the {cases} that it was chosen on (optimistic)"
        if one.by_others is not None:
            figures += f", {one.by_others:.4f} with each case decided by the others"
        missed = f" No time was left to look at objects by {self.wanted}: give more." if self.wanted else ""
        return f"Decision: {found}. {figures}, {one.undecided:.4f} undecided.{missed}"


def decide(model: Path, plan: Plan, metric: str) -> Decided | None:
    """Write the model's decision, from all folds that have findings; None where none has."""
    found = [read_findings(fold, plan) for fold in sorted(model.glob("fold_*"))]
    findings = [one for one in found if one is not None]
    decided = decision_from(findings, metric) if any(one.shares for one in findings) else None
    if decided is not None:
        write_json(model / DECISION_FILE, decision_to_json(decided.decision))
    return decided


def decision_from(findings: Sequence[Findings], metric: str) -> Decided:
    """The decision by `metric`; by pooled Dice where it is of objects and there was no time to look at any.

    Where pixels decide the foreground, DSB2018's score decides the rest, as far as objects were looked at.
    """
    if metric in OBJECT_METRICS:
        by_objects = _by_objects(findings, metric, lambda _one: True)
        return by_objects or replace(decision_from(findings, _PIXELS_DEFAULT), wanted=metric)
    tallies = share_tallies([counts for one in findings for counts in one.shares.values()], metric)
    choice = choose(tallies, SHARE_STEPS // 2 - 1)
    foreground = (choice.index + 1) / SHARE_STEPS
    nearest = min((abs(one.foreground - foreground) for each in findings for one in each.candidates), default=0.0)
    by_objects = _by_objects(findings, _OBJECTS_DEFAULT, lambda one: abs(one.foreground - foreground) <= nearest + 1e-9)
    rest = by_objects.decision if by_objects else Decision()
    return Decided(Decision(foreground, rest.seed, rest.smallest_px, metric, choice.value), choice)


def _by_objects(findings: Sequence[Findings], metric: str, is_allowed: Callable[[Decision], bool]) -> Decided | None:
    """The best of the allowed candidates, over folds that looked at the same ones; None where none looked."""
    looked = [one for one in findings if one.objects]
    same = [one for one in looked if one.candidates == looked[0].candidates]
    if not same:
        return None
    allowed = [index for index, one in enumerate(same[0].candidates) if is_allowed(one)]
    cases = [case[metric] for one in same if one.objects for case in one.objects.values()]
    table = np.array(cases, float)[:, allowed]
    candidates = [same[0].candidates[index] for index in allowed]
    choice = choose(Tallies(table[..., 0], table[..., 1]), _nearest_to_default(candidates))
    chosen = candidates[choice.index]
    return Decided(Decision(chosen.foreground, chosen.seed, chosen.smallest_px, metric, choice.value), choice)


def _nearest_to_default(candidates: Sequence[Decision]) -> int:
    usual = Decision()
    return min(
        range(len(candidates)),
        key=lambda index: (
            abs(candidates[index].foreground - usual.foreground),
            abs(candidates[index].seed - usual.seed),
            candidates[index].smallest_px,
        ),
    )
