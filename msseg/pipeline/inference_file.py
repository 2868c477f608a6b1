"""The final model of a task as one JSON file: its members, what is done with their answer, and why it was chosen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msseg.errors import CheckpointError
from msseg.files import read_json, write_json
from msseg.instances.decision import Decision, decision_from_json, decision_to_json
from msseg.postprocessing.rules import Rule, rules_from_json, rules_to_json

INFERENCE_FILE = "inference.json"
INFERENCE_VERSION = 1


@dataclass(frozen=True)
class Member:
    """One model folder and the folds of it that are averaged."""

    model: Path
    folds: tuple[str, ...]


@dataclass(frozen=True)
class Inference:
    """Members whose probabilities are averaged, then `decision` (None: ½) and `rules`.

    `metric` and `figures` say what they were chosen by; figures are JSON values.
    """

    members: tuple[Member, ...]
    rules: tuple[Rule, ...] = ()
    decision: Decision | None = None
    metric: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


def write_inference(path: Path, inference: Inference) -> None:
    """Write the file, atomically; models are named by their places beside it, so that both can be moved together."""
    path = Path(path)
    members = [
        {"model": Path(os.path.relpath(one.model, path.parent)).as_posix(), "folds": list(one.folds)}
        for one in inference.members
    ]
    decision = None if inference.decision is None else decision_to_json(inference.decision)
    value = {
        "version": INFERENCE_VERSION,
        "members": members,
        "postprocessing": rules_to_json(inference.rules),
        "decision": decision,
        "metric": inference.metric,
        "figures": dict(inference.figures),
    }
    write_json(path, value)


def read_inference(path: Path) -> Inference:
    """What a file says. Raises CheckpointError where it is missing, malformed, or names a model that is not there."""
    path = Path(path)
    value = read_json(path, CheckpointError)
    try:
        if value["version"] != INFERENCE_VERSION:
            raise CheckpointError(f"{path}: version {value['version']}, expected {INFERENCE_VERSION}. Update msseg.")
        members = tuple(_member(path, row) for row in value["members"])
        rules = tuple(rules_from_json(value["postprocessing"], str(path)))
        decision = None if value["decision"] is None else decision_from_json(value["decision"], str(path))
        metric, figures = str(value["metric"]), dict(value["figures"])
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise CheckpointError(
            f"{path}: not a file of msseg_find_best ({problem!r}). Run msseg_find_best for the task again."
        ) from None
    if not members:
        raise CheckpointError(f"{path}: it names no model. Run msseg_find_best for the task again.")
    return Inference(members, rules, decision, metric, figures)


def _member(path: Path, row: Mapping[str, Any]) -> Member:
    model, folds = path.parent / str(row["model"]), tuple(str(fold) for fold in row["folds"])
    missing = [fold for fold in folds if not (model / f"fold_{fold}").is_dir()]
    if missing or not folds:
        found = f"folds {', '.join(missing)} of {model} are not there" if folds else f"no folds of {model}"
        raise CheckpointError(f"{path}: {found}. Keep the models beside the file, or run msseg_find_best again.")
    return Member(model, folds)
