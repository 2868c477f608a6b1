"""How many workers memory holds, and how long a pool of them takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planning.costs.estimate import Part
from planning.costs.machine import Machine, Process

_SERVER = "server"  # the process that workers are forked from; another keeps count of what they share
_SERVERS = 2
BY_WORKERS = " by workers"  # the row of a command that leaves its work to them
# One worker works in the command's own process.
_ALONE = 1


def is_pooled(workers: int, items: int) -> bool:
    """Whether items are worked on by processes of their own: one worker, or one item, has no need of any."""
    return workers > _ALONE and items > _ALONE


def pool_start_s(kinds: Sequence[str], workers: int, items: int, machine: Machine) -> float:
    """Until pools of workers, one kind after the other, have loaded what they need; 0 where nothing is pooled."""
    if not is_pooled(workers, items):
        return 0.0
    processes = machine.processes
    turns = min(workers, items) / pool_speed(workers, machine.cores, items)
    return _SERVERS * processes[_SERVER].start_s + turns * sum(processes[kind].start_s for kind in kinds)


@dataclass(frozen=True)
class PoolMemory:
    """Bytes of a command's own process without and with workers, of each worker, and of what these are started from."""

    alone: int
    main: int
    worker: int
    server: int

    def bytes_with(self, work_bytes: Sequence[int], workers: int) -> int:
        """The most memory that the command and its workers hold: the largest cases may meet."""
        if not is_pooled(workers, len(work_bytes)):
            return self.alone + max(work_bytes, default=0)
        largest = sorted(work_bytes, reverse=True)[:workers]
        return self.main + self.server + sum(self.worker + one for one in largest)

    def affordable_workers(self, work_bytes: Sequence[int], workers: int, max_bytes: int | None) -> int:
        """The most workers, up to `workers`, that stay within `max_bytes`; 0 where not even one does."""
        if max_bytes is None:
            return workers
        fitting = (count for count in range(workers, 0, -1) if self.bytes_with(work_bytes, count) <= max_bytes)
        return next(fitting, 0)


def command_memory(command: str, kinds: Sequence[str], processes: Mapping[str, Process]) -> PoolMemory:
    """What a command holds before it has a case; of several kinds of workers the largest counts."""
    worker = max(processes[kind].private_bytes for kind in kinds)
    main = processes[f"{command}{BY_WORKERS}"].resident_bytes
    return PoolMemory(processes[command].resident_bytes, main, worker, _SERVERS * processes[_SERVER].private_bytes)


def start_parts(command: str, kinds: Sequence[str], workers: int, items: int, machine: Machine) -> list[Part]:
    """The start of a command and of its workers."""
    pooled = is_pooled(workers, items)
    process = machine.processes[f"{command}{BY_WORKERS}" if pooled else command]
    return [
        Part("start", process.start_s),
        Part("start workers", pool_start_s(kinds, workers, items, machine)),
    ]


def pool_speed(workers: int, cores: int, items: int) -> int:
    """How many items are worked on at a time."""
    return max(1, min(workers, cores, items))


def pool_s(seconds: Sequence[float], workers: int, cores: int) -> float:
    """Wall time of items that take so long each: an even share, but never less than the longest."""
    if not seconds:
        return 0.0
    return max(sum(seconds) / pool_speed(workers, cores, len(seconds)), max(seconds))
