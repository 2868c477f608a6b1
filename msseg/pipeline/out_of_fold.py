"""Probabilities of every case by the fold that left it out, in 8 bits beside the fold's validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from msseg.checkpoint import FINAL
from msseg.data.cases import Case
from msseg.errors import DatasetError
from msseg.inference.folder import predict_folder
from msseg.inference.outputs import ProbabilityFiles
from msseg.inference.predictor import PredictionOptions, load_predictor
from msseg.interrupts import StopRequest
from msseg.pipeline.cross_validation import CrossValidation, Folds
from msseg.pipeline.out_of_fold_scores import OUT_OF_FOLD
from msseg.pipeline.validation import keep_outputs_of

BITS = 8


def make_probabilities(
    model: CrossValidation,
    folds: Folds,
    cases: Mapping[str, Case],
    device: torch.device,
    workers: int = 1,
    quiet: bool = True,
    stop: StopRequest | None = None,
) -> bool:
    """Whether every case has its probabilities now; False where it was stopped, and a later call goes on.

    Files of the weights that a fold has now are kept. Predicted as a fold is validated: with mirrors, without decision
    and postprocessing. Raises DatasetError where a case fails.
    """
    stop = stop or StopRequest()
    return all(
        _make_of_fold(model.folder, fold, [cases[name] for name in names], device, workers, quiet, stop)
        for fold, names in folds.validation.items()
    )


def _make_of_fold(
    model: Path, fold: str, cases: list[Case], device: torch.device, workers: int, quiet: bool, stop: StopRequest
) -> bool:
    folder = model / f"fold_{fold}" / OUT_OF_FOLD
    keep_outputs_of(model / f"fold_{fold}" / FINAL, folder, PredictionOptions())
    files = ProbabilityFiles(folder, BITS)
    missing = [case for case in cases if not files.path(case).is_file()]
    if not missing or stop.requested:
        return not missing
    predictor = load_predictor(model, device, [fold], postprocess=False, decide=False)
    report = predict_folder(
        predictor,
        missing,
        folder,
        labels=False,
        beside=[files],
        workers=workers,
        quiet=quiet,
        stop=lambda: stop.requested,
    )
    if report.failed:
        name, reason = next(iter(report.failed.items()))
        raise DatasetError(f"{folder}: {len(report.failed)} cases failed; the first is {name}: {reason}")
    return report.is_complete
