"""What comparing the models of a task will take, from headers, and how it stays within a limit of memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from msseg.data.cases import Case
from msseg.data.dataset import read_dataset
from msseg.folders import find_task, project_root
from msseg.parallel import default_workers
from msseg.pipeline.cross_validation import CrossValidation, Folds, cross_validations, nothing_complete, read_folds
from msseg.pipeline.explain import too_little_memory
from msseg.pipeline.explain_evaluation import pair_size
from msseg.pipeline.explain_prediction import Views, prediction_work, scores_bytes, used_device
from msseg.pipeline.model_header import read_model_header
from msseg.pipeline.out_of_fold_scores import scored_path
from planning.costs.estimate import Estimate, Part, estimate_of, in_sequence
from planning.costs.evaluation import PairSize, measuring_parts
from planning.costs.machine import Machine
from planning.costs.prediction import Kept, PredictionWork, prediction_estimate
from planning.costs.workers import PoolMemory, command_memory
from planning.plan import Plan

# Every candidate is looked at twice, for rules and for figures; probabilities are inflated each time.
_LOOKS = 2
# Of a voxel, beside its stored probabilities of a byte each: label maps, masks and components while rules are tried.
_LOOK_BYTES = 20
# A slab of the mean.
_SLAB_BYTES = 64 << 20


@dataclass(frozen=True)
class Limits:
    """What `--max-ram` leaves to the scores of one case, by model (no entry: no limit), and how many workers."""

    max_bytes: Mapping[str, int]
    workers: int


def explain_find_best(
    task: str | os.PathLike[str],
    machine: Machine,
    root: str | os.PathLike[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    ensembles: bool = True,
    max_ram: int | None = None,
) -> Estimate:
    """Probabilities that are missing, and every model and pair looked at on every case.

    Raises DatasetError where the task has no folds, CheckpointError where no model is complete, ResourceError where
    even the least does not fit `max_ram` bytes.
    """
    place = find_task(os.fspath(task), project_root(root))
    folds = read_folds(place)
    cases = {case.name: case for case in read_dataset(place.raw, place.preprocessed).training}
    found = cross_validations(place, folds)
    models = [one for one in found if one.complete]
    if not models:
        raise nothing_complete(place, found)
    workers = workers or default_workers()
    if max_ram is not None:
        workers = limits_of(models, folds, cases, device, ensembles, workers, max_ram, machine).workers
    work = _missing_work(models, folds, cases, used_device(device, machine))
    predicting = [(name, prediction_estimate(one, machine)) for name, one in work.items()]
    held = max((one.ram_bytes for _, one in predicting), default=0)
    looking = _looking(models, folds, cases, ensembles, workers, machine, held)
    return in_sequence([*predicting, ("compare", looking)])


def limits_of(
    models: Sequence[CrossValidation],
    folds: Folds,
    cases: Mapping[str, Case],
    device: str,
    ensembles: bool,
    workers: int,
    max_ram: int,
    machine: Machine | None = None,
) -> Limits:
    """How missing probabilities are made, and how many workers look at cases, within `max_ram` bytes.

    Raises ResourceError where even one case's scores, or one worker, do not fit.
    """
    if machine is None:
        from msseg.machine import measured_machine

        machine = measured_machine()
    work = _missing_work(models, folds, cases, used_device(device, machine))
    max_bytes = {name: scores_bytes(one, machine, max_ram) for name, one in work.items()}
    # This process keeps what prediction frees, which may be all that it was allowed.
    held = max((min(prediction_estimate(one, machine).ram_bytes, max_ram) for one in work.values()), default=0)
    memory, each = _look_memory(models[0].plan, machine, held), _look_bytes(models, folds, cases, ensembles)
    used = memory.affordable_workers(each, workers, max_ram)
    if not used:
        needed, why = memory.bytes_with(each, 1), "the probabilities of its largest case are held"
        raise too_little_memory("comparing", needed, max_ram, why, "Give more, or compare with --no-ensembles.")
    return Limits(max_bytes, used)


def _missing_work(
    models: Sequence[CrossValidation], folds: Folds, cases: Mapping[str, Case], device: str
) -> dict[str, PredictionWork]:
    """By model the cases without probabilities, through one network each; none where all are there."""
    work = {}
    for model in models:
        missing = [
            replace(cases[name], label_path=None)
            for fold, names in folds.validation.items()
            for name in names
            if name in cases and not scored_path(model.folder, fold, name).is_file()
        ]
        if missing:
            header = read_model_header(model.folder, [next(iter(folds.validation))])
            work[model.name] = prediction_work(
                header, missing, Views(), device, 1, Kept(probabilities=True)
            ).of_one_fold()
    return work


def _looking(
    models: Sequence[CrossValidation],
    folds: Folds,
    cases: Mapping[str, Case],
    ensembles: bool,
    workers: int,
    machine: Machine,
    held_bytes: float,
) -> Estimate:
    count = len(models) + (len(models) * (len(models) - 1) // 2 if ensembles else 0)
    labels = max(len(one.plan.planes) for one in models)
    parts = measuring_parts(_pairs(folds, cases), labels, workers, machine)
    memory = _look_memory(models[0].plan, machine, held_bytes)
    return estimate_of(
        [Part("look", _LOOKS * count * sum(part.wall_s for part in parts))],
        memory.bytes_with(_look_bytes(models, folds, cases, ensembles), workers),
        settings=[("models", str(len(models))), ("candidates", str(count)), ("workers", str(workers))],
        assumptions=["rules take as long as surfaces"],
    )


def _look_memory(plan: Plan, machine: Machine, held_bytes: float) -> PoolMemory:
    """What the command holds beside cases. Workers that make objects load torch, as prediction does."""
    processes = machine.processes
    memory = command_memory("evaluate", ("predict" if plan.instances else "evaluating",), processes)
    alone = processes["predict"].resident_bytes
    return replace(memory, alone=alone, main=max(alone, round(held_bytes)))


def _look_bytes(
    models: Sequence[CrossValidation], folds: Folds, cases: Mapping[str, Case], ensembles: bool
) -> list[int]:
    """What looking at each case takes: all members' stored probabilities, and of objects their mean in float32."""
    members = min(2, len(models)) if ensembles else 1
    plan = models[0].plan
    values = plan.outputs * (members + (4 if plan.instances else 0))
    return [(values + _LOOK_BYTES) * pair.voxels + _SLAB_BYTES for pair in _pairs(folds, cases)]


def _pairs(folds: Folds, cases: Mapping[str, Case]) -> list[PairSize]:
    known = [cases[name] for name in folds.cases if name in cases]
    return [pair_size(case.image_paths[0], case.label_path) for case in known if case.label_path is not None]
