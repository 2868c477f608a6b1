"""What msseg_train will take, from the plan, the recipe and the headers of the validation cases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msseg.data.cases import Case
from msseg.data.dataset import read_dataset
from msseg.data.found_layouts import is_data_set
from msseg.data.store import stored_names
from msseg.errors import CheckpointError, DatasetError
from msseg.files import read_json
from msseg.folders import Task, find_task, project_root
from msseg.inference.speeds import SPEEDS
from msseg.parallel import default_workers
from msseg.pipeline.configurations import chosen_configuration, plan_for_network
from msseg.pipeline.explain import too_little_memory
from msseg.pipeline.explain_evaluation import pair_size
from msseg.pipeline.explain_prediction import Views, used_device, work_of
from msseg.pipeline.planning import load_plan
from msseg.pipeline.previous_stage import first_stage
from msseg.pipeline.splits import split_of, splits_of
from msseg.training.recipes import Recipe, configured_in, default_recipe, recipe_named, scaled_features, training_patch
from planning.costs.estimate import Estimate, Part
from planning.costs.fold_end import FoldEnd
from planning.costs.machine import Machine
from planning.costs.prediction import RESERVED_BYTES, STARTING, PredictionWork, prediction_estimate
from planning.costs.training import TrainingWork, fitted_configuration, training_bytes, training_estimate
from planning.plan import Plan
from planning.splits import Split
from planning.training_memory import OPTIMISER_STATES

# The widths that the trainer tries where a budget is short, `msseg.training.fitting.BASE_FEATURES`, which loads torch.
_BASE_FEATURES = (8, 12, 16, 24, 32, 48)
_USUAL_OPTIMISER = "adamw"
_WHOLE_VOLUMES = 5


@dataclass(frozen=True)
class TrainingWish:
    """What the user asks of training, as far as it tells on the cost; None leaves a choice to plan and recipe."""

    configuration: str | None = None
    network: str | None = None
    network_options: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    budget_s: float | None = None
    group_by: str | None = None
    augment: str | None = None
    previous_stage: Path | None = None


def explain_training(
    task: str | os.PathLike[str],
    fold: int | str,
    machine: Machine,
    wish: TrainingWish | None = None,
    root: str | os.PathLike[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    max_ram: int | None = None,
    begun: bool = False,
) -> Estimate:
    """The prediction for one fold, begun anew; where a cascade is `begun`, another fold has made what it learns from.

    Raises DatasetError where the task is not planned, ResourceError where even a training that makes its batches
    itself does not fit `max_ram` bytes.
    """
    wish = wish or TrainingWish()
    place = find_task(os.fspath(task), project_root(root))
    work = training_work(place, fold, machine, wish, device, workers)
    if max_ram is not None:
        work = replace(work, batch_workers=affordable_batch_workers(work, machine, max_ram))
    estimate = training_estimate(work, machine)
    return estimate if begun else _with_first_stage(estimate, work, place, wish, machine)


def _with_first_stage(
    estimate: Estimate, work: TrainingWork, place: Task, wish: TrainingWish, machine: Machine
) -> Estimate:
    """With the predictions that the second network of a cascade learns from, as far as they are missing."""
    if work.configuration.previous_stage is None:
        return estimate
    plan, assumptions = _plan(place, wish), estimate.assumptions
    first = plan.configurations[work.configuration.previous_stage]
    try:
        missing = first_stage(place, plan, work.configuration, wish.previous_stage).missing()
        names = [name for cases in missing.values() for name in cases]
    except (CheckpointError, DatasetError):
        names = [case.name for case in read_dataset(place.raw, place.preprocessed).training]
        assumptions = (*assumptions, f"the folds of {first.name} are trained by then, see msseg_train")
    images = [replace(case, label_path=None) for case in _cases(place, names)]
    if not images:
        return estimate
    before = prediction_estimate(work_of(plan, first, 1, images, Views(), work.device), machine)
    return replace(
        estimate,
        wall_s=estimate.wall_s + before.wall_s,
        ram_bytes=max(estimate.ram_bytes, before.ram_bytes),
        vram_bytes=max(estimate.vram_bytes, before.vram_bytes),
        parts=(Part(f"predict with {first.name}", before.wall_s), *estimate.parts),
        assumptions=assumptions,
    )


def affordable_batch_workers(work: TrainingWork, machine: Machine, max_ram: int) -> int:
    """The most processes that may make batches within `max_ram` bytes; 0 makes them in the trainer's own.

    Raises ResourceError where even that needs more.
    """
    reserved = RESERVED_BYTES if work.device == "cpu" else 0
    for count in range(work.batch_workers, -1, -1):
        if training_bytes(replace(work, batch_workers=count), machine) + reserved <= max_ram:
            return count
    needed = training_bytes(replace(work, batch_workers=0), machine) + reserved
    batch = f"{work.configuration.batch_size} patches of {' x '.join(map(str, work.patch_size))}"
    why = f"one step of {work.configuration.network} on {batch} is that large"
    raise too_little_memory("training", needed, max_ram, why, "Plan with a smaller --memory, or give more.")


def training_work(
    place: Task,
    fold: int | str,
    machine: Machine,
    wish: TrainingWish,
    device: str = "auto",
    workers: int | None = None,
) -> TrainingWork:
    """What is trained on what, and what its validation takes; nothing but headers is read and nothing written."""
    plan = _plan(place, wish)
    planned = chosen_configuration(plan, wish.configuration)
    recipe = _recipe(wish)
    kind = used_device(device, machine)
    configuration = configured_in(plan, planned, recipe)
    wanted = workers or default_workers()
    # As `msseg.training.device_batches.default_augment`, which loads torch.
    augment = wish.augment or ("workers" if kind == "mps" else "device")
    work = TrainingWork(
        configuration=configuration,
        patch_size=training_patch(configuration, recipe),
        in_channels=len(plan.channels),
        num_classes=plan.outputs,
        optimiser=_optimiser(recipe),
        augmentation=recipe.augmentation,
        averages=bool(recipe.average_decay),
        steps_per_epoch=recipe.steps_per_epoch,
        validation_batches=recipe.validation_batches,
        epochs=wish.epochs or (None if wish.budget_s is not None else recipe.epochs),
        budget_s=wish.budget_s,
        batch_workers=0 if augment == "device" else min(wanted, 1) if kind == "cpu" else wanted,
        device=kind,
        augment=augment,
    )
    work = _fitted(work, recipe, machine)
    return _with_validation(work, place, plan, fold, recipe, wish, wanted, machine)


def _plan(place: Task, wish: TrainingWish) -> Plan:
    """The plan, with the configurations of another network where one is asked for, as the trainer makes them."""
    return plan_for_network(place, load_plan(place), wish.network, wish.configuration, wish.network_options)


def _recipe(wish: TrainingWish) -> Recipe:
    recipe = recipe_named(wish.recipe) if wish.recipe else default_recipe(wish.budget_s is not None)
    if not wish.overrides:
        return recipe
    from msseg.training.overrides import overridden  # loads torch

    return overridden(recipe, wish.overrides)


def _optimiser(recipe: Recipe) -> str:
    if dict(recipe.optimiser_options).get("amsgrad"):
        return "amsgrad"
    return recipe.optimiser if recipe.optimiser in OPTIMISER_STATES else _USUAL_OPTIMISER


def _fitted(work: TrainingWork, recipe: Recipe, machine: Machine) -> TrainingWork:
    """As narrow as the trainer makes the network where the budget is short."""
    if work.budget_s is None or recipe.fitted_steps is None:
        return work
    planned = work.configuration.features
    narrower = [
        replace(work.configuration, features=scaled_features(planned, base))
        for base in _BASE_FEATURES
        if base < planned[0]
    ]
    candidates = [*narrower, work.configuration]
    return replace(work, configuration=fitted_configuration(work, candidates, recipe.fitted_steps, machine))


def _with_validation(
    work: TrainingWork,
    place: Task,
    plan: Plan,
    fold: int | str,
    recipe: Recipe,
    wish: TrainingWish,
    workers: int,
    machine: Machine,
) -> TrainingWork:
    """With all that is done on the fold's validation cases, at the end and on the way."""
    names = _split(place, str(fold), wish, work.configuration.name).validation
    cases = _cases(place, names)
    if not cases:
        return work
    images = [replace(case, label_path=None) for case in cases]
    if work.epochs is not None and wish.budget_s is None:
        few = work_of(plan, work.configuration, 1, images[:_WHOLE_VOLUMES], Views(mirror=False), work.device)
        often = work.epochs // recipe.whole_volume_every
        work = replace(work, on_the_way_s=often * _predicting_s(few, machine))
    return replace(work, end=_end(work, plan, cases, images, workers, machine))


