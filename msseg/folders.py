"""Where things lie: one root with `raw/`, `preprocessed/` and `models/`, and how a TASK is found in it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msseg.data.found_layouts import is_data_set
from msseg.errors import CheckpointError, DatasetError
from msseg.files import read_json
from msseg.previous_model import INSIDE

DEFAULT_ROOT = "msseg_data"
# The weights in a fold's folder: those to predict with, and those that training goes on from.
FINAL, LATEST = "checkpoint_final.safetensors", "checkpoint_latest.safetensors"
_CASES_OF = {"2.5d": "2d", "3d_cascade": "3d"}
_TASK_NUMBER = re.compile(r"^(?:Task|Dataset)0*(\d+)(?:_|$)")


@dataclass(frozen=True)
class Task:
    """A data set by name, with its three folders; `raw` may lie anywhere."""

    name: str
    raw: Path
    preprocessed: Path
    models: Path

    @property
    def fingerprint_path(self) -> Path:
        return self.preprocessed / "fingerprint.json"

    @property
    def plan_path(self) -> Path:
        return self.preprocessed / "plan.json"

    @property
    def check_path(self) -> Path:
        return self.preprocessed / "check.json"

    @property
    def source_path(self) -> Path:
        """Records where the raw data set lies, for the commands that come after planning."""
        return self.preprocessed / "source.json"

    def store(self, configuration: str) -> Path:
        """The folder of the preprocessed cases of one configuration; some share those of another."""
        return self.preprocessed / f"cases_{_CASES_OF.get(configuration, configuration)}"

    def model(self, configuration: str, network: str, options: Mapping[str, Any] | None = None) -> Path:
        """The folder of a trained model, with one folder a fold in it.

        A network's options are part of its name, such as 3d_unet_sharp-most_levels=2.
        """
        words = [f"{name}={_word(value)}" for name, value in sorted((options or {}).items())]
        return self.models / "-".join([f"{configuration}_{network}", *words])


def _word(value: Any) -> str:
    """A value as in a file's name: text as it is, else as JSON has it."""
    return value.replace(" ", "_") if isinstance(value, str) else json.dumps(value)


def project_root(argument: str | os.PathLike[str] | None = None) -> Path:
    """The root folder: the argument, else $MSSEG_ROOT, else `./msseg_data`."""
    return Path(argument or os.environ.get("MSSEG_ROOT") or DEFAULT_ROOT)


def find_task(task: str, root: Path) -> Task:
    """The task that `task` means: a path to a data set folder, or a name or number below `root`.

    Raises DatasetError where nothing, or more than one data set, answers to it.
    """
    folder = Path(task)
    if is_data_set(folder):
        folder = folder.resolve()
        return _task(folder.name, folder, root)
    known = known_tasks(root)
    matches = _answering(task, known)
    if len(matches) == 1:
        return _task(matches[0], _raw_folder(matches[0], root), root)
    if matches:
        raise DatasetError(f"{task}: {len(matches)} data sets answer to it ({', '.join(matches)}). Give the full name.")
    if folder.is_dir():
        raise DatasetError(
            f"{folder}: has no dataset.json, which a Decathlon or nnU-Net data set folder must have, nor images/ "
            "beside labels/, masks/ or instances/."
        )
    listing = f"known there: {', '.join(known)}" if known else "there is none yet"
    raise DatasetError(
        f"{task}: neither a data set folder nor a task below {root} ({listing}). "
        f"Give the path of the folder that holds dataset.json, or put it into {root / 'raw'}."
    )


def known_tasks(root: Path) -> list[str]:
    """Names of the tasks below `root`, raw or preprocessed, sorted."""
    rooms = (root / "raw", root / "preprocessed")
    return sorted({folder.name for room in rooms for folder in _folders(room)})


def _folders(room: Path) -> list[Path]:
    """The folders in it; hidden ones, as tools leave them, are no tasks."""
    if not room.is_dir():
        return []
    return [folder for folder in room.iterdir() if folder.is_dir() and not folder.name.startswith(".")]


def find_model(root: Path, task: str | None = None) -> Path:
    """The only trained model below `root`, or the only one of `task`, whose data set need not be there.

    Raises CheckpointError where there is none, or more than one to choose from.
    """
    models = _trained_models(_models_of(task, root) if task else root / "models")
    place = f"task {task}" if task else str(root)
    if not models:
        raise CheckpointError(f"{place}: no trained model found. Train one with msseg_train, or name it with -m.")
    if len(models) > 1:
        listing = ", ".join(str(model) for model in models)
        raise CheckpointError(
            f"{place}: {len(models)} trained models ({listing}). Choose with -t TASK or -m MODEL_DIR."
        )
    return models[0]


def _models_of(task: str, root: Path) -> Path:
    matches = _answering(task, [folder.name for folder in _folders(root / "models")])
    return root / "models" / matches[0] if len(matches) == 1 else find_task(task, root).models


def _answering(task: str, names: list[str]) -> list[str]:
    """The names that are `task`, or else have its number."""
    return [name for name in names if name == task] or [name for name in names if _number(name) == _as_number(task)]


def _trained_models(folder: Path) -> list[Path]:
    models = {path.parent.parent for path in folder.glob(f"**/fold_*/{FINAL}")}
    return sorted(model for model in models if model.name != INSIDE)  # what a cascade brings along is part of it


def _task(name: str, raw: Path, root: Path) -> Task:
    return Task(name, raw, root / "preprocessed" / name, root / "models" / name)


def _raw_folder(name: str, root: Path) -> Path:
    """`raw/NAME`, or where the data set lay when it was planned."""
    source = root / "preprocessed" / name / "source.json"
    if source.is_file() and not (root / "raw" / name).is_dir():
        return planned_from(source)
    return root / "raw" / name


def planned_from(source: Path) -> Path:
    """The data set folder that a task's `source.json` names; DatasetError where it names none."""
    value = read_json(source, DatasetError)
    if not isinstance(value, dict) or not isinstance(value.get("raw"), str):
        raise DatasetError(f'{source}: found {value!r}, expected {{"raw": the data set folder}}. Delete the file.')
    return Path(value["raw"])


def _number(name: str) -> int | None:
    found = _TASK_NUMBER.match(name)
    return int(found.group(1)) if found else None


def _as_number(task: str) -> int:
    return int(task) if task.isdecimal() else -1
