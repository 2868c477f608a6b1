"""From a planned and preprocessed task to a trained and validated fold."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from msseg.data.dataset import read_dataset
from msseg.data.store import StoredCase, open_case, stored_names
from msseg.devices import resolve_device
from msseg.errors import DatasetError, PlanError
from msseg.evaluation.evaluate import Evaluation
from msseg.evaluation.tables import evaluation_table
from msseg.folders import Task, find_task, project_root
from msseg.inference.sliding_window import predict_logits
from msseg.interrupts import StopRequest
from msseg.networks.outputs import decided_classes
from msseg.parallel import default_workers
from msseg.pipeline.configurations import chosen_configuration, plan_for_network
from msseg.pipeline.decisions import Decided, deciding_metric, looks_for_objects
from msseg.pipeline.object_search import SEARCH_SHARE
from msseg.pipeline.planning import load_plan
from msseg.pipeline.previous_stage import ensure_previous
from msseg.pipeline.splits import ensure_splits, split_of
from msseg.pipeline.validation import is_validated, validate_fold
from msseg.preprocessing.pipeline import preprocess_dataset
from msseg.progress import progress
from msseg.training.distributed import ALONE, Team
from msseg.training.job import PreviousStage, TrainingJob, TrainingResult
from msseg.training.loop import train_fold
from msseg.training.overrides import overridden
from msseg.training.recipes import Recipe, configured_in, default_recipe, recipe_named
from msseg.training.validation import Segment
from planning.plan import Configuration, Plan


@dataclass(frozen=True)
class TrainingOptions:
    """What the user asks of training; None leaves the choice to the plan and to the recipe.

    `network_options` replace single values of the network's row, `overrides` those of the recipe. `encoder_weights` is
    a file that a fresh training starts its encoder from. `decide_by` names the metric that thresholds of a model of one
    label are chosen by on validation, see `deciding_metric`. `budget_s` bounds all of it, the validation at the end
    included. `restart` forgets what was trained before. `previous_stage` is the model folder of a cascade's first
    stage, None: the one of the plan's network.
    """

    configuration: str | None = None
    network: str | None = None
    network_options: Mapping[str, Any] = field(default_factory=dict)
    encoder_weights: Path | None = None
    recipe: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    budget_s: float | None = None
    seed: int = 0
    restart: bool = False
    group_by: str | None = None
    augment: str | None = None
    decide_by: str | None = None
    previous_stage: Path | None = None

    def used_recipe(self) -> Recipe:
        """The recipe, with what was overridden; MssegError names what does not exist or does not fit."""
        has_budget = self.budget_s is not None
        recipe = recipe_named(self.recipe) if self.recipe else default_recipe(has_budget)
        return overridden(recipe, self.overrides)


@dataclass(frozen=True)
class TrainingReport:
    """How a fold's training ended; `validation` is None where it was stopped or the fold has no validation cases."""

    model: Path
    fold: str
    result: TrainingResult
    validation: Evaluation | None
    validation_stopped: bool = False
    decided: Decided | None = None

    @property
    def complete(self) -> bool:
        """Whether the fold is trained and every validation case is evaluated."""
        if not self.result.complete or self.validation_stopped:
            return False
        return self.validation is None or self.validation.complete

    def summary(self) -> str:
        """Lines for the end of the command."""
        where = self.model / f"fold_{self.fold}"
        if not self.result.complete:
            return f"{where}: stopped at step {self.result.steps}. Run the same command again to go on."
        lines = [f"{where}: trained ({self.result.ended}, {self.result.steps} steps)."]
        if self.validation is not None:
            lines += [f"Validation on {len(self.validation.cases)} cases:", evaluation_table(self.validation)]
        if self.decided is not None:
            lines.append(self.decided.summary())
        if self.validation_stopped:
            lines.append("Validation was stopped. Run the same command again to go on.")
        return "\n".join(lines)


