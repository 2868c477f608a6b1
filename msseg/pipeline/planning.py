"""From a data set folder to a plan and a store of preprocessed cases."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msseg.data.dataset import Dataset, read_dataset
from msseg.data.found_layouts import is_data_set
from msseg.data.problems import Problem, problems_table
from msseg.errors import DatasetError, PlanError
from msseg.files import read_json, value_hash, write_json
from msseg.folders import Task, find_task, planned_from, project_root
from msseg.inference.memory import free_bytes
from msseg.parallel import RemoteExecutor, default_workers
from msseg.pipeline.splits import ensure_splits
from msseg.preprocessing.decoded import Decoded, decoded_cases
from msseg.preprocessing.examine import Examination, examine_dataset, fingerprint_of
from msseg.preprocessing.pipeline import Preparation, preprocess_dataset
from msseg.preprocessing.slabwise import CHUNK_VOXELS, chunks_of
from msseg.progress import progress
from planning.fingerprint import Fingerprint, fingerprint_to_json
from planning.json_fields import as_json
from planning.plan import Plan, plan_from_json, plan_to_json
from planning.planner import Budget, make_plan

_LOG = logging.getLogger("msseg")


@dataclass(frozen=True)
class PlanningOptions:
    """What the user asks of planning; None leaves the choice to the planner (memory: 8 GB, growth: the patch).

    `network_options` replace single values of the network's row. `configuration` is prepared, and trained by default.
    `group_by` is a regular expression whose match in a case name is its group (the patient). `skip_broken` goes on
    without the cases that the check refuses. `replan` overwrites a plan that was edited by hand.
    """

    memory_bytes: int | None = None
    network: str | None = None
    grow: str | None = None
    group_by: str | None = None
    check_only: bool = False
    skip_broken: bool = False
    replan: bool = False
    network_options: Mapping[str, Any] = field(default_factory=dict)
    configuration: str | None = None

    def budget(self) -> Budget:
        """The planner's budget, its defaults where the user said nothing."""
        default = Budget()
        return Budget(
            memory_bytes=self.memory_bytes,
            network=self.network or default.network,
            grow=self.grow or default.grow,
            options=self.network_options,
            configuration=self.configuration,
        )


@dataclass(frozen=True)
class PlanningReport:
    """What came out: the plan and the preparation are None after `check_only`."""

    task: Task
    examination: Examination
    skipped: tuple[str, ...]
    plan: Plan | None = None
    preprocessed: Preparation | None = None

    @property
    def complete(self) -> bool:
        """Whether all that was asked for is done."""
        if self.preprocessed is None:
            return not errors_left(self.examination, self.skipped)
        return not self.preprocessed.failed

    def summary(self) -> str:
        """Lines for the end of the command."""
        done = self.preprocessed
        if done is None:
            return _check_summary(self.task, self.examination, self.skipped)
        lines = [f"{self.task.preprocessed}: {len(done.prepared)} cases preprocessed, {len(done.kept)} kept."]
        lines += [f"failed: {name}: {reason}" for name, reason in done.failed.items()]
        unannotated = self.examination.unannotated
        if broken := [name for name in self.skipped if name not in unannotated]:
            lines.append(f"left out as broken: {', '.join(broken)}")
        if unannotated:
            lines.append(f"left out, as nothing in them is annotated: {', '.join(unannotated)}")
        return "\n".join(lines)


def plan_and_preprocess(
    task: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    options: PlanningOptions | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    quiet: bool = True,
    max_ram: int | None = None,
) -> PlanningReport:
    """Check, measure, plan and preprocess a data set; run again, it does only what is missing or stale.

    `task` is a data set folder, or a name or number below `root`. `max_ram` bounds the bytes of main memory of all
    processes together: ResourceError where even one worker needs more. Raises DatasetError where the check finds errors
    and `skip_broken` was not asked for; everything the check found is printed before (unless quiet).
    """
    options = options or PlanningOptions()
    workers = workers or default_workers()
    place = find_task(os.fspath(task), project_root(root))
    _refuse_namesake(place)
    dataset = read_dataset(place.raw, place.preprocessed)
    chunk_voxels = CHUNK_VOXELS
    if max_ram is not None:
        workers, chunk_voxels = _affordable(place, dataset, workers, max_ram)
    _LOG.debug("%s: %d cases, %d workers; results in %s", place.raw, len(dataset.training), workers, place.preprocessed)
    with _decoded(place, dataset, options, executor) as decoded, chunks_of(chunk_voxels):
        return _stages(place, dataset, options, workers, executor, quiet, decoded)


