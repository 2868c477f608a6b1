"""From trained folds to the final model of a task: everything compared on cases that it has not seen."""

from __future__ import annotations

import itertools
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msseg.data.cases import Case
from msseg.data.dataset import Dataset, read_dataset
from msseg.errors import DatasetError, MssegError
from msseg.evaluation.bootstrap import CONFIDENCE, DRAWS, SEED, Interval, groups_in_order
from msseg.evaluation.comparison import CHOICES, Candidate, Choice, Row, compare, nested_figure
from msseg.evaluation.tables import aligned
from msseg.folders import Task, find_task, project_root
from msseg.interrupts import StopRequest
from msseg.parallel import default_workers
from msseg.pipeline.candidate_scores import Scored, score, task_metric
from msseg.pipeline.cross_validation import (
    CrossValidation,
    Folds,
    cross_validations,
    nothing_complete,
    read_folds,
)
from msseg.pipeline.explain_find_best import Limits, limits_of
from msseg.pipeline.inference_file import INFERENCE_FILE, Inference, Member, write_inference
from msseg.pipeline.out_of_fold import Where, make_probabilities

SIMPLEST = "simplest"
_NOTHING = "–"


@dataclass(frozen=True)
class FindBestOptions:
    """What is compared and how it is chosen.

    `challenge` names the ranking that takes the place of the task's own metric. `prefer` is a name of `CHOICES`.
    Without `ensembles` single models alone are compared. `decide_by` names the metric that thresholds of a model of one
    label are chosen by, see `deciding_metric`.
    """

    challenge: str | None = None
    prefer: str = SIMPLEST
    ensembles: bool = True
    draws: int = DRAWS
    decide_by: str | None = None


@dataclass(frozen=True)
class FindBestReport:
    """The comparison, best first, and what was chosen; nothing of it where the work was `stopped`.

    `incomplete` are models that were left out. `nested` is the figure where choosing is nested as well.
    """

    task: str
    metric: str
    cases: int
    groups: int
    incomplete: tuple[CrossValidation, ...] = ()
    rows: tuple[Row, ...] = ()
    scored: Mapping[str, Scored] | None = None
    choice: Choice | None = None
    nested: float = math.nan
    path: Path | None = None

    @property
    def stopped(self) -> bool:
        return self.path is None

    def summary(self) -> str:
        """Lines for the end of the command: table, choice with its reason, the command for prediction."""
        lines = [one.summary() for one in self.incomplete]
        if self.path is None or self.choice is None or self.scored is None:
            return "\n".join([*lines, "Stopped. Run the same command again to go on."])
        units = f"{self.cases} cases" if self.groups == self.cases else f"{self.cases} cases of {self.groups} groups"
        lines += [
            f"{self.metric} on {units}, each left out by the fold that predicted it; "
            f"intervals of {CONFIDENCE:.0%}, paired differences:",
            self._table(self.scored),
            f"Chosen: {self.choice.name}. {self.choice.reason}",
            _treatment_words(self.scored[self.choice.name]),
        ]
        if not math.isnan(self.nested):
            lines.append(f"With the choice itself made on the other folds: {self.nested:.4f}.")
        command = f"msseg_predict -i IMAGES -o SEGMENTATIONS --inference {shlex.quote(str(self.path))}"
        return "\n".join([*lines, f"Written: {self.path}. Predict with it:", f"  {command}"])

    def _table(self, scored: Mapping[str, Scored]) -> str:
        headings = ["model", self.metric, "interval", "to the best", "interval", "untreated", "treatment"]
        return aligned(headings, [_row(row, scored[row.name]) for row in self.rows])


