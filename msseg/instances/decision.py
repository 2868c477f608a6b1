"""How probabilities become a mask and objects: thresholds found on validation, kept as JSON beside a model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from msseg.errors import CheckpointError
from planning.errors import PlanError
from planning.json_fields import at_least, number, record, refuse

_VERSION = 1


@dataclass(frozen=True)
class Decision:
    """Thresholds on probabilities, and what they were chosen by.

    A pixel is foreground where its probability exceeds `foreground`, in (0, 1). An object begins where the height of
    `msseg.instances.watershed` exceeds `seed`, in [0, 1); objects of fewer pixels than `smallest_px` are dropped.
    `value` is what `metric` (a name, "" = nothing was searched) came to on validation.
    """

    foreground: float = 0.5
    seed: float = 0.5
    smallest_px: int = 0
    metric: str = ""
    value: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.foreground < 1:
            raise ValueError(f"foreground={self.foreground}, expected a probability between 0 and 1")
        if not 0 <= self.seed < 1:
            raise ValueError(f"seed={self.seed}, expected at least 0 and less than 1")
        if self.smallest_px < 0:
            raise ValueError(f"smallest_px={self.smallest_px}, expected at least 0")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"value={self.value}, expected a finite number or None")


def decision_to_json(decision: Decision) -> dict[str, Any]:
    """The decision as a JSON object, its version first."""
    return {"version": _VERSION, **asdict(decision)}


def decision_from_json(value: Any, source: str) -> Decision:
    """The decision in a JSON object; `source` names the file. Raises CheckpointError where it is malformed."""
    try:
        if not isinstance(value, dict) or value.get("version") != _VERSION:
            found = value.get("version") if isinstance(value, dict) else value
            raise refuse(f"{source}: version", found, f"{_VERSION}; validate the model again")
        return _read({name: one for name, one in value.items() if name != "version"}, f"{source}: decision")
    except PlanError as error:
        raise CheckpointError(str(error)) from None
    except ValueError as error:
        raise CheckpointError(f"{source}: decision: {error}. Validate the model again or remove the file.") from None


def _name(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise refuse(place, value, "a text, empty where nothing was searched")
    return value


def _number_or_none(value: Any, place: str) -> float | None:
    return None if value is None else number(value, place)


_read = record(
    Decision,
    {"foreground": number, "seed": number, "smallest_px": at_least(0), "metric": _name, "value": _number_or_none},
)
