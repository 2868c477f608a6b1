"""A folder of segmentations against a folder of references: read, measured, gathered, written down."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from msseg.errors import DatasetError, MssegError
from msseg.evaluation.case import (
    METRICS,
    CaseMetrics,
    EvaluationOptions,
    LabelMetrics,
    LabelValues,
    evaluate_case,
    measure_case,
    the_label,
)
from msseg.evaluation.challenge_summary import ChallengeSummary, summarise_challenge
from msseg.evaluation.label_names import (
    has_instances_beside,
    ignored_beside,
    labels_beside,
    labels_found,
    split_ignored,
)
from msseg.evaluation.object_summary import ObjectSummary, object_summary_to_json, objects_to_json, summarise_objects
from msseg.evaluation.objects import OBJECT_METRICS, ObjectMetrics
from msseg.evaluation.pairs import Pair, pair_files
from msseg.evaluation.rankings import find_ranking, ranking_labels
from msseg.evaluation.summary import LabelSummary, foreground_mean, summarise
from msseg.files import atomic_path, write_json
from msseg.parallel import Outcome, map_cases

__all__ = [
    "CaseMetrics",
    "Evaluation",
    "EvaluationOptions",
    "LabelMetrics",
    "evaluate_case",
    "evaluate_folder",
    "evaluate_pairs",
    "evaluation_to_json",
    "gather",
    "measure_case",
    "write_evaluation",
]

Outcomes = Iterable[tuple[Pair, Outcome[CaseMetrics]]]
Watch = Callable[[Outcomes, int], Iterator[tuple[Pair, Outcome[CaseMetrics]]]]


@dataclass(frozen=True)
class Evaluation:
    """All figures of a set of cases.

    `missing` are cases with a reference but no prediction, `failed` those that could not be measured, with the
    reason: neither is in any mean. `unexpected` are predictions without a reference. `objects` is None where no
    objects were measured, `challenge` where no challenge was named in the options.
    """

    labels: Mapping[str, LabelValues]
    options: EvaluationOptions
    cases: tuple[CaseMetrics, ...]
    missing: tuple[str, ...]
    failed: Mapping[str, str]
    unexpected: tuple[str, ...]
    summary: Mapping[str, LabelSummary]
    mean_foreground: Mapping[str, float | None]
    pooled_foreground: Mapping[str, float | None]
    objects: ObjectSummary | None = None
    challenge: ChallengeSummary | None = None

    @property
    def has_spacing(self) -> bool:
        """False where distances are in pixels, no case having a spacing."""
        return any(case.has_spacing for case in self.cases) or not self.cases

    @property
    def complete(self) -> bool:
        """True where every reference had a prediction and every pair was measured."""
        return not self.missing and not self.failed


def evaluate_folder(
    prediction_folder: Path,
    reference_folder: Path,
    labels: Mapping[str, LabelValues] | None = None,
    options: EvaluationOptions | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    watch: Watch | None = None,
) -> Evaluation:
    """The evaluation of every case that has a reference; missing and failed cases are named in it.

    `labels` None takes those of a `dataset.json` in or above the reference folder, else the values that the
    references hold; a challenge in the options has regions of its own. Whether the files number objects is found out
    where `options.instances` is None (see `has_instances_beside`). A label named "ignore", among `labels` or in the
    `dataset.json`, is what `options.ignore` is by default. `watch(outcomes, total)` passes the outcomes through, for a
    progress bar. Raises DatasetError where a folder or every prediction is missing.
    """
    options = options or EvaluationOptions()
    labels, given = (None, None) if labels is None else split_ignored(labels)
    if options.ignore is None:
        options = replace(options, ignore=ignored_beside(reference_folder) if given is None else given)
    pairing = pair_files(prediction_folder, reference_folder)
    if not pairing.pairs:
        raise DatasetError(
            f"{prediction_folder}: none of its files has the name of a reference in {reference_folder} "
            f"(looked for {', '.join(pairing.missing[:3])}, …). Give the folder of the segmentations."
        )
    challenge = options.challenge
    if challenge is not None:
        options = replace(options, instances=options.instances or find_ranking(challenge).objects or None)
        labels = ranking_labels(challenge, labels or labels_beside(reference_folder))
    if options.instances is None:
        may_be = labels is None or sum(values != 0 for values in labels.values()) == 1
        options = replace(options, instances=may_be and has_instances_beside(reference_folder))
    if labels is None:
        labels = labels_beside(reference_folder) or _labels_of(pairing.pairs, options)
    return evaluate_pairs(pairing.pairs, labels, options, workers, executor, watch, pairing.missing, pairing.unexpected)


def evaluate_pairs(
    pairs: Sequence[Pair],
    labels: Mapping[str, LabelValues],
    options: EvaluationOptions | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    watch: Watch | None = None,
    missing: Sequence[str] = (),
    unexpected: Sequence[str] = (),
) -> Evaluation:
    """The evaluation of prediction and reference files that are paired already; a label of value 0 is left out."""
    labels = {name: values for name, values in labels.items() if values != 0}
    options = options or EvaluationOptions()
    if options.instances:
        the_label(labels)
    measure = partial(_evaluate_pair, labels=labels, options=options)
    outcomes: Outcomes = map_cases(measure, pairs, workers, executor)
    if watch is not None:
        outcomes = watch(outcomes, len(pairs))
    cases, failed = _sorted_out(outcomes)
    return gather(cases, labels, options, missing, failed, unexpected)


def gather(
    cases: Iterable[CaseMetrics],
    labels: Mapping[str, LabelValues],
    options: EvaluationOptions | None = None,
    missing: Iterable[str] = (),
    failed: Mapping[str, str] | None = None,
    unexpected: Iterable[str] = (),
) -> Evaluation:
    """The evaluation that measured cases add up to, in the order of their names."""
    ordered = tuple(sorted(cases, key=lambda case: case.name))
    summary = {label: summarise(ordered, label) for label in labels}
    options, objects = options or EvaluationOptions(), summarise_objects(ordered)
    ranked = (labels, options.tolerance_mm, objects)
    return Evaluation(
        labels=dict(labels),
        options=options,
        cases=ordered,
        missing=tuple(missing),
        failed=dict(sorted((failed or {}).items())),
        unexpected=tuple(unexpected),
        summary=summary,
        mean_foreground=foreground_mean(one.mean for one in summary.values()),
        pooled_foreground=foreground_mean(one.pooled for one in summary.values()),
        objects=objects,
        challenge=None if options.challenge is None else summarise_challenge(ordered, options.challenge, *ranked),
    )


def _labels_of(pairs: Sequence[Pair], options: EvaluationOptions) -> Mapping[str, LabelValues]:
    """A label a value of the references, or the one of all their objects."""
    if options.instances:
        return {"object": 1}
    found = labels_found(pair.reference for pair in pairs)
    return {name: value for name, value in found.items() if value != options.ignore}


def _evaluate_pair(pair: Pair, labels: Mapping[str, LabelValues], options: EvaluationOptions) -> CaseMetrics:
    return evaluate_case(pair.prediction, pair.reference, labels, options, pair.name)


def _sorted_out(outcomes: Outcomes) -> tuple[list[CaseMetrics], dict[str, str]]:
    cases, failed = [], {}
    for pair, outcome in outcomes:
        if outcome.value is not None:
            cases.append(outcome.value)
        elif isinstance(outcome.error, MssegError):
            failed[pair.name] = str(outcome.error)
        else:
            failed[pair.name] = f"{pair.prediction}: {type(outcome.error).__name__}: {outcome.error}"
    return cases, failed


def evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as a JSON value; what is not defined, and infinity, is null."""
    value = {
        "labels": dict(evaluation.labels),
        "options": {
            name: one for name, one in asdict(evaluation.options).items() if name != "ignore" or one is not None
        },
        "mean_foreground": dict(evaluation.mean_foreground),
        "pooled_foreground": dict(evaluation.pooled_foreground),
        "summary": {label: asdict(summary) for label, summary in evaluation.summary.items()},
        **({} if evaluation.objects is None else {"objects": object_summary_to_json(evaluation.objects)}),
        **({} if evaluation.challenge is None else {"challenge": asdict(evaluation.challenge)}),
        "missing": list(evaluation.missing),
        "failed": dict(evaluation.failed),
        "unexpected": list(evaluation.unexpected),
        "cases": [_case_to_json(case) for case in evaluation.cases],
    }
    return _finite_or_null(value)


