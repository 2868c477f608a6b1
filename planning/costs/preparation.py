"""What msseg_plan_and_preprocess takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from planning.costs.cases import CaseSize, case_read_s, examine_s, prepare_s, store_bytes
from planning.costs.estimate import Estimate, Part, estimate_of
from planning.costs.machine import CaseRates, Machine
from planning.costs.workers import PoolMemory, command_memory, pool_s, start_parts

_RECORD_BYTES = 20_000  # of the examination of one case, as JSON
_COMMAND, _WORKERS = "prepare", ("examining", "preparing")


def _kept_s(case: CaseSize, rates: CaseRates) -> float:
    """What was read for the check, narrowed and written, and read and widened again to be prepared."""
    return case.channels * case.voxels / rates.keep_voxels_per_s


def preparation_memory(machine: Machine) -> PoolMemory:
    """What the command and its workers hold before they have a case."""
    return command_memory(_COMMAND, _WORKERS, machine.processes)


def preparation_estimate(
    cases: Sequence[CaseSize], num_classes: int, workers: int, machine: Machine, max_bytes: int | None = None
) -> Estimate | None:
    """Check, plan and preprocess cases that nobody has examined yet; None where no worker fits `max_bytes`."""
    memory = [case.work_bytes for case in cases]
    held = preparation_memory(machine)
    used = held.affordable_workers(memory, workers, max_bytes)
    if not used:
        return None
    rates = machine.cases
    steps: dict[str, Callable[[CaseSize], float]] = {
        "read and inflate": lambda case: case_read_s(case, rates),
        "hash files": lambda case: (case.image_file_bytes + case.label_file_bytes) / rates.hash_bytes_per_s,
        "keep until prepared": lambda case: _kept_s(case, rates),
        "check and measure": lambda case: examine_s(case, rates),
        "normalise and resample": lambda case: prepare_s(case, rates),
        "write": lambda case: store_bytes(case, num_classes) / rates.write_bytes_per_s,
        "open and record": lambda _case: rates.case_overhead_s,
    }
    pooled = [Part(name, pool_s([step(case) for case in cases], used, machine.cores)) for name, step in steps.items()]
    return estimate_of(
        parts=(*start_parts(_COMMAND, _WORKERS, used, len(cases), machine), *pooled),
        ram_bytes=held.bytes_with(memory, used),
        disk_bytes=sum(store_bytes(case, num_classes) + _RECORD_BYTES for case in cases),
        settings=[("workers", f"{used} of {workers} asked for" if used < workers else str(used))],
        assumptions=["nothing is cropped, nothing was examined or prepared before, inflated files fit memory"],
    )
