"""What a model folder says of itself, read from its checkpoints' headers: no weight is loaded, nor torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msseg.errors import CheckpointError
from msseg.files import content_hash
from msseg.folders import FINAL, LATEST
from msseg.previous_model import PreviousModel, previous_from_json
from planning.plan import Configuration, Plan, plan_from_json

_METADATA_KEY = "msseg"
_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class ModelHeader:
    """A model's plan, the configuration that it was trained with, its folds, and the bytes of their files.

    `previous` leads from the model's `folder` to the first model of a cascade.
    """

    plan: Plan
    configuration: Configuration
    folds: tuple[str, ...]
    file_bytes: int
    folder: Path = Path()
    previous: PreviousModel | None = None


def read_model_header(folder: Path, folds: Sequence[str | int] | None = None) -> ModelHeader:
    """The header of `folds` (default: all trained); CheckpointError where there is none, or one is damaged."""
    names = [str(fold) for fold in folds] if folds else _trained_folds(folder)
    if not names:
        raise CheckpointError(f"{folder}: no trained fold (fold_*/{FINAL}). Train one first (msseg_train).")
    paths = [_weights_path(folder, name) for name in names]
    headers = [read_header(path) for path in paths]
    plan = plan_from_json(headers[0]["plan"], str(paths[0]))
    configuration = plan.configurations[headers[0]["configuration_name"]]
    axes = [set(_mirror_axes(header)) for header in headers]
    shared = tuple(axis for axis in configuration.mirror_axes if all(axis in each for each in axes))
    size = sum(path.stat().st_size for path in paths)
    previous = previous_from_json(headers[0].get("previous_stage"))
    return ModelHeader(plan, replace(configuration, mirror_axes=shared), tuple(names), size, Path(folder), previous)


def read_stages(folder: Path, folds: Sequence[str | int] | None = None) -> list[ModelHeader]:
    """The headers of all networks of a cascade, the first one first; of any other model its own alone."""
    header = read_model_header(folder, folds)
    if header.previous is None:
        return [header]
    return [*read_stages(header.previous.folder(folder), header.previous.folds), header]


def weights_hash(checkpoint: Path) -> str:
    """A hash of a fold's checkpoint and, in a cascade, of the same fold's of the model before it."""
    fold = checkpoint.parent
    previous = previous_from_json(read_header(checkpoint).get("previous_stage"))
    before = [] if previous is None else [_weights_path(previous.folder(fold.parent), fold.name.removeprefix("fold_"))]
    return content_hash(checkpoint, *before)


def read_header(path: Path) -> dict[str, Any]:
    """What a checkpoint's metadata holds beside the tensors."""
    try:
        with path.open("rb") as stream:
            (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
            stored = json.loads(stream.read(min(length, _LONGEST_HEADER)))
        header: dict[str, Any] = json.loads(stored["__metadata__"][_METADATA_KEY])
        return header
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint. Train this fold first (msseg_train).") from None
    except (struct.error, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: not a checkpoint of msseg_train. Train again, or copy it again.") from None


def _mirror_axes(header: dict[str, Any]) -> list[int]:
    axes: list[int] = header["plan"]["configurations"][header["configuration_name"]]["mirror_axes"]
    return axes


def _trained_folds(folder: Path) -> list[str]:
    for name in (FINAL, LATEST):
        found = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{name}"))
        if found:
            return found
    return []


def _weights_path(folder: Path, fold: str) -> Path:
    places = [folder / f"fold_{fold}" / name for name in (FINAL, LATEST)]
    return next((path for path in places if path.is_file()), places[0])