def find_best(
    task: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    options: FindBestOptions | None = None,
    device: str = "auto",
    workers: int | None = None,
    quiet: bool = True,
    stop: StopRequest | None = None,
    max_ram: int | None = None,
    executor: Executor | None = None,
) -> FindBestReport:
    """Compare all models of a task whose folds leave out every case, and their pairs; write `inference.json`.

    Probabilities of cases are made where they are missing and kept. `max_ram` bounds the bytes of main memory of all
    processes together. The workers of an `executor` predict, each on its own `device`, and look at cases. Raises
    CheckpointError where no model is complete, DatasetError where the task has no folds or its cases are gone,
    MssegError for an unknown preference or metric, ResourceError where the least does not fit `max_ram`.
    """
    options = options or FindBestOptions()
    if options.prefer not in CHOICES:
        raise MssegError(f"--prefer {options.prefer}: unknown; expected one of {', '.join(CHOICES)}.")
    place, stop = find_task(os.fspath(task), project_root(root)), stop or StopRequest()
    folds, dataset = read_folds(place), read_dataset(place.raw, place.preprocessed)
    models, incomplete = _models(place, folds, dataset)
    metric = task_metric(models[0].plan, options.challenge, options.decide_by)
    cases, workers = _cases(dataset, folds, place), workers or default_workers()
    groups = groups_in_order(folds.cases, folds.groups)
    report = FindBestReport(place.name, metric.name, len(folds.cases), len(set(groups)), incomplete)
    limits = Limits({}, workers)
    if max_ram is not None:
        limits = limits_of(models, folds, cases, device, options.ensembles, workers, max_ram)
    for model in models:
        where = Where(device, executor, limits.max_bytes.get(model.name))
        if not make_probabilities(model, folds, cases, where, quiet, stop):
            return report
    scored: dict[str, Scored] = {}
    for members in _candidates(models, options.ensembles):
        if stop.requested:
            return report
        one = score(members, folds, cases, metric, limits.workers, quiet, executor)
        scored[" + ".join(member.name for member in members)] = one
    report = _chosen(replace(report, scored=scored), folds, groups, options)
    return _written(report, place, folds, options)


def _models(place: Task, folds: Folds, dataset: Dataset) -> tuple[list[CrossValidation], tuple[CrossValidation, ...]]:
    """The models whose folds leave out every case, and those that lack something; CheckpointError without the first."""
    found = [_with_labels_of(dataset, one) for one in cross_validations(place, folds)]
    incomplete = tuple(one for one in found if not one.complete)
    if len(incomplete) == len(found):
        raise nothing_complete(place, incomplete)
    return [one for one in found if one.complete], incomplete


def _chosen(report: FindBestReport, folds: Folds, groups: Sequence[str], options: FindBestOptions) -> FindBestReport:
    candidates = [
        Candidate(
            tuple(member.name for member in one.members),
            one.sample,
            before=sum(member.is_cascade for member in one.members),
        )
        for one in (report.scored or {}).values()
    ]
    rows, choose = compare(candidates, groups, options.draws), CHOICES[options.prefer]
    fold_of = [folds.fold_of(name) for name in folds.cases]
    nested = nested_figure(candidates, fold_of, groups, choose, options.draws)
    return replace(report, rows=tuple(rows), choice=choose(rows), nested=nested)


def _written(report: FindBestReport, place: Task, folds: Folds, options: FindBestOptions) -> FindBestReport:
    """The report with its file, which is written."""
    assert report.scored is not None and report.choice is not None
    chosen = report.scored[report.choice.name]
    inference = Inference(
        members=tuple(Member(one.folder, tuple(folds.validation)) for one in chosen.members),
        rules=chosen.treatment.rules,
        decision=chosen.treatment.decision,
        metric=report.metric,
        figures=_figures(report, report.scored, report.choice, options),
    )
    path = place.models / INFERENCE_FILE
    write_inference(path, inference)
    return replace(report, path=path)


def _candidates(models: Sequence[CrossValidation], ensembles: bool) -> list[tuple[CrossValidation, ...]]:
    singles: list[tuple[CrossValidation, ...]] = [(one,) for one in models]
    return [*singles, *itertools.combinations(models, 2)] if ensembles else singles


