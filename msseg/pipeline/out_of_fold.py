"""Probabilities of every case by the fold that left it out, in 8 bits beside the fold's validation."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from msseg.checkpoint import FINAL
from msseg.data.cases import Case
from msseg.devices import resolve_device
from msseg.errors import DatasetError
from msseg.inference.folder import PredictionReport, predict_folder
from msseg.inference.outputs import ProbabilityFiles
from msseg.inference.predictor import PredictionOptions, load_predictor
from msseg.interrupts import StopRequest
from msseg.pipeline.cross_validation import CrossValidation, Folds
from msseg.pipeline.out_of_fold_scores import OUT_OF_FOLD
from msseg.pipeline.prediction import OutputWish
from msseg.pipeline.spread_prediction import PredictionJob, predict_cases_on
from msseg.pipeline.validation import keep_outputs_of

BITS = 8


@dataclass(frozen=True)
class Where:
    """Who predicts: this process on its `device`, or each worker of an executor on its own.

    `max_bytes` bounds what the scores of one case may take, None: by the free memory.
    """

    device: str = "auto"
    executor: Executor | None = None
    max_bytes: int | None = None


def make_probabilities(
    model: CrossValidation,
    folds: Folds,
    cases: Mapping[str, Case],
    where: Where,
    quiet: bool = True,
    stop: StopRequest | None = None,
) -> bool:
    """Whether every case has its probabilities now; False where it was stopped, and a later call goes on.

    Files of the weights that a fold has now are kept. Predicted as a fold is validated: with mirrors, without decision
    and postprocessing. Raises DatasetError where a case fails.
    """
    stop = stop or StopRequest()
    return all(
        _make_of_fold(model.folder, fold, [cases[name] for name in names], where, quiet, stop)
        for fold, names in folds.validation.items()
    )


def _make_of_fold(model: Path, fold: str, cases: list[Case], where: Where, quiet: bool, stop: StopRequest) -> bool:
    folder = model / f"fold_{fold}" / OUT_OF_FOLD
    keep_outputs_of(model / f"fold_{fold}" / FINAL, folder, PredictionOptions())
    files = ProbabilityFiles(folder, BITS)
    missing = [case for case in cases if not files.path(case).is_file()]
    if not missing or stop.requested:
        return not missing
    report = _predicted(model, fold, missing, folder, where, quiet, stop)
    if report.failed:
        name, reason = next(iter(report.failed.items()))
        raise DatasetError(f"{folder}: {len(report.failed)} cases failed; the first is {name}: {reason}")
    return report.is_complete


def _predicted(
    model: Path, fold: str, cases: list[Case], folder: Path, where: Where, quiet: bool, stop: StopRequest
) -> PredictionReport:
    options = PredictionOptions(max_bytes=where.max_bytes)
    if where.executor is not None:
        wish = OutputWish(decide=False, probability_bits=BITS)
        job = PredictionJob(model, (fold,), options, False, where.device, wish, folder, labels=False, out_of_fold=True)
        return predict_cases_on(where.executor, job, cases, quiet, stop)
    predictor = load_predictor(
        model, resolve_device(where.device), [fold], options, postprocess=False, decide=False, out_of_fold=True
    )
    files = ProbabilityFiles(folder, BITS)
    return predict_folder(
        predictor, cases, folder, labels=False, beside=[files], quiet=quiet, stop=lambda: stop.requested
    )
