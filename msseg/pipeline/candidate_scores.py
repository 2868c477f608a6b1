"""What a model or an ensemble is worth on cases that it has not seen, decisions and rules chosen on other folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from msseg.challenges.table import find_challenge
from msseg.data.cases import Case
from msseg.errors import DatasetError
from msseg.evaluation.bootstrap import Sample, Tally, mean_tally
from msseg.evaluation.case import CaseMetrics, EvaluationOptions, LabelValues, members_of
from msseg.inference.collectors import SHARE_STEPS
from msseg.parallel import map_cases
from msseg.pipeline.cross_validation import CrossValidation, Folds
from msseg.pipeline.decisions import Findings, deciding_metric, decision_from
from msseg.pipeline.object_search import CANDIDATES
from msseg.pipeline.out_of_fold_scores import (
    Measuring,
    ScoredCase,
    Treatment,
    look_at_rules,
    look_at_thresholds,
    measure,
    scored_path,
)
from msseg.postprocessing.decide import Score, choose_rules, class_dice, dice_of, rules_score
from msseg.postprocessing.rules import Rule
from msseg.postprocessing.thresholds import OBJECT_METRICS
from msseg.progress import progress
from planning.plan import Plan
from planning.regions import measured_labels

_ALL = "all"
_DICE = "dice"
_OBJECTS = "dsb2018"

Terms = Callable[[Sequence[CaseMetrics]], Sequence[Mapping[str, float | None]]]


@dataclass(frozen=True)
class TaskMetric:
    """What candidates are ranked by, higher is better: how cases are measured, and the figure that they make.

    `score` is what postprocessing rules are chosen by, `deciding` the metric of thresholds, None without any.
    """

    name: str
    measuring: Measuring
    sample: Callable[[Sequence[CaseMetrics]], Sample]
    score: Score = class_dice
    deciding: str | None = None


@dataclass(frozen=True)
class Scored:
    """A candidate on its out-of-fold cases: `plain`, and with decision and rules, which stand in `treatment`.

    For `nested` they were chosen on the other folds, for `optimistic` on the cases themselves, too.
    """

    members: tuple[CrossValidation, ...]
    plain: Sample
    nested: Sample
    optimistic: Sample
    found: Treatment

    @property
    def is_treated(self) -> bool:
        """Whether decision and rules are kept: where they gain on cases that they were not chosen on."""
        return self.nested.figure() > self.plain.figure()

    @property
    def treatment(self) -> Treatment:
        """What is done with the probabilities of new cases."""
        return self.found if self.is_treated else Treatment()

    @property
    def sample(self) -> Sample:
        """The cases that the candidate's figure is made of."""
        return self.nested if self.is_treated else self.plain


def task_metric(plan: Plan, challenge: str | None = None, decide_by: str | None = None) -> TaskMetric:
    """The task's own metric, or that of a challenge; DatasetError for a challenge whose ranking is not known.

    Mean Dice of the regions, else of the labels; of numbered objects the metric of objects that thresholds are chosen
    by. `decide_by` is as of `deciding_metric`, which raises MssegError.
    """
    return replace(_ranking(plan, challenge, decide_by), deciding=deciding_metric(plan, decide_by))


def _ranking(plan: Plan, challenge: str | None, decide_by: str | None) -> TaskMetric:
    labels: Mapping[str, LabelValues] = measured_labels(plan.labels, plan.regions)
    if plan.instances is not None:
        labels = {plan.instances.name: plan.instances.value}
    is_objects = plan.instances is not None
    if challenge is not None:
        return _challenge_metric(plan, challenge, labels)
    options = EvaluationOptions(surfaces=False, instances=is_objects)
    if is_objects:
        wish = deciding_metric(plan, decide_by)
        name = wish if wish is not None and wish in OBJECT_METRICS else _OBJECTS
        return TaskMetric(name, Measuring(plan, labels, options), partial(_object_tally, metric=name))
    sample = partial(_dice_tally, labels=tuple(labels))
    return TaskMetric(_DICE, Measuring(plan, labels, options), sample, rules_score(plan.regions))


def _challenge_metric(plan: Plan, challenge: str, labels: Mapping[str, LabelValues]) -> TaskMetric:
    metric = find_challenge(challenge).metric
    if metric is None:
        raise DatasetError(f"--challenge {challenge}: it does not rank label maps of single cases. Leave it out.")
    regions = metric.labels(labels)
    options = replace(metric.options(), surfaces=False, instances=plan.instances is not None)
    index_of = {value: index for index, value in enumerate(plan.labels.values())}
    targets = [[index_of[one] for one in members_of(values) if one in index_of] for values in regions.values()]
    known = [target for target in targets if target]
    chosen_by = dice_of(known) if known and plan.instances is None else class_dice
    sample = partial(_term_tally, terms=metric.terms)
    return TaskMetric(challenge, Measuring(plan, regions, options), sample, chosen_by)