def _decoded(
    place: Task, dataset: Dataset, options: PlanningOptions, executor: Executor | None
) -> contextlib.AbstractContextManager[Decoded | None]:
    """Room for the cases between check and preprocessing, in half of the memory that is free; none for a cluster."""
    if options.check_only or isinstance(executor, RemoteExecutor):
        return contextlib.nullcontext()
    return decoded_cases(place.preprocessed, len(dataset.training), (free_bytes() or 0) // 2)


def _stages(
    place: Task,
    dataset: Dataset,
    options: PlanningOptions,
    workers: int,
    executor: Executor | None,
    quiet: bool,
    decoded: Decoded | None,
) -> PlanningReport:
    examination = _examine(place, dataset, workers, executor, quiet, decoded)
    skipped = (*(examination.broken if options.skip_broken else ()), *examination.unannotated)
    _record_check(place, examination, skipped)
    if options.check_only:
        return PlanningReport(place, examination, skipped)
    _refuse_errors(place, examination, skipped, options)
    fingerprint = fingerprint_of(dataset, examination, skipped)
    write_json(place.fingerprint_path, fingerprint_to_json(fingerprint))
    plan = _plan(place, fingerprint, options)
    _refuse_other_dataset(plan, dataset, place)
    ensure_splits(place, [case.name for case in fingerprint.cases], options.group_by)
    watch = partial(_watch, total=len(dataset.training) - len(skipped), description="preprocess", quiet=quiet)
    prepared = preprocess_dataset(
        dataset,
        plan,
        plan.default_configuration,
        place.store(plan.default_configuration),
        workers,
        executor,
        skipped,
        watch,
        decoded,
    )
    return PlanningReport(place, examination, skipped, plan, prepared)


def _affordable(place: Task, dataset: Dataset, workers: int, max_ram: int) -> tuple[int, int]:
    """Workers, and voxels that each resamples at a time."""
    from msseg.machine import measured_machine
    from msseg.pipeline.explain_planning import preparing_limits

    limits = preparing_limits(place, dataset, measured_machine(), workers, max_ram)
    return limits.workers, limits.chunk_voxels


def load_plan(task: Task) -> Plan:
    """The plan of a task, validated; DatasetError where it has not been planned."""
    if not task.plan_path.is_file():
        raise DatasetError(f"{task.plan_path}: no such file. Run msseg_plan_and_preprocess {task.name} first.")
    return plan_from_json(read_json(task.plan_path, DatasetError), str(task.plan_path))


def errors_left(examination: Examination, skipped: tuple[str, ...] = ()) -> list[Problem]:
    """What the check found beyond notes, without the cases that are left out."""
    return [one for one in examination.problems if one.severity == "error" and one.case not in skipped]


def _check_summary(place: Task, examination: Examination, skipped: tuple[str, ...]) -> str:
    errors = len(errors_left(examination, skipped))
    notes = sum(problem.severity == "note" for problem in examination.problems)
    found = f"{errors} errors" if errors else "ready to use"
    found += f" without {', '.join(skipped)}" if skipped else ""
    return f"{place.raw}: {len(examination.cases)} cases checked, {found}, {notes} notes; see {place.check_path}."


def _refuse_namesake(place: Task) -> None:
    """Two data sets of one name would overwrite each other's cases and models; one that was moved may go on."""
    if not place.source_path.is_file():
        return
    planned = planned_from(place.source_path)
    if is_data_set(planned) and not planned.samefile(place.raw):
        raise DatasetError(
            f"{place.raw}: {place.preprocessed} belongs to {planned}, a data set of the same name. "
            "Rename one of the two folders, or use another --root."
        )


def _refuse_other_dataset(plan: Plan, dataset: Dataset, place: Task) -> None:
    """A plan edited by hand may be of a data set with other channels or labels than this has by now."""
    named = [channel.name for channel in plan.channels]
    pairs = {
        "channels": (named, list(dataset.channels)),
        "labels": (list(plan.labels.items()), list(dataset.class_names.items())),  # their order numbers the classes
        "regions": (as_json(plan.regions), as_json(dataset.planned_regions)),
        "ignore": (plan.ignore, dataset.ignore),
    }
    for what, (found, expected) in pairs.items():
        if found != expected:
            raise PlanError(
                f"{place.plan_path}: plan.{what}: found {found}, expected {expected} as in the data set. "
                "Mend the plan, or plan anew with --replan."
            )


def _examine(
    place: Task, dataset: Dataset, workers: int, executor: Executor | None, quiet: bool, decoded: Decoded | None
) -> Examination:
    watch = partial(_watch, total=len(dataset.training), description="check and measure", quiet=quiet)
    examination = examine_dataset(dataset, place.preprocessed / "examined", workers, executor, watch, decoded)
    if examination.problems and not quiet:
        print(problems_table(examination.problems), flush=True)
    return examination


def _watch(outcomes: Iterable[Any], total: int, description: str, quiet: bool) -> Iterator[Any]:
    return progress(outcomes, description, total=total, quiet=quiet)


def _record_check(place: Task, examination: Examination, skipped: tuple[str, ...]) -> None:
    write_json(place.source_path, {"raw": str(place.raw.resolve())})
    problems = [as_json(problem) for problem in examination.problems]
    write_json(place.check_path, {"cases": len(examination.cases), "skipped": list(skipped), "problems": problems})


def _refuse_errors(place: Task, examination: Examination, skipped: tuple[str, ...], options: PlanningOptions) -> None:
    left = errors_left(examination, skipped)
    if not left:
        return
    hint = "" if options.skip_broken else " or leave the named cases out with --skip-broken"
    raise DatasetError(
        f"{place.raw}: the check found {len(left)} errors, expected none. Mend what {place.check_path} lists{hint}."
    )


def _plan(place: Task, fingerprint: Fingerprint, options: PlanningOptions) -> Plan:
    """The plan on disk where it still holds or was edited by hand, else a new one."""
    wanted = {"fingerprint": value_hash(fingerprint_to_json(fingerprint)), "budget": as_json(options.budget())}
    record = place.preprocessed / "planned.json"
    if place.plan_path.is_file() and not options.replan:
        planned = read_json(record, DatasetError) if record.is_file() else {}
        written = read_json(place.plan_path, PlanError)
        edited = planned.get("plan") != value_hash(written)
        if edited:
            _LOG.warning("%s was edited by hand and is honoured; --replan plans anew.", place.plan_path)
        if edited or {name: planned.get(name) for name in wanted} == wanted:
            _LOG.debug("%s: kept", place.plan_path)
            return plan_from_json(written, str(place.plan_path))
    _LOG.debug("%s: made for %s", place.plan_path, options.budget())
    plan = make_plan(fingerprint, options.budget())
    written = plan_to_json(plan)
    write_json(place.plan_path, written)
    write_json(record, {**wanted, "plan": value_hash(written)})
    return plan
