"""Prediction by many workers: each loads the model once and segments one case after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from msseg.data.cases import Case, find_images
from msseg.errors import MssegError
from msseg.inference.folder import PredictionReport, in_words, predict_folder
from msseg.inference.predictor import PredictionOptions, Predictor
from msseg.interrupts import StopRequest
from msseg.parallel import map_cases
from msseg.pipeline.out_of_fold_scores import Treatment
from msseg.pipeline.prediction import RECORD, OutputWish, load_predictor, record_origin
from msseg.progress import progress


@dataclass(frozen=True)
class PredictionJob:
    """What a worker must know to segment a case; called with one, it writes its outputs and reports.

    `treatment` takes the place of the model's decision and rules. Without `labels` no label map is written. With
    `out_of_fold` the first model of a cascade answers with the same folds. `run` is of one command alone, so that a
    worker that outlives it does not use a model which has changed since.
    """

    model: Path
    folds: tuple[str, ...] | None
    options: PredictionOptions | None
    postprocess: bool
    device: str
    outputs: OutputWish
    output_folder: Path
    overwrite: bool = False
    treatment: Treatment | None = None
    labels: bool = True
    out_of_fold: bool = False
    run: str = field(default_factory=lambda: uuid4().hex)

    def __call__(self, case: Case) -> PredictionReport:
        return predict_folder(
            loaded(self),
            [case],
            self.output_folder,
            instances=self.outputs.instances,
            labels=self.labels,
            beside=self.outputs.beside(self.output_folder),
            overwrite=self.overwrite,
            quiet=True,
        )


@lru_cache(maxsize=1)
def loaded(job: PredictionJob) -> Predictor:
    """The predictor of a job, kept in this process until another job's takes its place."""
    options, decide = job.options, job.outputs.decide
    predictor = load_predictor(
        job.model, None, None, job.folds, options, job.postprocess, job.device, decide, job.out_of_fold
    )
    predictor = job.outputs.applied_to(predictor)
    if job.treatment is None:
        return predictor
    return replace(predictor, rules=job.treatment.rules, decision=job.treatment.decision)


def predict_folder_on(
    executor: Executor,
    job: PredictionJob,
    images: Path,
    channels: int,
    made_with: Mapping[str, Any],
    quiet: bool,
    stop: StopRequest,
) -> PredictionReport:
    """What became of each case of a folder. Where a stop is asked for, cases that have not ended are left."""
    cases, problems = find_images(images, channels)
    record_origin(job.output_folder / RECORD, made_with, job.overwrite)
    report = predict_cases_on(executor, job, cases, quiet, stop)
    broken = {one.case: in_words(one) for one in problems if one.severity == "error"}
    return replace(report, failed={**broken, **report.failed})


def predict_cases_on(
    executor: Executor, job: PredictionJob, cases: Sequence[Case], quiet: bool, stop: StopRequest
) -> PredictionReport:
    """What became of each case. Where a stop is asked for, cases that have not ended are left."""
    failed: dict[str, str] = {}
    written: list[str] = []
    skipped: list[str] = []
    outcomes = map_cases(job, cases, workers=1, executor=executor)
    for case, outcome in progress(outcomes, "predict", total=len(cases), quiet=quiet):
        if outcome.value is None:
            failed[case.name] = in_short(outcome.error)
        else:
            written += outcome.value.written
            skipped += outcome.value.skipped
            failed |= outcome.value.failed
        if stop.requested:
            break
    ended = {*written, *skipped, *failed}
    left = tuple(case.name for case in cases if case.name not in ended)
    return PredictionReport(tuple(sorted(written)), tuple(sorted(skipped)), failed, left)


def in_short(error: Exception | None) -> str:
    """The reason that a report gives for a case."""
    return str(error) if isinstance(error, MssegError) else f"{type(error).__name__}: {error}"
