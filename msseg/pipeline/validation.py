"""The end of a fold: its validation cases predicted and evaluated like new ones, and the postprocessing chosen."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from msseg.checkpoint import FINAL
from msseg.data.cases import Case
from msseg.data.dataset import Dataset, read_dataset
from msseg.data.labels import LabelMap
from msseg.errors import DatasetError
from msseg.evaluation.evaluate import Evaluation, EvaluationOptions, evaluate_pairs, write_evaluation
from msseg.evaluation.pairs import Pair
from msseg.files import read_json, write_json
from msseg.folders import Task
from msseg.inference.folder import PredictionReport, output_path, predict_folder
from msseg.inference.predictor import DECISION_FILE, RULES_FILE, PredictionOptions, Predictor, load_predictor
from msseg.interrupts import StopRequest
from msseg.parallel import map_cases
from msseg.pipeline.decisions import NO_DECISION, Decided, deciding_metric
from msseg.pipeline.fold_decision import FoldDecision
from msseg.pipeline.model_header import weights_hash
from msseg.pipeline.speed_records import write_summary
from msseg.pipeline.speeds import SHARE_OF_TRAINING, TimeLimit, measure_fold
from msseg.postprocessing.decide import Score, choose_rules, class_dice, rules_score
from msseg.postprocessing.pair_tables import pair_table
from msseg.postprocessing.rules import write_rules
from msseg.postprocessing.tables import CaseTable, table_from_json, table_to_json
from msseg.training.job import TrainingJob

# Which weights and options the segmentations beside it are of.
ORIGIN = "predicted_with.json"
# What there is to know of each of a fold's validation cases to choose rules.
CANDIDATES = "postprocessing_candidates.json"
# Of a budget, for what comes after the last case.
_BUDGET_MARGIN_S = 1.0


@dataclass(frozen=True)
class Validation:
    """The evaluation of a fold's validation cases without a decision, and the decision where one was looked for."""

    evaluation: Evaluation
    decided: Decided | None = None


def validate_fold(
    task: Task,
    job: TrainingJob,
    trained_s: float,
    workers: int,
    quiet: bool,
    stop: StopRequest,
    decide_by: str | None = None,
) -> Validation | None:
    """The evaluation of the fold's validation cases, predicted with mirrors, without postprocessing and decision.

    Writes `validation/` (segmentations; objects where they are numbered), `validation.json` and `.csv` into the fold's
    folder, and the model's postprocessing rules and decision anew from all folds that are validated. `decide_by` is a
    metric, see `deciding_metric`. Segmentations of the same weights and options are kept. What is left of the job's
    budget, of which training took `trained_s`, is for looking for thresholds of objects and measuring the presets of
    speed. None where it was stopped. Raises DatasetError where the raw data set is gone or a case fails.
    """
    start = time.monotonic()
    dataset = read_dataset(task.raw, task.preprocessed)
    cases = _validation_cases(dataset, job.split.validation, task.raw)
    output, plan = job.folder / "validation", job.plan
    keep_outputs_of(job.folder / FINAL, output, PredictionOptions())
    predictor = load_predictor(
        job.folder.parent, job.device, [job.fold], postprocess=False, decide=False, out_of_fold=True
    )
    looking = FoldDecision.of(job.folder, plan, cases, deciding_metric(plan, decide_by))
    predicting = time.monotonic()
    report = _predict(predictor, cases, output, looking, quiet, stop)
    predicted_s = time.monotonic() - predicting
    if report.stopped:
        return None
    pairs = [Pair(case.name, output_path(case, output), case.label_path) for case in cases if case.label_path]
    evaluation = _evaluated(job.folder, dataset, pairs, workers)
    if plan.instances is None:
        references = replace(predictor.label_map, ignore=plan.ignore)
        choose_postprocessing(job.folder, pairs, references, workers, plan.has_spacing, rules_score(plan.regions))
    if decide_by == NO_DECISION:
        (job.folder.parent / DECISION_FILE).unlink(missing_ok=True)
    decided = looking.decide(_spare_s(job, trained_s, start), workers, quiet, lambda: stop.requested)
    if report.written:
        limit = TimeLimit(_spare_s(job, trained_s, start), predicted_s / len(report.written))
        measure_fold(predictor, job.folder, cases, limit=limit, quiet=quiet, stop=lambda: stop.requested)
    write_summary(job.folder.parent)
    return Validation(evaluation, decided)


