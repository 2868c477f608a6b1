"""What the commands take that work on models, and the demo: export, prune, speeds, import and the whole line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from msseg.data.cases import Case
from msseg.data.dataset import read_dataset
from msseg.errors import CheckpointError
from msseg.folders import FINAL, Task, find_task, project_root
from msseg.inference.speeds import SPEEDS
from msseg.parallel import default_workers
from msseg.pipeline.explain_headers import preparation_bytes
from msseg.pipeline.explain_prediction import Views, prediction_work, used_device, work_of
from msseg.pipeline.model_header import ModelHeader, read_header, read_model_header
from planning.costs.cases import CaseSize
from planning.costs.estimate import Estimate, Part, estimate_of, in_sequence
from planning.costs.evaluation import PairSize, evaluation_estimate
from planning.costs.machine import Machine
from planning.costs.prediction import PredictionWork, prediction_estimate
from planning.costs.preparation import preparation_estimate
from planning.costs.short import export_estimate, import_estimate, pruning_estimate

if TYPE_CHECKING:  # it loads torch
    from msseg.pipeline.pruning import PruningOptions

PathLike = str | os.PathLike[str]

# The demos' cases: voxels, bytes a voxel, channels and classes; how many are test cases, and what compressing leaves.
_DEMO_CASES = {False: ((42, 80, 96), 2, 1, 3), True: ((1, 256, 256), 1, 3, 4)}
_DEMO_TEST_CASES, _DEMO_COMPRESSED = 5, 0.6
_FOLD = "fold_"


def explain_export(model: PathLike, machine: Machine, fold: str | None = None) -> Estimate:
    """One fold's network as ONNX; CheckpointError where there is none."""
    header = read_model_header(Path(model), None if fold is None else [fold])
    return export_estimate(replace(_work(header, [], Views(), "cpu"), networks=1), machine)


def explain_pruning(
    model: PathLike,
    machine: Machine,
    options: PruningOptions,
    task: str | None = None,
    root: PathLike | None = None,
    device: str = "auto",
) -> Estimate:
    """The levels that are measured, or the one that is cut to. Raises PlanError where the network cannot be cut."""
    from msseg.networks.pruning import prunable_levels, pruned_configuration  # loads torch

    folder, folds = _folder_and_folds(Path(model))
    header = read_model_header(folder, folds)
    kind, views = used_device(device, machine), Views(mirror=options.mirror)
    levels = prunable_levels(header.configuration) if options.level is None else (options.level,)
    cases = [] if options.level is not None else _validation_cases(header, folder, task, root, options.cases)
    works = [
        _work(replace(header, configuration=pruned_configuration(header.configuration, level)), cases, views, kind)
        for level in levels
    ]
    return pruning_estimate([replace(work, networks=1) for work in works], machine)


def explain_speeds(
    model: PathLike,
    machine: Machine,
    task: str | None = None,
    root: PathLike | None = None,
    cases: int | None = None,
    device: str = "auto",
) -> Estimate:
    """The validation cases of every fold predicted with every preset."""
    folder, folds = _folder_and_folds(Path(model))
    header = read_model_header(folder, folds)
    chosen = _validation_cases(header, folder, task, root, cases)
    kind = used_device(device, machine)
    views = {name: Views(mirror=speed.mirror, step=speed.step) for name, speed in SPEEDS.items()}
    works = {name: prediction_work(header, chosen, view, kind).of_one_fold() for name, view in views.items()}
    whole = in_sequence([(name, prediction_estimate(work, machine)) for name, work in works.items()])
    start_s = next(part.wall_s for part in prediction_estimate(next(iter(works.values())), machine).parts)
    parts = [Part("start and load", start_s), *(Part(one.name, one.wall_s - start_s) for one in whole.parts)]
    return estimate_of(parts, whole.ram_bytes, whole.disk_bytes, whole.vram_bytes, whole.settings, whole.assumptions)


def explain_import(model: PathLike, machine: Machine, folds: Sequence[str] | None = None) -> Estimate:
    """Checkpoints of another program read and written as ours; CheckpointError where there are none."""
    found = sorted(Path(model).glob(f"{_FOLD}*/checkpoint_*.pth"))
    paths = [path for path in found if not folds or path.parent.name.removeprefix(_FOLD) in folds]
    if not paths:
        raise CheckpointError(f"{model}: no {_FOLD}*/checkpoint_final.pth. Name the folder that holds plans.json.")
    by_fold = {path.parent: path.stat().st_size for path in paths}
    return import_estimate(list(by_fold.values()), machine)


def explain_demo(
    machine: Machine, budget_s: float, cases: int, workers: int | None = None, cells: bool = False
) -> Estimate:
    """The whole line on synthetic volumes, or images of cells; training is what its budget says."""
    workers = workers or default_workers()
    size, classes = _demo_case(cells)
    pair = PairSize(size.voxels, 2 * size.label_file_bytes, 2 * size.label_bytes)
    written_s = (cases + _DEMO_TEST_CASES) * size.voxels / machine.cases.resample_voxels_per_s
    stages = [
        ("write cases", estimate_of([Part("write", written_s)], machine.processes["prepare"].resident_bytes)),
        ("plan and preprocess", preparation_estimate([size] * cases, classes, workers, machine)),
        ("train", estimate_of([Part("train", budget_s)], machine.processes["train"].resident_bytes)),
        ("evaluate", evaluation_estimate([pair] * _DEMO_TEST_CASES, classes - 1, workers, machine)),
    ]
    whole = in_sequence([(name, estimate) for name, estimate in stages if estimate is not None])
    return replace(whole, assumptions=("predicting five cases is a matter of seconds",))


def _demo_case(cells: bool) -> tuple[CaseSize, int]:
    """The size of one case of the demo, and the number of its classes."""
    shape, voxel_bytes, channels, classes = _DEMO_CASES[cells]
    voxels = shape[0] * shape[1] * shape[2]
    image = voxel_bytes * voxels * channels
    memory = preparation_bytes(shape, channels, True, shape)
    file_bytes, label_file_bytes = round(_DEMO_COMPRESSED * image), voxels // 50
    return CaseSize("demo", shape, channels, file_bytes, image, label_file_bytes, voxels, shape, memory), classes


def _work(header: ModelHeader, cases: Sequence[Case], views: Views, device: str) -> PredictionWork:
    return work_of(header.plan, header.configuration, len(header.folds), cases, views, device)


def _folder_and_folds(model: Path) -> tuple[Path, list[str] | None]:
    """The model folder, and the one fold that was named by its folder or checkpoint."""
    fold = model.parent if model.is_file() else model
    return (fold.parent, [fold.name.removeprefix(_FOLD)]) if fold.name.startswith(_FOLD) else (model, None)


def _validation_cases(
    header: ModelHeader, folder: Path, task: str | None, root: PathLike | None, most: int | None
) -> list[Case]:
    """The first `most` validation cases of every fold, without their labels."""
    by_name = {case.name: case for case in read_dataset(_task(folder, task, root).raw).training}
    found = []
    for fold in header.folds:
        identity = read_header(folder / f"{_FOLD}{fold}" / FINAL)["metadata"].get("identity", {})
        names = sorted(identity.get("validation_cases", ()))[:most]
        found += [replace(by_name[name], label_path=None) for name in names if name in by_name]
    return found


def _task(folder: Path, task: str | None, root: PathLike | None) -> Task:
    """The task called `task`, or that of a model in ROOT/models/TASK/MODEL."""
    if task is not None:
        return find_task(task, project_root(root))
    parents = folder.resolve().parents
    return find_task(parents[0].name, Path(root) if root is not None else parents[2])
