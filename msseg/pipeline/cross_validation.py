"""Which models of a task cover all its cases out of fold, gathered from the files; what completes the others."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msseg.errors import CheckpointError, DatasetError
from msseg.files import read_json
from msseg.folders import FINAL, Task
from msseg.pipeline.model_header import read_header
from msseg.pipeline.splits import groups_of
from msseg.previous_model import previous_from_json
from planning.plan import Plan, plan_from_json


@dataclass(frozen=True)
class Folds:
    """A task's cases by the fold that leaves them out, and their groups where it has any (case → group)."""

    validation: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, str] | None

    @property
    def cases(self) -> tuple[str, ...]:
        """All cases, sorted."""
        return tuple(sorted(name for names in self.validation.values() for name in names))

    def fold_of(self, case: str) -> str:
        """The fold that leaves the case out."""
        return next(fold for fold, names in self.validation.items() if case in names)


@dataclass(frozen=True)
class CrossValidation:
    """A model folder of a task. `lacking` says by fold what is wrong with it, and `commands` what makes it good.

    Another model predicts before one that `is_cascade`.
    """

    folder: Path
    plan: Plan
    lacking: Mapping[str, str]
    commands: tuple[str, ...]
    is_cascade: bool = False

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def complete(self) -> bool:
        """Whether every case was left out by one of its trained folds."""
        return not self.lacking

    def summary(self) -> str:
        """What is lacking, and the commands that complete it, a line each."""
        found = "; ".join(f"fold {fold}: {why}" for fold, why in self.lacking.items())
        return "\n".join([f"{self.name}: left out ({found}). Complete it with", *(f"  {one}" for one in self.commands)])


def read_folds(task: Task) -> Folds:
    """The folds of a task. Raises DatasetError where it has none, or they leave no case out, or one twice."""
    path = task.preprocessed / "splits.json"
    if not path.is_file():
        raise DatasetError(f"{path}: no folds yet. Train some first: msseg_train {task.name} all-folds")
    stored = read_json(path, DatasetError)
    try:
        folds = {str(number): (one["train"], tuple(one["validation"])) for number, one in enumerate(stored["folds"])}
        pattern = stored.get("group_by")
    except (KeyError, TypeError, AttributeError):
        raise DatasetError(f"{path}: not the folds of a task. Delete it and train again.") from None
    both = sorted({name for train, validation in folds.values() for name in validation if name in train})
    validation = {fold: names for fold, (_, names) in folds.items()}
    names = [name for its in validation.values() for name in its]
    twice = sorted({name for name in names if names.count(name) > 1})
    if both or twice or not names:
        found = f"{', '.join((both or twice)[:3])} trained on too, or left out twice" if names else "no case left out"
        raise DatasetError(
            f"{path}: {found}; expected each case left out by one fold. More cases are needed, or edit it."
        )
    return Folds(validation, groups_of(names, pattern) if pattern else None)


def cross_validations(task: Task, folds: Folds) -> list[CrossValidation]:
    """The models of a task that have a trained fold, by name, whole or not."""
    found = sorted({path.parent.parent for path in task.models.glob(f"*/fold_*/{FINAL}")})
    models = [cross_validation(task, folds, folder) for folder in found]
    return [one for one in models if one is not None]


def nothing_complete(task: Task, incomplete: Sequence[CrossValidation]) -> CheckpointError:
    """The error for a task without a complete model: what is lacking, and the commands."""
    if not incomplete:
        return CheckpointError(f"{task.models}: no trained folds. Train them first: msseg_train {task.name} all-folds")
    listing = "\n".join(one.summary() for one in incomplete)
    return CheckpointError(f"{task.models}: no model whose folds leave out every case.\n{listing}")


def cross_validation(task: Task, folds: Folds, folder: Path) -> CrossValidation | None:
    """The model in a folder; None where nothing is trained, or on all cases alone, or it does not tell its folds."""
    headers = {fold: _header(folder / f"fold_{fold}" / FINAL) for fold in folds.validation}
    known = [header for header in headers.values() if header is not None]
    if not known or "identity" not in known[0]["metadata"]:
        return None
    lacking = {
        fold: _lack(header, known[0], names)
        for (fold, names), header in zip(folds.validation.items(), headers.values(), strict=True)
    }
    lacking = {fold: why for fold, why in lacking.items() if why}
    plan = plan_from_json(known[0]["plan"], str(folder))
    before = previous_from_json(known[0].get("previous_stage"))
    previous_dir = None if before is None else before.expected(folder)
    commands = tuple(_command(task, known[0], plan, fold, why, previous_dir) for fold, why in lacking.items())
    if previous_dir is not None and not lacking:
        configuration = plan.configurations[known[0]["configuration_name"]]
        lacking, commands = _lack_before(task, folds, previous_dir, str(configuration.previous_stage))
    return CrossValidation(folder, plan, lacking, commands, is_cascade=before is not None)


def _lack_before(task: Task, folds: Folds, folder: Path, configuration: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """What a cascade lacks of the model before it, whose folds answer out of fold too; and the commands."""
    before = cross_validation(task, folds, folder)
    if before is None:
        lacking = dict.fromkeys(folds.validation, f"{folder.name}, the model before it, is not trained")
        return lacking, (f"msseg_train {task.name} all-folds --configuration {configuration}",)
    return {fold: f"{folder.name}, the model before it: {why}" for fold, why in before.lacking.items()}, before.commands


def _header(path: Path) -> dict[str, Any] | None:
    try:
        return read_header(path)
    except CheckpointError:
        if path.is_file():
            raise
        return None


def _lack(header: Mapping[str, Any] | None, first: Mapping[str, Any], names: Sequence[str]) -> str:
    """What keeps a fold from saying something about its cases; empty where nothing does."""
    if header is None:
        return "not trained"
    identity = header["metadata"].get("identity", {})
    if sorted(identity.get("validation_cases", ())) != sorted(names):
        return "trained with other splits"
    if header["plan"]["labels"] != first["plan"]["labels"]:
        return "trained with other labels"
    if header["plan"].get("regions") != first["plan"].get("regions"):
        return "trained with other regions"
    return ""


def _command(
    task: Task, header: Mapping[str, Any], plan: Plan, fold: str, why: str, previous_dir: Path | None = None
) -> str:
    """How a fold is trained like the model's others; what its length was is not always in the file."""
    metadata = header["metadata"]
    identity, configuration = metadata["identity"], plan.configurations[header["configuration_name"]]
    words = ["msseg_train", task.name, fold, "--configuration", configuration.name, "--network", configuration.network]
    for key, value in configuration.network_options.items():
        words += ["--network-option", f"{key}={_value(value)}"]
    if previous_dir is not None:
        words += ["--previous-stage", str(previous_dir)]
    words += ["--recipe", identity["recipe"]["name"]]
    for key, value in _changes(metadata.get("changed") or {}):
        words += ["--set", f"{key}={_value(value)}"]
    if identity["seed"]:
        words += ["--seed", str(identity["seed"])]
    if metadata.get("ended") == "epochs":
        words += ["--epochs", str(metadata["steps"] // identity["recipe"]["steps_per_epoch"])]
    elif metadata.get("ended") == "budget":
        words += ["--budget", "TIME"]
    return shlex.join([*words, *(["--restart"] if why != "not trained" else [])])


def _changes(changed: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What `--set` was told, name by name; the length is said by options of its own."""
    for key, value in changed.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{name}", one) for name, one in value.items())
        elif key != "epochs":
            yield key, value


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
