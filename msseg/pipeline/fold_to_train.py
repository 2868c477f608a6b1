"""One fold as it was asked for: from the user's options, the plan and the prepared cases to the trainer's job."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import nn

from msseg.folders import Task
from msseg.inference.previous import Previous
from msseg.inference.sliding_window import predict_logits
from msseg.interrupts import StopRequest
from msseg.networks.outputs import decided_classes
from msseg.pipeline.configurations import chosen_configuration, plan_for_network
from msseg.pipeline.decisions import deciding_metric, looks_for_objects
from msseg.pipeline.object_search import SEARCH_SHARE
from msseg.pipeline.planning import load_plan
from msseg.pipeline.prepared_cases import prepared_cases
from msseg.pipeline.previous_stage import ensure_previous
from msseg.pipeline.splits import ensure_splits, split_of
from msseg.pipeline.training_options import TrainingOptions
from msseg.training.distributed import Team
from msseg.training.job import PreviousStage, TrainingJob
from msseg.training.recipes import configured_in
from msseg.training.validation import Segment
from planning.plan import Configuration, Plan


@dataclass(frozen=True)
class FoldToTrain:
    """A fold of a task, whose cases called `names` are prepared for the configuration."""

    place: Task
    fold: str
    plan: Plan
    configuration: Configuration
    names: tuple[str, ...]
    options: TrainingOptions

    @property
    def model(self) -> Path:
        """The folder of the model that the fold is one of."""
        chosen = self.configuration
        return self.place.model(chosen.name, chosen.network, chosen.network_options)

    @property
    def folder(self) -> Path:
        """The fold's own folder."""
        return self.model / f"fold_{self.fold}"

    def previous(self, device: torch.device, quiet: bool, stop: StopRequest) -> PreviousStage | None:
        """What a cascade's second network learns from, made as far as it is missing; None of others, or stopped."""
        if self.configuration.previous_stage is None and self.options.previous_stage is None:
            return None
        ensure_splits(self.place, self.names, self.options.group_by)
        return ensure_previous(
            self.place, self.plan, self.configuration, device, self.options.previous_stage, quiet, stop
        )

    def job(self, device: torch.device, workers: int, previous: PreviousStage | None, team: Team) -> TrainingJob:
        """What the trainer is to do; the task has its splits afterwards."""
        options, recipe = self.options, self.options.used_recipe()
        mirror_axes = configured_in(self.plan, self.configuration, recipe).mirror_axes
        return TrainingJob(
            store=self.place.store(self.configuration.name),
            plan=self.plan,
            configuration_name=self.configuration.name,
            split=split_of(ensure_splits(self.place, self.names, options.group_by), self.fold),
            fold=self.fold,
            recipe=recipe,
            folder=self.folder,
            device=device,
            workers=workers,
            seed=options.seed,
            epochs=options.epochs,
            budget_s=options.budget_s,
            final_validation_cost=2.0 ** len(mirror_axes) * _stages_cost(self.plan, self.configuration),
            final_share=SEARCH_SHARE if looks_for_objects(self.plan, options.decide_by) else 0.0,
            encoder_weights=options.encoder_weights,
            restart=options.restart,
            augment=options.augment,
            team=team,
            previous=previous,
        )


def prepared_fold(
    place: Task, fold: int | str, options: TrainingOptions, workers: int, quiet: bool = True
) -> FoldToTrain:
    """The fold with the plan and the cases that the options ask for; cases that are missing are prepared.

    Raises PlanError for an unknown configuration or network, and as `prepared_cases` does.
    """
    plan = plan_for_network(place, load_plan(place), options.network, options.configuration, options.network_options)
    configuration = chosen_configuration(plan, options.configuration)
    deciding_metric(plan, options.decide_by)
    names = prepared_cases(place, plan, configuration, workers, quiet)
    return FoldToTrain(place, str(fold), plan, configuration, names, options)


def affordable_workers(
    place: Task, fold: int | str, options: TrainingOptions, device: str, workers: int, max_ram: int
) -> int:
    """The processes that may make batches within `max_ram` bytes; 0 makes them in this one."""
    from msseg.machine import measured_machine
    from msseg.pipeline.explain_training import TrainingWish, affordable_batch_workers, training_work

    names = [one.name for one in fields(TrainingWish)]
    wish = TrainingWish(**{name: getattr(options, name) for name in names})
    machine = measured_machine()
    work = training_work(place, fold, machine, wish, device, workers)
    affordable = affordable_batch_workers(work, machine, max_ram)
    return workers if work.augment == "device" else affordable  # threads that read hold next to nothing


def segment_maker(job: TrainingJob) -> Callable[[nn.Module, Configuration], Segment]:
    """What the trainer validates whole volumes with: the sliding window, each tile seen once, without mirrors."""
    regions, outputs, planes = job.plan.regions, job.plan.outputs, job.plan.planes

    def make(network: nn.Module, configuration: Configuration) -> Segment:
        def segment(image_czyx: np.ndarray, found_zyx: np.ndarray | None = None) -> np.ndarray:
            logits = predict_logits(
                [network],
                image_czyx,
                configuration,
                outputs,
                job.device,
                mirror=False,
                regions=bool(regions),
                previous=None if found_zyx is None else Previous(found_zyx, planes),
            )
            return decided_classes(logits, regions, dim=0).to(torch.int16).cpu().numpy()

        return segment

    return make


def _stages_cost(plan: Plan, configuration: Configuration) -> float:
    """How much longer a case takes with the stage before this one, by their voxels."""
    before = plan.configurations.get(configuration.previous_stage or "")
    return 1.0 if before is None else 1 + math.prod(before.median_shape) / math.prod(configuration.median_shape)
