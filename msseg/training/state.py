"""Where a training stands: what must survive a kill so that it goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from msseg.training.schedules import Plateau


@dataclass
class TrainingState:
    """Counters of one training. `losses` and `waited_s` (for batches) are of the epoch under way, `waited_in_all_s` of
    all; `finished` says why it ended, `budget_s` what was asked for then.

    The random state needs no place here: batch and step k draw from the seed and k alone.
    """

    step: int = 0
    elapsed_s: float = 0.0
    losses: list[float] = field(default_factory=list)
    waited_s: float = 0.0
    waited_in_all_s: float = 0.0
    average_updates: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    plateau: Plateau = field(default_factory=Plateau)
    zero_epochs: tuple[int, ...] = ()
    zero_validations: tuple[int, ...] = ()
    whole_volume_validations: int = 0
    seconds_per_case: float | None = None
    scaler: dict[str, Any] = field(default_factory=dict)
    finished: str = ""
    budget_s: float | None = None


# JSON has no infinity, which is what "no best loss yet" means.
_INFINITE = ("best", "stop_best")


def state_to_json(state: TrainingState) -> dict[str, Any]:
    """The state as JSON; floats survive exactly."""
    value = asdict(state)
    for key in _INFINITE:
        if value["plateau"][key] == float("inf"):
            value["plateau"][key] = None
    return value


def state_from_json(value: Mapping[str, Any]) -> TrainingState:
    """The state that `state_to_json` gave; KeyError or TypeError where it is of another make."""
    plateau: dict[str, Any] = dict(value["plateau"])
    for key in _INFINITE:
        plateau[key] = float("inf") if plateau[key] is None else plateau[key]
    rest: dict[str, Any] = {key: entry for key, entry in value.items() if key != "plateau"}
    for key in ("zero_epochs", "zero_validations"):
        rest[key] = tuple(rest[key])
    return TrainingState(**rest, plateau=Plateau(**plateau))