def _case_to_json(case: CaseMetrics) -> dict[str, Any]:
    labels = {
        name: {
            **one.values,
            "prediction_ml": one.prediction_ml,
            "reference_ml": one.reference_ml,
            "counts": asdict(one.counts),
        }
        for name, one in case.labels.items()
    }
    objects = {} if case.objects is None else {"objects": objects_to_json(case.objects)}
    challenge = {} if case.challenge is None else {"challenge": case.challenge}
    return {"name": case.name, "labels": labels, **objects, **challenge, "undeclared": case.undeclared}


def _finite_or_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite_or_null(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_null(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


CSV_COLUMNS = (
    "case",
    "label",
    *METRICS,
    "nsd_tolerance_mm",
    "prediction_ml",
    "reference_ml",
    "true_positive_voxels",
    "false_positive_voxels",
    "false_negative_voxels",
)
OBJECT_COLUMNS = (*OBJECT_METRICS, "predicted_objects", "reference_objects")


def write_evaluation(evaluation: Evaluation, json_path: Path | None, csv_path: Path | None = None) -> None:
    """Write the evaluation as JSON and as CSV (a row per case and label, empty where not defined), atomically.

    `OBJECT_COLUMNS` follow `CSV_COLUMNS` where objects were measured, then a challenge's metrics as `challenge_…`.
    """
    if json_path is not None:
        write_json(json_path, evaluation_to_json(evaluation))
    if csv_path is not None:
        with atomic_path(csv_path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            rows = csv.writer(stream)
            objects = () if evaluation.objects is None else OBJECT_COLUMNS
            rows.writerow((*CSV_COLUMNS, *objects, *(f"challenge_{name}" for name in _ranked_metrics(evaluation))))
            rows.writerows(_csv_rows(evaluation))


def _csv_rows(evaluation: Evaluation) -> Iterator[list[Any]]:
    for case in evaluation.cases:
        for label, one in case.labels.items():
            values = [one.values.get(name) for name in METRICS]
            counts = [one.counts.true_positive, one.counts.false_positive, one.counts.false_negative]
            volumes = [one.prediction_ml, one.reference_ml]
            row = [case.name, label, *values, evaluation.options.tolerance_mm, *volumes, *counts]
            objects = [] if case.objects is None else _object_fields(case.objects)
            ranked = {} if case.challenge is None else case.challenge[label]
            yield [*row, *objects, *(ranked.get(name) for name in _ranked_metrics(evaluation))]


def _ranked_metrics(evaluation: Evaluation) -> tuple[str, ...]:
    challenge = evaluation.options.challenge
    return () if challenge is None else find_ranking(challenge).metrics


def _object_fields(objects: ObjectMetrics) -> list[Any]:
    values = [objects.values[name] for name in OBJECT_METRICS]
    return [*values, objects.counts.predicted, objects.counts.expected]
