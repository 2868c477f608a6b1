"""After a fold's last step: its validation predicted and measured, postprocessing chosen, speeds measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from planning.costs.estimate import Part
from planning.costs.evaluation import EVALUATING, PairSize, evaluation_memory, measuring_parts, pair_bytes
from planning.costs.machine import Machine
from planning.costs.workers import pool_s, pool_speed, pool_start_s

# Components are looked for in the prediction, once more for its holes, and in the reference.
_COMPONENT_PASSES = 3
# The trainer measures speeds in this share of its own time (`msseg.pipeline.speeds.SHARE_OF_TRAINING`) and begins if so
# many times what a case took should fit; it leaves the budget a margin, and measures so many cases at most.
_SHARE_OF_TRAINING = 0.1
_FIRST_CASE_COST = 3.0
_MARGIN_S = 1.0
_MOST_CASES = 8


@dataclass(frozen=True)
class FoldEnd:
    """A fold's validation cases with `labels` foreground labels, and what predicting them takes.

    `predicting_s` is all of them, exactly; `preset_case_s` one case, on average, under each preset of speed: the most
    exact first, the fastest last. `predicting_bytes` come on top of the process.
    """

    pairs: tuple[PairSize, ...]
    labels: int
    workers: int
    predicting_s: float
    predicting_bytes: int
    preset_case_s: Mapping[str, float]


def fold_end_parts(end: FoldEnd, machine: Machine) -> list[Part]:
    """Predict, measure, and look at what postprocessing would do, in pools one after the other."""
    used = min(end.workers, len(end.pairs))
    measuring = sum(part.wall_s for part in measuring_parts(end.pairs, end.labels, used, machine))
    measuring += pool_start_s((EVALUATING,), used, len(end.pairs), machine)
    return [
        Part("validation: predict", end.predicting_s),
        Part("validation: evaluate", measuring),
        Part("validation: choose postprocessing", _choosing_s(end, used, machine)),
    ]


def _choosing_s(end: FoldEnd, workers: int, machine: Machine) -> float:
    """A second pool: what workers are started from is there already, what they load is the same."""
    voxels = [pair.voxels * _COMPONENT_PASSES for pair in end.pairs]
    looking = pool_s([one / machine.cases.components_voxels_per_s for one in voxels], workers, machine.cores)
    if workers <= 1:
        return looking
    turns = workers / pool_speed(workers, machine.cores, len(end.pairs))
    return turns * machine.processes[EVALUATING].start_s + looking


def fold_end_bytes(end: FoldEnd | None, machine: Machine) -> int:
    """The workers of the pools, beside the main process."""
    if end is None or min(end.workers, len(end.pairs)) <= 1:
        return 0
    workers = replace(evaluation_memory(machine), main=0)
    return workers.bytes_with([pair_bytes(pair) for pair in end.pairs], end.workers)


def speeds_s(end: FoldEnd, training_s: float, left_s: float) -> float:
    """Seconds of measuring the presets: as many cases as fit their share of the training, or what a budget leaves."""
    allowed_s = min(_SHARE_OF_TRAINING * training_s, left_s - _MARGIN_S)
    each = list(end.preset_case_s.values())
    if not each or _FIRST_CASE_COST * each[0] > allowed_s:
        return 0.0
    warm_up_s, case_s = each[-1], sum(each)
    more = int(max(0.0, allowed_s - warm_up_s - case_s) / case_s)
    return warm_up_s + case_s * (1 + min(more, _MOST_CASES - 1, len(end.pairs) - 1))
