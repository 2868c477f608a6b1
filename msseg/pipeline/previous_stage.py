"""What a cascade's second network learns from: the first stage's out-of-fold predictions of all training cases."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msseg.data.store import case_key, open_case
from msseg.errors import CheckpointError, PlanError
from msseg.files import atomic_path, content_hash, read_json, write_json
from msseg.folders import FINAL, Task
from msseg.interrupts import StopRequest
from msseg.pipeline.cross_validation import Folds, cross_validation, read_folds
from msseg.progress import progress
from planning.plan import Configuration, Plan

if TYPE_CHECKING:
    import torch

    from msseg.inference.predictor import Predictor
    from msseg.training.job import PreviousStage

# Of the first stage's model: `CASE.npy`, and beside them which weights and which prepared cases they belong to.
NEXT_STAGE = "next_stage"
ORIGINS = "predicted_from.json"


@dataclass(frozen=True)
class FirstStage:
    """The first stage's `model`, whose `folds` leave out every case once, and the `store` of the second's cases."""

    model: Path
    folds: Folds
    store: Path

    @property
    def predictions(self) -> Path:
        """The folder with `CASE.npy`."""
        return self.model / NEXT_STAGE

    @cached_property
    def weights(self) -> dict[str, str]:
        """What tells the weights of each fold from others."""
        return {fold: content_hash(self.model / f"fold_{fold}" / FINAL) for fold in self.folds.validation}

    def origin(self, fold: str, name: str) -> dict[str, Any]:
        """What the prediction of a case depends on."""
        return {"weights": self.weights[fold], "case": case_key(self.store, name)}

    def missing(self) -> dict[str, list[str]]:
        """The cases whose predictions are not there, or of other weights or another preparation; by fold."""
        written = self.written()
        found = {
            fold: [name for name in names if not self._is_there(written, fold, name)]
            for fold, names in self.folds.validation.items()
        }
        return {fold: names for fold, names in found.items() if names}

    def written(self) -> dict[str, Any]:
        """By case, what its prediction was made from."""
        path = self.predictions / ORIGINS
        return dict(read_json(path, CheckpointError)) if path.is_file() else {}

    def _is_there(self, written: Mapping[str, Any], fold: str, name: str) -> bool:
        return written.get(name) == self.origin(fold, name) and (self.predictions / f"{name}.npy").is_file()


def first_stage(place: Task, plan: Plan, configuration: Configuration, model: Path | None = None) -> FirstStage:
    """The trained first stage of a cascade; `model` is another than the plan's network of that configuration.

    The task has its folds already. Raises CheckpointError that names the folds that are not trained, with the commands
    that train them, and PlanError where the configuration is no second stage.
    """
    if configuration.previous_stage is None:
        raise PlanError(f"configuration {configuration.name}: has no previous stage. Leave out --previous-stage.")
    folder = model or planned_model(place, plan, configuration)
    folds = read_folds(place)
    found = cross_validation(place, folds, folder)
    if found is None:
        raise CheckpointError(
            f"{folder}: no trained folds, which {configuration.name} learns from. Train them first, with\n"
            f"  {_command(place, plan, configuration)}\nor name another model with --previous-stage."
        )
    if not found.complete:
        raise CheckpointError(
            f"{folder}: {configuration.name} learns from predictions of every case by a fold that left it out. "
            f"{found.summary()}"
        )
    _check_labels(folder, found.plan, plan)
    return FirstStage(folder, folds, place.store(configuration.name))


def planned_model(place: Task, plan: Plan, configuration: Configuration) -> Path:
    """The folder of the first stage's model of the plan's network."""
    first = plan.configurations[str(configuration.previous_stage)]
    return place.model(first.name, first.network, first.network_options)


def _command(place: Task, plan: Plan, configuration: Configuration) -> str:
    first = plan.configurations[str(configuration.previous_stage)]
    words = ["msseg_train", place.name, "all-folds", "--configuration", first.name, "--network", first.network]
    options = [f"--network-option={key}={value}" for key, value in first.network_options.items()]
    return shlex.join([*words, *options])


def _check_labels(folder: Path, trained: Plan, plan: Plan) -> None:
    seen, wanted = ([list(one.labels.items()), one.planes] for one in (trained, plan))
    if seen != wanted:
        raise CheckpointError(
            f"{folder}: trained with the labels {dict(trained.labels)}, expected {dict(plan.labels)} as the plan has "
            "them, and the same regions. Train it again."
        )


def ensure_previous(
    place: Task,
    plan: Plan,
    configuration: Configuration,
    device: torch.device,
    model: Path | None = None,
    quiet: bool = True,
    stop: StopRequest | None = None,
) -> PreviousStage | None:
    """What the second network learns from; predictions that are missing or stale are made first, case after case.

    The cases of `configuration` are prepared already. None where it was stopped. Raises as `first_stage` does.
    """
    from msseg.training.job import PreviousStage

    stage, stop = first_stage(place, plan, configuration, model), stop or StopRequest()
    missing = stage.missing()
    steps = _predicted(place, configuration, stage, missing, device)
    total = sum(map(len, missing.values()))
    for _name in progress(steps, f"predict with {stage.model.name}", total, quiet=quiet) if total else ():
        if stop.requested:
            return None
    return PreviousStage(stage.model, tuple(stage.folds.validation), stage.predictions)


def _predicted(
    place: Task,
    configuration: Configuration,
    stage: FirstStage,
    missing: Mapping[str, Sequence[str]],
    device: torch.device,
) -> Iterator[str]:
    """The names of the cases, as soon as the prediction of each is on disk."""
    from msseg.data.dataset import read_dataset
    from msseg.inference.predictor import load_predictor
    from msseg.inference.read_ahead import read_case

    cases = {case.name: case for case in read_dataset(place.raw, place.preprocessed).training}
    for fold, names in missing.items():
        predictor = load_predictor(stage.model, device, [fold], postprocess=False, decide=False)
        for name in names:
            classes = _classes(predictor, read_case(predictor, cases[name]).prepared, configuration, stage, name)
            with atomic_path(stage.predictions / f"{name}.npy") as temporary, temporary.open("wb") as stream:
                np.save(stream, classes, allow_pickle=False)
            write_json(stage.predictions / ORIGINS, {**stage.written(), name: stage.origin(fold, name)})
            yield name


def _classes(
    predictor: Predictor, prepared: Any, configuration: Configuration, stage: FirstStage, name: str
) -> np.ndarray:
    """The class of every voxel of a stored case, as the second network will be shown it of new images."""
    from msseg.preprocessing.resample import resample_label, separate_axis

    shape = open_case(stage.store, name).image.shape[1:]
    apart = separate_axis(prepared.spacing_before_mm, configuration.spacing_mm)
    return resample_label(predictor.classes(prepared), shape, configuration.label_order, apart)
