"""From a folder of images and a model folder to a folder of segmentations."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from msseg.data.cases import find_images
from msseg.devices import resolve_device
from msseg.folders import find_model, project_root
from msseg.inference.folder import PredictionReport, predict_folder
from msseg.inference.predictor import PredictionOptions, Predictor
from msseg.inference.predictor import load_predictor as load_predictor_from
from msseg.interrupts import StopRequest

_LOG = logging.getLogger("msseg")

PathLike = str | os.PathLike[str]


def predict(
    input_folder: PathLike,
    output_folder: PathLike,
    model: PathLike | None = None,
    task: str | None = None,
    root: PathLike | None = None,
    folds: Sequence[str | int] | None = None,
    options: PredictionOptions | None = None,
    postprocess: bool = True,
    overwrite: bool = False,
    device: str = "auto",
    workers: int | None = None,
    quiet: bool = True,
    stop: StopRequest | None = None,
) -> PredictionReport:
    """Segment every image of a folder; what became of each case.

    The model is `model`, else the only trained one of `task`, else the only one below `root`. Raises DatasetError
    for an input folder without images, CheckpointError where no model, or more than one, answers.
    """
    predictor = load_predictor(model, task, root, folds, options, postprocess, device)
    cases, problems = find_images(Path(input_folder), len(predictor.model.plan.channels))
    stop = stop or StopRequest()
    return predict_folder(
        predictor,
        cases,
        Path(output_folder),
        overwrite=overwrite,
        workers=workers or 1,
        problems=problems,
        quiet=quiet,
        stop=lambda: stop.requested,
    )


def load_predictor(
    model: PathLike | None = None,
    task: str | None = None,
    root: PathLike | None = None,
    folds: Sequence[str | int] | None = None,
    options: PredictionOptions | None = None,
    postprocess: bool = True,
    device: str = "auto",
) -> Predictor:
    """A predictor that stays loaded: its `predict_array(image_czyx, spacing_mm)` segments one array after another."""
    folder = Path(model) if model is not None else find_model(project_root(root), task)
    names = None if folds is None else [str(fold) for fold in folds]
    predictor = load_predictor_from(folder, resolve_device(device), names, options, postprocess)
    for note in predictor.model.notes:
        _LOG.warning("%s: %s.", folder, note)
    return predictor


def prediction_summary(report: PredictionReport, output_folder: PathLike) -> str:
    """Lines for the end of the command."""
    lines = [f"{output_folder}: {len(report.written)} written, {len(report.skipped)} were there already."]
    lines += [f"failed: {name}: {reason}" for name, reason in report.failed.items()]
    if report.stopped:
        lines.append(f"stopped with {len(report.stopped)} cases to go. Run the same command again to go on.")
    return "\n".join(lines)