def train(
    task: str | os.PathLike[str],
    fold: int | str,
    root: str | os.PathLike[str] | None = None,
    options: TrainingOptions | None = None,
    device: str = "auto",
    workers: int | None = None,
    quiet: bool = True,
    stop: StopRequest | None = None,
    max_ram: int | None = None,
    revalidate: bool = True,
    team: Team = ALONE,
) -> TrainingReport:
    """Train one fold (0 to 4, or "all") of a preprocessed task, then predict and evaluate its validation cases.

    Goes on where an earlier call stopped. Without `revalidate` a fold that is trained and validated is left as it is.
    `max_ram` bounds the bytes of main memory of all processes together. The processes of a `team` train together; the
    one that leads prepares before and validates after, while the others wait. Raises
    ResourceError where a training that makes its batches itself needs more, DatasetError where the task is not
    preprocessed or has no such fold, PlanError for an unknown configuration, network or a plan that does not fit the
    preprocessed cases.
    """
    options = options or TrainingOptions()
    options.used_recipe()
    workers = workers or default_workers()
    stop = stop or StopRequest()
    with team.lead_first():
        place = find_task(os.fspath(task), project_root(root))
        plan = plan_for_network(
            place, load_plan(place), options.network, options.configuration, options.network_options
        )
        configuration = chosen_configuration(plan, options.configuration)
        deciding_metric(plan, options.decide_by)
        names = prepared_cases(place, plan, configuration, workers, quiet)
        model = place.model(configuration.name, configuration.network, configuration.network_options)
        if max_ram is not None:
            workers = _affordable_workers(place, fold, options, device, workers, max_ram // team.local_world)
        used = team.device if team.is_shared else resolve_device(device)
        previous = _previous(place, plan, configuration, names, options, used, quiet, stop)
        if previous is None and configuration.previous_stage is not None:
            not_begun = TrainingResult("stopped", False, 0, 0, 0.0, model / f"fold_{fold}")
            return TrainingReport(model, str(fold), not_begun, None)
        job = _job(place, model, plan, configuration, names, str(fold), options, used, workers, previous)
    job = replace(job, team=team)
    result = train_fold(job, segment_maker(job), stop, (lambda _line: None) if quiet else None)
    if not team.leads:
        return TrainingReport(model, str(fold), result, None, validation_stopped=not team.told_by_lead(bool))
    report = _validated(place, job, result, workers, quiet, stop, options.decide_by, revalidate)
    team.told_by_lead(lambda: report.complete)
    return report


def _validated(
    place: Task,
    job: TrainingJob,
    result: TrainingResult,
    workers: int,
    quiet: bool,
    stop: StopRequest,
    decide_by: str | None,
    revalidate: bool,
) -> TrainingReport:
    """The report of a fold that was trained, or stopped, with its validation cases evaluated where it is due."""
    model, fold = job.folder.parent, job.fold
    is_done = result.already_complete and not revalidate and is_validated(job.folder, job.split.validation)
    to_validate = result.complete and bool(job.split.validation) and not is_done
    trained_s = result.elapsed_s
    validation = validate_fold(place, job, trained_s, workers, quiet, stop, decide_by) if to_validate else None
    if validation is None:
        return TrainingReport(model, fold, result, None, to_validate)
    return TrainingReport(model, fold, result, validation.evaluation, decided=validation.decided)


def _previous(
    place: Task,
    plan: Plan,
    configuration: Configuration,
    names: Sequence[str],
    options: TrainingOptions,
    device: torch.device,
    quiet: bool,
    stop: StopRequest,
) -> PreviousStage | None:
    """What the second network of a cascade learns from, made as far as it is missing; None of others, or stopped."""
    if configuration.previous_stage is None and options.previous_stage is None:
        return None
    ensure_splits(place, names, options.group_by)
    return ensure_previous(place, plan, configuration, device, options.previous_stage, quiet, stop)


def _affordable_workers(
    place: Task,
    fold: int | str,
    options: TrainingOptions,
    device: str,
    workers: int,
    max_ram: int,
) -> int:
    """The processes that may make batches within `max_ram`; 0 makes them in this one."""
    from msseg.machine import measured_machine
    from msseg.pipeline.explain_training import TrainingWish, affordable_batch_workers, training_work

    names = [one.name for one in fields(TrainingWish)]
    wish = TrainingWish(**{name: getattr(options, name) for name in names})
    machine = measured_machine()
    work = training_work(place, fold, machine, wish, device, workers)
    affordable = affordable_batch_workers(work, machine, max_ram)
    return workers if work.augment == "device" else affordable  # threads that read hold next to nothing


def prepared_cases(task: Task, plan: Plan, configuration: Configuration, workers: int, quiet: bool) -> tuple[str, ...]:
    """The names of the preprocessed cases of a configuration, in its store.

    Those of the default of the plan on disk are msseg_plan_and_preprocess's; those of another are prepared here, as far
    as they are missing or stale. Raises DatasetError where there are none, PlanError where they are of another plan.
    """
    store = task.store(configuration.name)
    default = load_plan(task).default_configuration
    planned = stored_names(task.store(default))
    if store != task.store(default) and planned:
        _prepare(task, plan, configuration, planned, workers, quiet)
    names = stored_names(store)
    if not names:
        raise DatasetError(f"{store}: no preprocessed cases. Run msseg_plan_and_preprocess {task.name} first.")
    _check_grid(open_case(store, names[0]), plan, configuration, store)
    return tuple(names)


def _prepare(
    task: Task, plan: Plan, configuration: Configuration, known: Sequence[str], workers: int, quiet: bool
) -> None:
    """Bring the configuration's store up to date with the cases called `known`."""
    dataset = read_dataset(task.raw, task.preprocessed)
    skip = [case.name for case in dataset.training if case.name not in known]
    preparation = preprocess_dataset(
        dataset,
        plan,
        configuration.name,
        task.store(configuration.name),
        workers,
        skip=skip,
        watch=partial(progress, description=f"preprocess ({configuration.name})", total=len(known), quiet=quiet),
    )
    if preparation.failed:
        name, reason = next(iter(preparation.failed.items()))
        raise DatasetError(f"{len(preparation.failed)} cases could not be prepared; the first is {name}: {reason}")


def _check_grid(case: StoredCase, plan: Plan, configuration: Configuration, store: Path) -> None:
    """Refuse cases of another spacing or number of channels than the plan's: it was edited or made anew since."""
    spacing_mm = case.properties["spacing_mm"][-configuration.dimensions :]
    if len(case.image) == len(plan.channels) and np.allclose(spacing_mm, configuration.spacing_mm):
        return
    raise PlanError(
        f"{store}: {case.name} has {len(case.image)} channels at {spacing_mm} mm, but the plan {len(plan.channels)} at "
        f"{list(configuration.spacing_mm)} mm. Run msseg_plan_and_preprocess again; it makes stale cases anew."
    )


def segment_maker(job: TrainingJob) -> Callable[[nn.Module, Configuration], Segment]:
    """What the trainer validates whole volumes with: the sliding window, each tile seen once, without mirrors."""
    regions, outputs = job.plan.regions, job.plan.outputs

    def make(network: nn.Module, configuration: Configuration) -> Segment:
        def segment(image_czyx: np.ndarray) -> np.ndarray:
            logits = predict_logits(
                [network], image_czyx, configuration, outputs, job.device, mirror=False, regions=bool(regions)
            )
            return decided_classes(logits, regions, dim=0).to(torch.int16).cpu().numpy()

        return segment

    return make


def _job(
    place: Task,
    model: Path,
    plan: Plan,
    configuration: Configuration,
    names: Sequence[str],
    fold: str,
    options: TrainingOptions,
    device: torch.device,
    workers: int,
    previous: PreviousStage | None,
) -> TrainingJob:
    recipe = options.used_recipe()
    mirror_axes = configured_in(plan, configuration, recipe).mirror_axes
    return TrainingJob(
        store=place.store(configuration.name),
        plan=plan,
        configuration_name=configuration.name,
        split=split_of(ensure_splits(place, names, options.group_by), fold),
        fold=fold,
        recipe=recipe,
        folder=model / f"fold_{fold}",
        device=device,
        workers=workers,
        seed=options.seed,
        epochs=options.epochs,
        budget_s=options.budget_s,
        final_validation_cost=2.0 ** len(mirror_axes) * _stages_cost(plan, configuration),
        final_share=SEARCH_SHARE if looks_for_objects(plan, options.decide_by) else 0.0,
        encoder_weights=options.encoder_weights,
        restart=options.restart,
        augment=options.augment,
        previous=previous,
    )


def _stages_cost(plan: Plan, configuration: Configuration) -> float:
    """How much longer a case takes with the stage before this one, by their voxels."""
    before = plan.configurations.get(configuration.previous_stage or "")
    return 1.0 if before is None else 1 + math.prod(before.median_shape) / math.prod(configuration.median_shape)
