"""The configuration that is trained: the plan's, as the recipe, its memory and the budget change it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

from msseg.devices import autocast_dtype
from msseg.errors import PlanError
from msseg.training.distributed import Team
from msseg.training.fitting import fitted_width, measured_seconds_per_step
from msseg.training.job import TrainingJob
from msseg.training.recipes import configured_in, training_patch
from msseg.training.step_plan import optimiser_of, unmeasured_plan
from planning.memory import feature_voxels, level_shapes, training_bytes
from planning.plan import Configuration


def trained_configuration(job: TrainingJob, clock: Callable[[], float], report: Callable[[str], None]) -> Configuration:
    """What a fresh training trains; `report` gets a line where memory or budget decided.

    Raises PlanError where batch norm would see a single value of a channel.
    """
    configuration = configured_in(job.plan, job.plan.configurations[job.configuration_name], job.recipe)
    configuration = _with_largest_batch(job, configuration, report)
    configuration = divisible(configuration, job.team, report)
    _check_batch_norm(job, configuration)
    return _fitted(job, configuration, clock, report)


def divisible(configuration: Configuration, team: Team, report: Callable[[str], None]) -> Configuration:
    """With a patch for each process at the least; `report` gets a line where the batch grows."""
    if configuration.batch_size >= team.world:
        return configuration
    report(f"batches of {team.world} patches instead of {configuration.batch_size}: one for each process")
    return replace(configuration, batch_size=team.world)


def _with_largest_batch(job: TrainingJob, configuration: Configuration, report: Callable[[str], None]) -> Configuration:
    """As many patches as the plan's memory holds, up to the recipe's `largest_batch`, if it has one of its own."""
    largest = job.recipe.largest_batch
    if largest is None or job.recipe.batch_size is not None:
        return configuration
    batch_size = min(largest, max(configuration.batch_size, _batch_that_fits(job, configuration)))
    memory = f"the plan's memory of {job.plan.memory_bytes / 1e9:.3g} GB"
    reason = f"{memory} holds no more" if batch_size < largest else f"as {memory} holds"
    report(f"batches of {batch_size} patches; the recipe takes up to {largest}, {reason}")
    return replace(configuration, batch_size=batch_size)


def _batch_that_fits(job: TrainingJob, configuration: Configuration) -> int:
    """Patches that the plan's memory holds, by the planner's estimate."""
    row = replace(configuration.row, base_features=job.recipe.base_features or configuration.row.base_features)
    patch = training_patch(configuration, job.recipe)
    voxels = feature_voxels(row, patch, configuration.strides, job.plan.outputs)
    return job.plan.memory_bytes // training_bytes(voxels, 1, configuration.dimensions, row)


def _check_batch_norm(job: TrainingJob, configuration: Configuration) -> None:
    bottleneck = level_shapes(training_patch(configuration, job.recipe), configuration.strides)[-1]
    if configuration.row.norm == "batch" and configuration.batch_size * math.prod(bottleneck) == 1:
        raise PlanError(
            f"{configuration.network}: its batch norm sees one value of a channel at the bottleneck (batch 1, one "
            "voxel), and needs two. Take a larger batch (--set batch_size=2) or larger patches."
        )


def _fitted(
    job: TrainingJob, configuration: Configuration, clock: Callable[[], float], report: Callable[[str], None]
) -> Configuration:
    """Narrowed where the budget is short."""
    if job.budget_s is None or job.recipe.fitted_steps is None:
        return configuration

    make_optimiser = functools.partial(optimiser_of, recipe=job.recipe, plan=unmeasured_plan(job.device))

    def seconds(candidate: Configuration) -> float:
        channels, classes = len(job.plan.channels), job.plan.outputs
        seen = replace(
            candidate,
            patch_size=training_patch(candidate, job.recipe),
            batch_size=job.team.share(candidate.batch_size),
        )
        dtype = autocast_dtype(job.device)
        return measured_seconds_per_step(seen, channels, classes, job.device, dtype, clock, make_optimiser)

    budget_s, steps = job.budget_s, job.recipe.fitted_steps
    features = job.team.told_by_lead(lambda: list(fitted_width(configuration, seconds, budget_s, steps).features))
    fitted = replace(configuration, features=tuple(features))
    if fitted.features != configuration.features:
        report(
            f"network of {fitted.features[0]} instead of {configuration.features[0]} features on its first level, "
            f"so that about {job.recipe.fitted_steps} steps fit the budget"
        )
    return fitted