def _with_labels_of(dataset: Dataset, model: CrossValidation) -> CrossValidation:
    """The model, lacking where the data set has other labels or regions now."""
    is_same = list(model.plan.labels.items()) == list(dataset.class_names.items())
    if is_same and model.plan.regions == dataset.planned_regions:
        return model
    again = (
        f"msseg_plan_and_preprocess {dataset.name}",
        f"msseg_train {dataset.name} FOLD --restart (as {model.name})",
    )
    why = "trained with other labels or regions than the data set has now"
    return replace(model, lacking={"all": why}, commands=again)


def _cases(dataset: Dataset, folds: Folds, place: Task) -> dict[str, Case]:
    cases = {case.name: case for case in dataset.training}
    gone = [name for name in folds.cases if name not in cases or cases[name].label_path is None]
    if gone:
        raise DatasetError(f"{place.raw}: cases or their labels are gone ({', '.join(gone[:3])}). Put them back.")
    return cases


def _row(row: Row, one: Scored) -> list[str]:
    return [
        row.name,
        _number(row.figure.value),
        _bounds(row.figure, ".4f"),
        _number(row.to_best.value, "+.4f"),
        _bounds(row.to_best, "+.4f"),
        _number(one.plain.figure()),
        _short(one),
    ]


def _number(value: float, how: str = ".4f") -> str:
    return _NOTHING if math.isnan(value) else format(value, how)


def _bounds(one: Interval, how: str) -> str:
    return _NOTHING if math.isnan(one.lower) else f"{one.lower:{how}} to {one.upper:{how}}"


def _short(one: Scored) -> str:
    """What is done with the probabilities, in a word or two."""
    found = one.found
    parts = ["thresholds"] if found.decision is not None and found.decision.metric else []
    parts += [f"{len(found.rules)} rule{'s' if len(found.rules) > 1 else ''}"] if found.rules else []
    if not parts:
        return "none"
    return " and ".join(parts) + ("" if one.is_treated else " (no gain, left out)")


def _treatment_words(one: Scored) -> str:
    """What is done with the chosen model's probabilities, with figures."""
    plain, nested, optimistic = (sample.figure() for sample in (one.plain, one.nested, one.optimistic))
    figures = f"{plain:.4f} without, {nested:.4f} chosen on the other folds, {optimistic:.4f} on the same cases"
    if not one.is_treated:
        return f"No postprocessing: it gains nothing on cases that it was not chosen on ({figures})."
    words = [] if one.treatment.decision is None else [f"foreground above {one.treatment.decision.foreground:.3g}"]
    words += [str(rule) for rule in one.treatment.rules]
    return f"Postprocessing: {'; '.join(words)} ({figures})."


def _figures(
    report: FindBestReport, scored: Mapping[str, Scored], choice: Choice, options: FindBestOptions
) -> dict[str, Any]:
    """All figures as JSON values; what is not defined is null."""
    return {
        "task": report.task,
        "cases": report.cases,
        "groups": report.groups,
        "confidence": CONFIDENCE,
        "draws": options.draws,
        "seed": SEED,
        "prefer": options.prefer,
        "chosen": choice.name,
        "best": choice.best,
        "reason": choice.reason,
        "with_nested_choice": _known(report.nested),
        "candidates": [_candidate_figures(row, scored[row.name]) for row in report.rows],
    }


def _candidate_figures(row: Row, one: Scored) -> dict[str, Any]:
    return {
        "members": list(row.members),
        "figure": _known(row.figure.value),
        "interval": [_known(row.figure.lower), _known(row.figure.upper)],
        "to_best": _known(row.to_best.value),
        "to_best_interval": [_known(row.to_best.lower), _known(row.to_best.upper)],
        "untreated": _known(one.plain.figure()),
        "nested": _known(one.nested.figure()),
        "optimistic": _known(one.optimistic.figure()),
        "treated": one.is_treated,
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
