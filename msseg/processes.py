"""The processes that torchrun starts, as it describes each to itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msseg.errors import MssegError

# Without all of these nobody could be found.
_NEEDED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# The variable of each field, and what holds where it is left out.
_READ = {
    "rank": ("RANK", "0"),
    "local_rank": ("LOCAL_RANK", "0"),
    "world": ("WORLD_SIZE", "1"),
    "local_world": ("LOCAL_WORLD_SIZE", "1"),
    "restarts": ("TORCHELASTIC_RESTART_COUNT", "0"),
}


@dataclass(frozen=True)
class Processes:
    """This process among those that train together: its number, in all and on this machine, and how many there are.

    `restarts` counts how often torchrun has started all of them anew.
    """

    rank: int = 0
    local_rank: int = 0
    world: int = 1
    local_world: int = 1
    restarts: int = 0


def processes_in(environment: Mapping[str, str]) -> Processes | None:
    """What torchrun's variables say of this process; None where it was not started by it.

    Raises MssegError for a variable that is no number.
    """
    if any(name not in environment for name in _NEEDED):
        return None
    try:
        numbers = {field: int(environment.get(name, usual)) for field, (name, usual) in _READ.items()}
    except ValueError as problem:
        raise MssegError(f"a variable of torchrun: {problem}. Start the processes with torchrun.") from None
    return Processes(**numbers)
