"""What comes with folds will take: training all of them, comparing what is trained, predicting with what was chosen."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from msseg.data.cases import Case
from msseg.data.dataset import read_dataset
from msseg.data.store import stored_names
from msseg.errors import DatasetError
from msseg.files import read_json
from msseg.folders import Task, find_task, project_root
from msseg.parallel import default_workers
from msseg.pipeline.cross_validation import CrossValidation, Folds, cross_validations, nothing_complete, read_folds
from msseg.pipeline.explain_evaluation import pair_size
from msseg.pipeline.explain_prediction import Views, explain_prediction, prediction_work, used_device
from msseg.pipeline.explain_training import TrainingWish, explain_training
from msseg.pipeline.inference_file import read_inference
from msseg.pipeline.model_header import read_model_header
from msseg.pipeline.planning import load_plan
from msseg.pipeline.splits import groups_of
from planning.costs.estimate import Estimate, Part, estimate_of, in_sequence
from planning.costs.evaluation import measuring_parts
from planning.costs.machine import Machine
from planning.costs.prediction import prediction_estimate
from planning.splits import make_splits

PathLike = str | os.PathLike[str]

# Every candidate is looked at twice, for rules and for figures; probabilities are inflated each time.
_LOOKS = 2
_PROBABILITIES = "validation_probabilities"


def explain_all_folds(
    task: PathLike,
    machine: Machine,
    wish: TrainingWish | None = None,
    root: PathLike | None = None,
    device: str = "auto",
    workers: int | None = None,
    max_ram: int | None = None,
) -> Estimate:
    """Every fold begun anew, one after another. Raises as `explain_training` does."""
    wish, place = wish or TrainingWish(), find_task(os.fspath(task), project_root(root))
    names = _fold_names(place, wish)
    each = [
        (f"fold {name}", explain_training(task, name, machine, wish, root, device, workers, max_ram)) for name in names
    ]
    return in_sequence(each)


def explain_find_best(
    task: PathLike,
    machine: Machine,
    root: PathLike | None = None,
    device: str = "auto",
    workers: int | None = None,
    ensembles: bool = True,
) -> Estimate:
    """Probabilities that are missing, and every model and pair looked at on every case.

    Raises DatasetError where the task has no folds, CheckpointError where no model is complete.
    """
    place, kind = find_task(os.fspath(task), project_root(root)), used_device(device, machine)
    folds = read_folds(place)
    cases = {case.name: case for case in read_dataset(place.raw, place.preprocessed).training}
    found = cross_validations(place, folds)
    models = [one for one in found if one.complete]
    if not models:
        raise nothing_complete(place, found)
    predicting = [(one.name, _predicting(one, folds, cases, kind, machine)) for one in models]
    count = len(models) + (len(models) * (len(models) - 1) // 2 if ensembles else 0)
    looking = ("compare", _looking(models, folds, cases, count, workers or default_workers(), machine))
    return in_sequence([*((name, one) for name, one in predicting if one is not None), looking])


def explain_inference(
    input_folder: PathLike,
    inference: PathLike,
    machine: Machine,
    views: Views | None = None,
    device: str = "auto",
    workers: int | None = None,
    max_ram: int | None = None,
    keeps_probabilities: bool = False,
) -> Estimate:
    """The prediction of every member, one after another; several keep their probabilities."""
    members = read_inference(Path(inference)).members
    keeps = keeps_probabilities or len(members) > 1
    each = [
        (
            one.model.name,
            explain_prediction(
                input_folder, machine, one.model, None, None, one.folds, views, device, workers, max_ram, keeps
            ),
        )
        for one in members
    ]
    return each[0][1] if len(each) == 1 else in_sequence(each)


def _fold_names(place: Task, wish: TrainingWish) -> list[str]:
    """The folds as they are on disk, or as they would be made."""
    path = place.preprocessed / "splits.json"
    if path.is_file() and wish.group_by is None:
        return [str(number) for number in range(len(read_json(path, DatasetError)["folds"]))]
    names = stored_names(place.store(load_plan(place).default_configuration))
    names = names or [case.name for case in read_dataset(place.raw, place.preprocessed).training]
    groups = None if wish.group_by is None else groups_of(names, wish.group_by)
    return [str(number) for number in range(len(make_splits(names, groups=groups)))]


def _predicting(
    model: CrossValidation, folds: Folds, cases: dict[str, Case], device: str, machine: Machine
) -> Estimate | None:
    """The cases without probabilities through one network each; None where all are there."""
    missing = [
        replace(cases[name], label_path=None)
        for fold, names in folds.validation.items()
        for name in names
        if name in cases and not (_room(model.folder, fold) / f"{name}.probabilities.npz").is_file()
    ]
    if not missing:
        return None
    header = read_model_header(model.folder, ["0"])
    return prediction_estimate(prediction_work(header, missing, Views(), device, 1, True), machine)


def _room(model: Path, fold: str) -> Path:
    return model / f"fold_{fold}" / _PROBABILITIES


def _looking(
    models: list[CrossValidation], folds: Folds, cases: dict[str, Case], count: int, workers: int, machine: Machine
) -> Estimate:
    known = [cases[name] for name in folds.cases if name in cases]
    pairs = [pair_size(case.image_paths[0], case.label_path) for case in known if case.label_path is not None]
    labels = max((len(one.plan.labels) - 1 for one in models), default=1)
    parts = measuring_parts(pairs, labels, workers, machine)
    largest = max((pair.voxels for pair in pairs), default=0)
    seconds = _LOOKS * count * sum(part.wall_s for part in parts)
    memory = machine.processes["predict"].resident_bytes + workers * 2 * (labels + 1) * largest
    return estimate_of(
        [Part("look", seconds)],
        memory,
        settings=[("models", str(len(models))), ("candidates", str(count))],
        assumptions=["rules take as long as surfaces"],
    )
