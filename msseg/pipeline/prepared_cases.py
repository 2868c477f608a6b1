"""The preprocessed cases of the configuration that is trained, brought up to date where they may be."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from msseg.data.dataset import read_dataset
from msseg.data.store import StoredCase, open_case, stored_names
from msseg.errors import DatasetError, PlanError
from msseg.folders import Task
from msseg.pipeline.planning import load_plan
from msseg.preprocessing.pipeline import preprocess_dataset
from msseg.progress import progress
from planning.plan import Configuration, Plan


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