def _end(
    work: TrainingWork, plan: Plan, cases: Sequence[Case], images: Sequence[Case], workers: int, machine: Machine
) -> FoldEnd:
    """What comes after the last step."""
    final = _predicting(work, plan, images, Views())
    views = {name: Views(mirror=speed.mirror, step=speed.step) for name, speed in SPEEDS.items()}
    seconds = {name: _predicting_s(_predicting(work, plan, images, view), machine) for name, view in views.items()}
    memory = prediction_estimate(final, machine).ram_bytes - machine.processes["predict"].resident_bytes
    return FoldEnd(
        pairs=tuple(pair_size(case.image_paths[0], case.label_path) for case in cases if case.label_path),
        labels=len(plan.planes),
        workers=workers,
        predicting_s=_predicting_s(final, machine),
        predicting_bytes=max(0, memory),
        preset_case_s={name: each / len(cases) for name, each in seconds.items()},
    )


def _predicting_s(work: PredictionWork, machine: Machine) -> float:
    """Seconds of a prediction in a process that has begun long ago."""
    estimate = prediction_estimate(work, machine)
    return sum(part.wall_s for part in estimate.parts if part.name != STARTING)


def _predicting(work: TrainingWork, plan: Plan, cases: Sequence[Case], views: Views) -> PredictionWork:
    """What one fold's networks have to do at its end, the first stage's of a cascade included."""
    own = work_of(plan, work.configuration, 1, cases, views, work.device)
    first = plan.configurations.get(work.configuration.previous_stage or "")
    return own if first is None else replace(own, previous=work_of(plan, first, 1, cases, views, work.device))


def _cases(place: Task, names: Sequence[str]) -> list[Case]:
    wanted = set(names)
    known = read_dataset(place.raw, place.preprocessed).training if is_data_set(place.raw) else ()
    return [case for case in known if case.name in wanted]


def _split(place: Task, fold: str, wish: TrainingWish, configuration: str) -> Split:
    """The fold as it is on disk, or as it would be made."""
    path = place.preprocessed / "splits.json"
    if path.is_file() and wish.group_by is None:
        folds = read_json(path, DatasetError)["folds"]
        return split_of([Split(tuple(one["train"]), tuple(one["validation"])) for one in folds], fold)
    names = stored_names(place.store(configuration)) or [
        case.name for case in read_dataset(place.raw, place.preprocessed).training
    ]
    return split_of(splits_of(place.raw, names, wish.group_by)[0], fold)
