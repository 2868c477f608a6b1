"""What comes with folds will take: training all of them, and predicting with what was chosen."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from msseg.data.dataset import read_dataset
from msseg.data.store import stored_names
from msseg.errors import DatasetError
from msseg.files import read_json
from msseg.folders import Task, find_task, project_root
from msseg.pipeline.explain_prediction import Views, explain_prediction
from msseg.pipeline.explain_training import TrainingWish, explain_training
from msseg.pipeline.inference_file import read_inference
from msseg.pipeline.planning import load_plan
from msseg.pipeline.splits import splits_of
from planning.costs.estimate import Estimate, in_sequence
from planning.costs.machine import Machine
from planning.costs.prediction import Kept

PathLike = str | os.PathLike[str]


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
        (
            f"fold {name}",
            explain_training(task, name, machine, wish, root, device, workers, max_ram, begun=name != names[0]),
        )
        for name in names
    ]
    return in_sequence(each)


def explain_inference(
    input_folder: PathLike,
    inference: PathLike,
    machine: Machine,
    views: Views | None = None,
    device: str = "auto",
    workers: int | None = None,
    max_ram: int | None = None,
    kept: Kept = Kept(),  # noqa: B008 (frozen)
) -> Estimate:
    """The prediction of every member, one after another; several keep their probabilities."""
    members = read_inference(Path(inference)).members
    if len(members) > 1:
        kept = replace(kept, probabilities=True)
    each = [
        (
            one.model.name,
            explain_prediction(
                input_folder, machine, one.model, None, None, one.folds, views, device, workers, max_ram, kept
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
    return [str(number) for number in range(len(splits_of(place.raw, names, wish.group_by)[0]))]
