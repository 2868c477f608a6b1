"""What msseg_evaluate takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planning.costs.cases import evaluate_s, read_s
from planning.costs.estimate import Estimate, Part, estimate_of
from planning.costs.machine import Machine
from planning.costs.workers import PoolMemory, command_memory, pool_s, start_parts

# Of a voxel: both label maps, a mask of each, and the positions of values while they are counted.
_BYTES_A_VOXEL = 14
_COMMAND, EVALUATING = "evaluate", "evaluating"  # and its worker
_ROW_BYTES = 700  # of one label of one case in JSON and CSV


@dataclass(frozen=True)
class PairSize:
    """A prediction and its reference: voxels of one, bytes of both."""

    voxels: int
    file_bytes: int
    inflated_bytes: int
    compressed: bool = True


def pair_bytes(pair: PairSize) -> int:
    """The most memory that measuring a pair takes beyond what its process takes anyway."""
    return _BYTES_A_VOXEL * pair.voxels


def evaluation_memory(machine: Machine) -> PoolMemory:
    """What the command and its workers hold before they have a pair."""
    return command_memory(_COMMAND, (EVALUATING,), machine.processes)


def measuring_parts(pairs: Sequence[PairSize], labels: int, workers: int, machine: Machine) -> list[Part]:
    """All pairs read and measured by so many workers, once these are there."""
    rates = machine.cases
    reading = [read_s(one.file_bytes, one.inflated_bytes, one.compressed, rates) for one in pairs]
    measuring = [evaluate_s(one.voxels, labels, rates) for one in pairs]
    return [
        Part("read and inflate", pool_s(reading, workers, machine.cores)),
        Part("overlaps and surfaces", pool_s(measuring, workers, machine.cores)),
    ]


def evaluation_estimate(
    pairs: Sequence[PairSize], labels: int, workers: int, machine: Machine, max_bytes: int | None = None
) -> Estimate | None:
    """Read and measure every pair; None where no worker fits `max_bytes`."""
    memory = [pair_bytes(pair) for pair in pairs]
    held = evaluation_memory(machine)
    used = held.affordable_workers(memory, workers, max_bytes)
    if not used:
        return None
    return estimate_of(
        parts=(
            *start_parts(_COMMAND, (EVALUATING,), used, len(pairs), machine),
            *measuring_parts(pairs, labels, used, machine),
        ),
        ram_bytes=held.bytes_with(memory, used),
        disk_bytes=_ROW_BYTES * labels * len(pairs),
        settings=[("workers", f"{used} of {workers} asked for" if used < workers else str(used))],
        assumptions=["labels of ordinary size: how large their surfaces are is not in the headers"],
    )
