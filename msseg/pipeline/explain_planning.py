"""What msseg_plan_and_preprocess will take, from headers, and how many workers a limit of memory leaves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from msseg.data.dataset import Dataset, read_dataset
from msseg.data.image import read_geometry
from msseg.errors import DatasetError, PlanError, ResourceError
from msseg.files import read_json
from msseg.folders import Task, find_task, project_root
from msseg.parallel import default_workers
from msseg.pipeline.explain import too_little_memory
from msseg.pipeline.explain_headers import NewShape, case_size, guessed_shape, planned_shape, preparation_bytes
from msseg.preprocessing.examine import case_paths
from msseg.preprocessing.slabwise import CHUNK_VOXELS, LEAST_CHUNK_VOXELS
from planning.costs.cases import CaseSize
from planning.costs.estimate import Estimate
from planning.costs.machine import Machine
from planning.costs.preparation import preparation_estimate, preparation_memory
from planning.plan import plan_from_json


def explain_preparation(
    task: str | os.PathLike[str],
    machine: Machine,
    root: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    max_ram: int | None = None,
) -> Estimate:
    """The prediction for a data set that is prepared from nothing.

    Raises DatasetError where it cannot be found or has no readable header, ResourceError where not even one worker
    fits `max_ram` bytes.
    """
    place = find_task(os.fspath(task), project_root(root))
    dataset = read_dataset(place.raw, place.preprocessed if place.preprocessed.is_dir() else None)
    wanted, classes = workers or default_workers(), len(dataset.class_names)
    sizes = training_sizes(place, dataset)
    estimate = preparation_estimate(sizes, classes, wanted, machine, max_ram)
    if estimate is not None:
        return estimate
    thin = training_sizes(place, dataset, LEAST_CHUNK_VOXELS)
    estimate = preparation_estimate(thin, classes, 1, machine, max_ram)
    if estimate is None:
        raise _too_large(thin, machine, max_ram or 0)
    settings = (("workers", f"1 of {wanted} asked for"), ("slabs", "the thinnest"))
    return replace(estimate, settings=settings)


@dataclass(frozen=True)
class PreparingLimits:
    """How many cases are prepared at a time, and how many voxels of each are resampled at a time."""

    workers: int
    chunk_voxels: int = CHUNK_VOXELS


def preparing_limits(place: Task, dataset: Dataset, machine: Machine, workers: int, max_ram: int) -> PreparingLimits:
    """The most workers, up to `workers`, that prepare the cases within `max_ram` bytes, all processes together.

    Where not even one does, it takes the thinnest slabs; ResourceError where that is too much as well.
    """
    held, sizes = preparation_memory(machine), training_sizes(place, dataset)
    used = held.affordable_workers([size.work_bytes for size in sizes], workers, max_ram)
    if used:
        return PreparingLimits(used)
    thin = training_sizes(place, dataset, LEAST_CHUNK_VOXELS)
    if not held.affordable_workers([size.work_bytes for size in thin], 1, max_ram):
        raise _too_large(thin, machine, max_ram)
    return PreparingLimits(1, LEAST_CHUNK_VOXELS)


def _too_large(sizes: Sequence[CaseSize], machine: Machine, max_ram: int) -> ResourceError:
    largest = max(sizes, key=lambda size: size.work_bytes)
    needed = machine.processes["prepare"].resident_bytes + largest.work_bytes
    why = f"its largest case, {largest.name}, has {' x '.join(map(str, largest.shape))} voxels"
    return too_little_memory("preprocessing", needed, max_ram, why, "Give more, or take the case out.")


def training_sizes(place: Task, dataset: Dataset, chunk_voxels: int = CHUNK_VOXELS) -> list[CaseSize]:
    """The sizes of the training cases whose files are there, on the plan's grid where there is a plan.

    `chunk_voxels` of a case are resampled at a time.
    """
    there = [case for case in dataset.training if all(path.is_file() for path in case_paths(case))]
    if not there:
        raise DatasetError(f"{place.raw}: none of {len(dataset.training)} training cases has its files. Copy them.")
    shape = _planned(place) or guessed_shape([read_geometry(case.image_paths[0]) for case in there])
    memory = partial(preparation_bytes, chunk_voxels=chunk_voxels)
    return [case_size(case, len(dataset.channels), shape, memory) for case in there]


def _planned(place: Task) -> NewShape | None:
    if not place.plan_path.is_file():
        return None
    plan = plan_from_json(read_json(place.plan_path, PlanError), str(place.plan_path))
    return planned_shape(plan.configurations[plan.default_configuration], plan.axis_order, plan.has_spacing)
