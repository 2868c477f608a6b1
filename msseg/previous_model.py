"""Where the second network of a cascade finds the model before it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msseg.errors import CheckpointError

# A model before it that a model folder brings along, as in a container.
INSIDE = "previous_stage"


@dataclass(frozen=True)
class PreviousModel:
    """The model whose segmentation a cascade's second network sees, and its `folds`, which answer together.

    `place` leads there from the second model's folder, so that both can be moved together.
    """

    place: str
    folds: tuple[str, ...]

    @classmethod
    def of(cls, model_dir: Path, previous_dir: Path, folds: Sequence[str]) -> PreviousModel:
        """The record that a model in `model_dir` keeps of the one in `previous_dir`."""
        place = os.path.relpath(Path(previous_dir).resolve(), Path(model_dir).resolve())
        return cls(Path(place).as_posix(), tuple(str(fold) for fold in folds))

    def folder(self, model_dir: Path) -> Path:
        """The model's folder, which is there; CheckpointError where it is gone, or is the second model's own."""
        found = self.expected(model_dir)
        if found == Path(model_dir).resolve():
            raise CheckpointError(
                f"{model_dir}: names itself as the first model of its cascade (previous_stage {self.place!r}), "
                "expected the way to another model folder. Copy the model again, or train it again."
            )
        if not found.is_dir():
            raise CheckpointError(
                f"{model_dir}: the second network of a cascade, whose first model is gone; expected it in {found}. "
                f"Put it back there, or copy it to {Path(model_dir) / INSIDE}."
            )
        return found

    def expected(self, model_dir: Path) -> Path:
        """Where the model is to be: in `model_dir` if that brings it along, else where it was in training."""
        own = Path(model_dir) / INSIDE
        return own if own.is_dir() else (Path(model_dir).resolve() / self.place).resolve()

    def as_json(self) -> dict[str, Any]:
        """The record in a checkpoint's header."""
        return {"model": self.place, "folds": list(self.folds)}


def previous_from_json(value: Mapping[str, Any] | None) -> PreviousModel | None:
    """The record of a header, None where it has none; KeyError or TypeError where it is of another make."""
    return None if value is None else PreviousModel(str(value["model"]), tuple(str(fold) for fold in value["folds"]))