def _predict(
    predictor: Predictor,
    cases: Sequence[Case],
    output: Path,
    looking: FoldDecision,
    quiet: bool,
    stop: StopRequest,
) -> PredictionReport:
    """Segmentations of all cases; those whose objects are looked at leave their probabilities too.

    Raises DatasetError where a case fails.
    """
    reports = [
        predict_folder(
            predictor,
            group,
            output,
            instances=predictor.model.plan.instances is not None,
            beside=beside,
            quiet=quiet,
            stop=lambda: stop.requested,
        )
        for group, beside in looking.groups(cases)
        if group
    ]
    failed = {name: reason for one in reports for name, reason in one.failed.items()}
    if failed:
        name, reason = next(iter(failed.items()))
        raise DatasetError(f"{output}: {len(failed)} validation cases failed; the first is {name}: {reason}")
    return PredictionReport(
        written=tuple(name for one in reports for name in one.written),
        skipped=tuple(name for one in reports for name in one.skipped),
        failed={},
        stopped=tuple(name for one in reports for name in one.stopped),
    )


def _evaluated(fold: Path, dataset: Dataset, pairs: Sequence[Pair], workers: int) -> Evaluation:
    """The evaluation of the pairs as the data set asks for it, written into the fold's folder."""
    options = EvaluationOptions(instances=dataset.instances, ignore=dataset.ignore)
    evaluation = evaluate_pairs(pairs, dataset.measured, options, workers)
    write_evaluation(evaluation, fold / "validation.json", fold / "validation.csv")
    return evaluation


def _spare_s(job: TrainingJob, trained_s: float, start: float) -> float:
    """Seconds for what is measured at the end: a share of the training's, and no more than its budget has left now."""
    share = SHARE_OF_TRAINING * trained_s
    if job.budget_s is None:
        return share
    return min(share, job.budget_s - trained_s - (time.monotonic() - start) - _BUDGET_MARGIN_S)


def keep_outputs_of(checkpoint: Path, output: Path, options: PredictionOptions) -> None:
    """Empty the folder `output` unless its segmentations are of `checkpoint` with `options`, and note that they are."""
    origin = {"checkpoint": weights_hash(checkpoint), "options": options.as_record()}
    if (output / ORIGIN).is_file() and read_json(output / ORIGIN) == origin:
        return
    if output.is_dir():
        shutil.rmtree(output)
    write_json(output / ORIGIN, origin)


def is_validated(fold: Path, names: Sequence[str]) -> bool:
    """Whether a fold's cases, called `names`, were all evaluated with the weights that it has now."""
    record, origin = fold / "validation.json", fold / "validation" / ORIGIN
    if not (record.is_file() and origin.is_file() and (fold / FINAL).is_file()):
        return False
    found = read_json(record)
    whole = not found["missing"] and not found["failed"] and {case["name"] for case in found["cases"]} == set(names)
    return whole and read_json(origin)["checkpoint"] == weights_hash(fold / FINAL)


def choose_postprocessing(
    fold: Path,
    pairs: Sequence[Pair],
    label_map: LabelMap,
    workers: int,
    has_spacing: bool = True,
    score: Score = class_dice,
) -> None:
    """Write the model's rules: those that raised the score on the validation cases of all its folds.

    Each fold keeps what it found in a file of its own, so that the cases of the others are not looked at again. Without
    `has_spacing` sizes count in voxels.
    """
    look = partial(pair_table, label_map=label_map, has_spacing=has_spacing)
    found = {}
    for pair, outcome in map_cases(look, pairs, workers):
        if outcome.value is None:
            raise outcome.error or RuntimeError(f"{pair.name}: looked at without a result")
        found[pair.name] = table_to_json(outcome.value)
    write_json(fold / CANDIDATES, {"labels": list(label_map.values), "tables": found})
    folds = case_tables(fold.parent, label_map).values()
    rules = choose_rules([table for tables in folds for table in tables.values()], score)
    write_rules(fold.parent / RULES_FILE, rules)


def case_tables(model: Path, label_map: LabelMap) -> dict[str, dict[str, CaseTable]]:
    """The tables of the validated cases by fold and name; those of another data set's labels say nothing here."""
    found = {}
    for path in sorted(model.glob(f"fold_*/{CANDIDATES}")):
        value = read_json(path)
        if value["labels"] == list(label_map.values):
            tables = value.get("tables", {})
            found[path.parent.name] = {name: table_from_json(one) for name, one in tables.items()}
    return found


def _validation_cases(dataset: Dataset, names: Sequence[str], raw: Path) -> list[Case]:
    cases = [case for case in dataset.training if case.name in set(names)]
    missing = sorted(set(names) - {case.name for case in cases})
    if missing:
        raise DatasetError(f"{raw}: validation cases are gone ({', '.join(missing[:3])}). Put them back.")
    return cases