def score(
    members: Sequence[CrossValidation],
    folds: Folds,
    cases: Mapping[str, Case],
    metric: TaskMetric,
    workers: int = 1,
    quiet: bool = True,
    executor: Executor | None = None,
) -> Scored:
    """A model, or the mean of several, on every case; probabilities must be there. A case's error is raised."""
    plan = members[0].plan
    items = [
        ScoredCase(
            name,
            fold,
            tuple(scored_path(one.folder, fold, name) for one in members),
            _reference(cases[name]),
        )
        for fold, names in folds.validation.items()
        for name in names
    ]
    name, items = " + ".join(one.name for one in members), sorted(items, key=lambda item: item.name)
    work = _Work(name, items, workers, quiet, executor)
    found = _treatments(work, plan, metric, list(folds.validation))
    treatments = {fold: (Treatment(), found[fold], found[_ALL]) for fold in folds.validation}
    measured = work.done(partial(measure, measuring=metric.measuring, treatments=treatments), "measure")
    plain, nested, optimistic = (metric.sample(its) for its in zip(*measured.values(), strict=True))
    return Scored(tuple(members), plain, nested, optimistic, found[_ALL])


@dataclass(frozen=True)
class _Work:
    """A candidate's cases, and who looks at them."""

    name: str
    items: Sequence[ScoredCase]
    workers: int
    quiet: bool
    executor: Executor | None = None

    def done(self, look: Callable[[ScoredCase], Any], what: str) -> dict[str, Any]:
        """What a look gives, by case in their order; a case's error is raised."""
        found = {}
        outcomes = map_cases(look, self.items, self.workers, self.executor)
        for item, outcome in progress(outcomes, f"{what} {self.name}", len(self.items), quiet=self.quiet):
            if outcome.error is not None:
                raise outcome.error
            found[item.name] = outcome.value
        return {item.name: found[item.name] for item in self.items}


def _treatments(work: _Work, plan: Plan, metric: TaskMetric, folds: Sequence[str]) -> dict[str, Treatment]:
    """For each fold what is chosen on the others, nothing where there is no other; for all what all cases choose."""
    chosen_on = {_ALL: [item.name for item in work.items]}
    chosen_on |= {fold: [item.name for item in work.items if item.fold != fold] for fold in folds}
    treatments = {key: Treatment() for key in chosen_on}
    if metric.deciding is not None:
        looked = work.done(partial(look_at_thresholds, plan=plan, steps=SHARE_STEPS), "decide")
        for key, names in chosen_on.items():
            if names:
                treatments[key] = Treatment(decision_from([_findings(looked, names)], metric.deciding).decision)
    if plan.instances is None:
        thresholds = sorted({one.threshold for one in treatments.values()}, key=lambda one: one or 0.0)
        tables = work.done(partial(look_at_rules, plan=plan, thresholds=thresholds), "postprocess")
        for key, names in chosen_on.items():
            its = treatments[key]
            rules: list[Rule] = choose_rules([tables[name][its.threshold] for name in names], metric.score)
            treatments[key] = Treatment(its.decision, tuple(rules))
    return treatments


def _findings(looked: Mapping[str, Any], names: Sequence[str]) -> Findings:
    shares = {name: looked[name][0] for name in names}
    objects = {name: looked[name][1] for name in names if looked[name][1] is not None}
    return Findings(shares, CANDIDATES if objects else (), objects or None)


def _reference(case: Case) -> Path:
    assert case.label_path is not None
    return case.label_path


def _dice_tally(cases: Sequence[CaseMetrics], labels: Sequence[str]) -> Tally:
    values = [[case.labels[label].values[_DICE] for label in labels] for case in cases]
    return mean_tally(np.array([[np.nan if one is None else one for one in row] for row in values], float))


def _term_tally(cases: Sequence[CaseMetrics], terms: Terms) -> Tally:
    """The tally of what each case adds by name; a case that lacks a name does not count there."""
    rows = terms(cases)
    names = sorted({name for row in rows for name in row})
    values = [[row.get(name) for name in names] for row in rows]
    return mean_tally(np.array([[np.nan if one is None else one for one in row] for row in values], float))


def _object_tally(cases: Sequence[CaseMetrics], metric: str) -> Tally:
    counts = [case.objects.counts for case in cases if case.objects is not None]
    sums = np.array([OBJECT_METRICS[metric](one) for one in counts], float).reshape(len(counts), 2)
    return Tally(sums[:, :1], sums[:, 1:])
