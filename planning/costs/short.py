"""What the commands take that are short, or made of others: plan, networks, export, prune, demo."""

from __future__ import annotations

from collections.abc import Sequence

from planning.costs.estimate import Estimate, Part, estimate_of
from planning.costs.machine import Machine
from planning.costs.network import network_seconds
from planning.costs.prediction import PredictionWork, network_bytes, weight_bytes

_PLAN_BYTES = 20_000
# Exporting traces the network, writes it and runs the file beside the network: seconds were all in the exporter, which
# is bound by the interpreter as a start is.
_EXPORTER_STARTS, _EXPORTER_BYTES = 3.2, 300_000_000
_CHECKED_FORWARDS = 4
_EXPORT_COPIES = 4


def planning_estimate(machine: Machine) -> Estimate:
    """msseg_plan: a plan from a fingerprint, which takes as long for any data set."""
    process = machine.processes["plan"]
    return estimate_of([Part("start and plan", process.start_s)], process.resident_bytes, _PLAN_BYTES)


def networks_estimate(machine: Machine) -> Estimate:
    """msseg_networks: every row of the table counted, whatever the patch."""
    process = machine.processes["networks"]
    return estimate_of([Part("start and count", process.start_s)], process.resident_bytes)


def export_estimate(work: PredictionWork, machine: Machine) -> Estimate:
    """msseg_export: one fold's network as ONNX, checked against the network."""
    process = machine.processes["predict"]
    forward_s = network_seconds(work.configuration, work.in_channels, work.num_classes, machine.cpu).forward_s
    parts = [
        Part("start and load", process.start_s),
        Part("trace and write", _EXPORTER_STARTS * process.start_s),
        Part("check with onnxruntime", _CHECKED_FORWARDS * forward_s),
    ]
    memory = process.resident_bytes + _EXPORTER_BYTES + _EXPORT_COPIES * weight_bytes(work) + network_bytes(work)
    assumptions = ["the exporter's own time is as many starts as on the machine this was written on"]
    return estimate_of(parts, memory, weight_bytes(work), assumptions=assumptions)


def pruning_estimate(levels: Sequence[PredictionWork], machine: Machine) -> Estimate:
    """msseg_prune: the cases of all folds through every level's network; none where the level is named."""
    process = machine.processes["predict"]
    loading = sum(weight_bytes(level) for level in levels) / machine.cases.read_bytes_per_s
    parts = [Part("start and load", process.start_s + loading)]
    for number, level in enumerate(levels, start=1):
        forward_s = network_seconds(level.configuration, level.in_channels, level.num_classes, machine.cpu).forward_s
        seconds = sum(case.patches for case in level.cases) * forward_s
        parts.append(Part(f"level {number}", seconds))
    memory = max(
        (network_bytes(level) + max((c.work_bytes for c in level.cases), default=0) for level in levels), default=0
    )
    return estimate_of(parts, process.resident_bytes + memory, weight_bytes(levels[-1]) if levels else 0)


def import_estimate(file_bytes: Sequence[int], machine: Machine) -> Estimate:
    """msseg_import_nnunet: checkpoints of so many bytes read, one after the other, and their weights written.

    Of a checkpoint about a half is weights; the other half is the optimiser's momentum.
    """
    process = machine.processes["predict"]
    total, rates = sum(file_bytes), machine.cases
    weights = total / 2
    parts = [
        Part("start", process.start_s),
        Part("read", total / rates.read_bytes_per_s),
        Part("write", weights / rates.write_bytes_per_s),
    ]
    return estimate_of(parts, process.resident_bytes + 2 * max(file_bytes), weights)
