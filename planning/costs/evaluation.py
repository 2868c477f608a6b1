"""What msseg_evaluate takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planning.costs.cases import evaluate_s, read_s
from planning.costs.estimate import Estimate, Part, estimate_of
from planning.costs.machine import Machine
from planning.costs.workers import affordable_workers, pool_bytes, pool_s

# Of a voxel: both label maps, a mask of each, and the positions of values while they are counted.
_BYTES_A_VOXEL = 14
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


def evaluation_estimate(
    pairs: Sequence[PairSize], labels: int, workers: int, machine: Machine, max_bytes: int | None = None
) -> Estimate | None:
    """Read and measure every pair; None where no worker fits `max_bytes`."""
    process, rates = machine.processes["evaluate"], machine.cases
    memory = [pair_bytes(pair) for pair in pairs]
    held = process.resident_bytes, process.private_bytes
    used = affordable_workers(*held, memory, workers, max_bytes)
    if not used:
        return None
    reading = [read_s(one.file_bytes, one.inflated_bytes, one.compressed, rates) for one in pairs]
    measuring = [evaluate_s(one.voxels, labels, rates) for one in pairs]
    starts = 1 + (used > 1 and len(pairs) > 1)
    return estimate_of(
        parts=(
            Part("start", starts * process.start_s),
            Part("read and inflate", pool_s(reading, used, machine.cores)),
            Part("overlaps and surfaces", pool_s(measuring, used, machine.cores)),
        ),
        ram_bytes=pool_bytes(*held, memory, used),
        disk_bytes=_ROW_BYTES * labels * len(pairs),
        settings=[("workers", f"{used} of {workers} asked for" if used < workers else str(used))],
        assumptions=["labels of ordinary size: how large their surfaces are is not in the headers"],
    )
