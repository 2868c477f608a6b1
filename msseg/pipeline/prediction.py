"""From a folder of images and a model folder to a folder of segmentations."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from msseg.data.cases import find_images
from msseg.devices import resolve_device
from msseg.errors import MssegError
from msseg.files import read_json, write_json
from msseg.folders import find_model, project_root
from msseg.inference.folder import PredictionReport, predict_folder
from msseg.inference.outputs import Output, ProbabilityFiles
from msseg.inference.prediction import has_one_foreground, takes_threshold
from msseg.inference.predictor import PredictionOptions, Predictor, class_names
from msseg.inference.predictor import load_predictor as load_predictor_from
from msseg.inference.speeds import options_for, speed_of
from msseg.instances.decision import Decision
from msseg.interrupts import StopRequest
from msseg.postprocessing.rules import Rule, read_rules
from planning.costs.prediction import Kept
from planning.plan import Plan

# What the segmentations beside it were predicted with.
RECORD = "predicted_with.json"

_LOG = logging.getLogger("msseg")

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class OutputWish:
    """What is written, and by which thresholds; None and the defaults leave it to the model.

    `threshold` takes the place of the decision's for the foreground, or is that of every region, and without `decide`
    the model's decision is left out. `instances` asks for object numbers, `probability_bits` (8 or 16) for
    probabilities beside the label maps. `rules_file` is a file of postprocessing rules that take the place of the
    model's.
    """

    threshold: float | None = None
    decide: bool = True
    instances: bool = False
    probability_bits: int | None = None
    rules_file: PathLike | None = None

    @property
    def kept(self) -> Kept:
        """What is held of a case until its files are written."""
        return Kept(self.probability_bits is not None, self.instances)

    def beside(self, folder: Path) -> list[Output]:
        """What is written beside the label maps."""
        return [] if self.probability_bits is None else [ProbabilityFiles(folder, self.probability_bits)]

    def rules_for(self, plan: Plan) -> tuple[Rule, ...] | None:
        """The rules of the file, None without one. CheckpointError where it is malformed or not for such labels."""
        return None if self.rules_file is None else tuple(read_rules(Path(self.rules_file), class_names(plan)))

    def check_for(self, plan: Plan) -> None:
        """Raise MssegError where what is asked for is not for a model of such a plan."""
        what, is_for = f"a model of {len(plan.labels) - 1} labels", "one of a single label"
        if self.instances and not has_one_foreground(plan):
            raise MssegError(f"objects of {what}; expected {is_for}. Leave that out.")
        if self.threshold is not None and not takes_threshold(plan):
            raise MssegError(f"a threshold of {what}; expected {is_for}, or of regions. Leave that out.")

    def applied_to(self, predictor: Predictor) -> Predictor:
        """The predictor with threshold and rules; MssegError where what is asked for is not for its model."""
        rules = self.rules_for(predictor.model.plan)
        predictor = predictor if rules is None else replace(predictor, rules=rules)
        self.check_for(predictor.model.plan)
        if self.threshold is None:
            return predictor
        return replace(predictor, decision=replace(predictor.decision or Decision(), foreground=self.threshold))


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
    speed: str | None = None,
    max_ram: int | None = None,
    outputs: OutputWish | None = None,
    executor: Executor | None = None,
) -> PredictionReport:
    """Segment every image of a folder; what became of each case.

    The model is `model`, else the only trained one of `task`, else the only one below `root`. `speed` names a preset
    (`SPEEDS`) that replaces views, step and branches in `options`. Model and options are recorded in the output folder,
    with a warning where outputs that are kept were made with others. `outputs` asks for another threshold, for object
    numbers or for probabilities. `max_ram` bounds the bytes of main memory: ResourceError where the largest case needs
    more, before anything is done. With an `executor` each of its workers loads the model once, on its own `device`, and
    segments case by case. Raises DatasetError for an input folder without images, CheckpointError where no
    model, or more than one, answers, MssegError for an unknown speed, or for objects of a model of several labels.
    """
    outputs = outputs or OutputWish()
    options = options_for(speed, options or PredictionOptions()) if speed is not None else options
    folder = model_folder(model, task, root)
    if max_ram is not None:
        used = options or PredictionOptions()
        options = bounded(used, folder, input_folder, folds, device, workers, max_ram, outputs.kept)
    here = device if executor is None else "cpu"
    predictor = load_predictor(folder, None, None, folds, options, postprocess, here, outputs.decide)
    predictor = outputs.applied_to(predictor)
    made_with = _made_with(folder, predictor, postprocess, outputs)
    if executor is not None:
        from msseg.pipeline.spread_prediction import PredictionJob, predict_folder_on

        names = None if folds is None else tuple(str(fold) for fold in folds)
        job = PredictionJob(folder, names, options, postprocess, device, outputs, Path(output_folder), overwrite)
        channels = len(predictor.model.plan.channels)
        return predict_folder_on(executor, job, Path(input_folder), channels, made_with, quiet, stop or StopRequest())
    return predict_with(
        predictor, input_folder, output_folder, made_with, outputs, overwrite, workers or 1, quiet, stop
    )


def predict_with(
    predictor: Predictor,
    input_folder: PathLike,
    output_folder: PathLike,
    made_with: Mapping[str, Any],
    outputs: OutputWish,
    overwrite: bool = False,
    workers: int = 1,
    quiet: bool = True,
    stop: StopRequest | None = None,
) -> PredictionReport:
    """Segment every image of a folder with a predictor that is there; `made_with` is recorded beside the outputs."""
    cases, problems = find_images(Path(input_folder), len(predictor.model.plan.channels))
    stop = stop or StopRequest()
    record_origin(Path(output_folder) / RECORD, made_with, overwrite)
    return predict_folder(
        predictor,
        cases,
        Path(output_folder),
        instances=outputs.instances,
        beside=outputs.beside(Path(output_folder)),
        overwrite=overwrite,
        workers=workers,
        problems=problems,
        quiet=quiet,
        stop=lambda: stop.requested,
    )


def bounded(
    options: PredictionOptions,
    model: Path,
    input_folder: PathLike,
    folds: Sequence[str | int] | None,
    device: str,
    workers: int | None,
    max_ram: int,
    kept: Kept,
) -> PredictionOptions:
    """The options with what `max_ram` leaves to the scores of one case."""
    from msseg.machine import measured_machine
    from msseg.pipeline.explain_prediction import Views, folder_work, scores_bytes

    machine = measured_machine()
    views = Views(options.mirror, options.step, options.noise_repeats)
    work = folder_work(input_folder, machine, model, folds, views, device, workers, kept)
    return replace(options, max_bytes=scores_bytes(work, machine, max_ram))


def load_predictor(
    model: PathLike | None = None,
    task: str | None = None,
    root: PathLike | None = None,
    folds: Sequence[str | int] | None = None,
    options: PredictionOptions | None = None,
    postprocess: bool = True,
    device: str = "auto",
    decide: bool = True,
    out_of_fold: bool = False,
) -> Predictor:
    """A predictor that stays loaded: its `predict_array(image_czyx, spacing_mm)` segments one array after another.

    With `out_of_fold` the first model of a cascade answers with the same folds.
    """
    folder = model_folder(model, task, root)
    names = None if folds is None else [str(fold) for fold in folds]
    predictor = load_predictor_from(folder, resolve_device(device), names, options, postprocess, decide, out_of_fold)
    for note in predictor.notes:
        _LOG.warning("%s: %s.", folder, note)
    return predictor


def model_folder(model: PathLike | None = None, task: str | None = None, root: PathLike | None = None) -> Path:
    """The folder of `model`, else of the only trained model of `task`, else of the only one below `root`."""
    return Path(model) if model is not None else find_model(project_root(root), task)


def _made_with(folder: Path, predictor: Predictor, postprocess: bool, outputs: OutputWish) -> dict[str, Any]:
    decision = predictor.decision
    used = () if decision is None else ("foreground", "seed", "smallest_px") if outputs.instances else ("foreground",)
    return {
        "model": str(folder),
        "folds": list(predictor.model.folds),
        "speed": speed_of(predictor.options),
        "options": predictor.options.as_record(),
        "postprocess": postprocess if outputs.rules_file is None else [asdict(rule) for rule in predictor.rules],
        "decision": {name: getattr(decision, name) for name in used} or None,
        "writes": "objects" if outputs.instances else "labels",
        "probability_bits": outputs.probability_bits,
        **({} if (before := predictor.model.previous) is None else {"previous_stage": before.as_json()}),
    }


def record_origin(path: Path, made_with: Mapping[str, Any], overwrite: bool) -> None:
    """Write what the outputs are made with, after a warning where those that are kept were made with something else."""
    if path.is_file() and not overwrite and read_json(path) != made_with:
        _LOG.warning("%s: outputs that are there and kept were made with another model or other options.", path)
    write_json(path, made_with)


def prediction_summary(report: PredictionReport, output_folder: PathLike) -> str:
    """Lines for the end of the command."""
    lines = [f"{output_folder}: {len(report.written)} written, {len(report.skipped)} were there already."]
    lines += [f"failed: {name}: {reason}" for name, reason in report.failed.items()]
    if report.stopped:
        lines.append(f"stopped with {len(report.stopped)} cases to go. Run the same command again to go on.")
    return "\n".join(lines)
