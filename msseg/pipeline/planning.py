"""From a data set folder to a plan and a store of preprocessed cases."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

from msseg.data.dataset import Dataset, read_dataset
from msseg.data.problems import problems_table
from msseg.errors import DatasetError
from msseg.files import read_json, value_hash, write_json
from msseg.folders import Task, find_task, project_root
from msseg.parallel import default_workers
from msseg.pipeline.splits import ensure_splits
from msseg.preprocessing.examine import Examination, examine_dataset, fingerprint_of
from msseg.preprocessing.pipeline import Preparation, preprocess_dataset
from msseg.progress import progress
from planning.fingerprint import Fingerprint, fingerprint_to_json
from planning.json_fields import as_json
from planning.plan import Plan, plan_from_json, plan_to_json
from planning.planner import Budget, make_plan

_LOG = logging.getLogger("msseg")


@dataclass(frozen=True)
class PlanningOptions:
    """What the user asks of planning; None leaves the choice to the planner (memory: 8 GB, growth: the patch).

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

    def budget(self) -> Budget:
        """The planner's budget, its defaults where the user said nothing."""
        default = Budget()
        return Budget(
            memory_bytes=self.memory_bytes or default.memory_bytes,
            network=self.network or default.network,
            grow=self.grow or default.grow,
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
            return not has_errors(self.examination)
        return not self.preprocessed.failed

    def summary(self) -> str:
        """Lines for the end of the command."""
        done = self.preprocessed
        if done is None:
            return "The data set is ready to use." if self.complete else "The data set has errors."
        lines = [f"{self.task.preprocessed}: {len(done.prepared)} cases preprocessed, {len(done.kept)} kept."]
        lines += [f"failed: {name}: {reason}" for name, reason in done.failed.items()]
        if self.skipped:
            lines.append(f"left out as broken: {', '.join(self.skipped)}")
        return "\n".join(lines)


def plan_and_preprocess(
    task: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    options: PlanningOptions | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    quiet: bool = True,
) -> PlanningReport:
    """Check, measure, plan and preprocess a data set; run again, it does only what is missing or stale.

    `task` is a data set folder, or a name or number below `root`. Raises DatasetError where the check finds errors
    and `skip_broken` was not asked for; everything the check found is printed before (unless quiet).
    """
    options = options or PlanningOptions()
    workers = workers or default_workers()
    place = find_task(os.fspath(task), project_root(root))
    dataset = read_dataset(place.raw)
    examination = _examine(place, dataset, workers, executor, quiet)
    skipped = examination.broken if options.skip_broken else ()
    _record_check(place, examination, skipped)
    if options.check_only:
        return PlanningReport(place, examination, skipped)
    _refuse_errors(place, examination, skipped, options)
    fingerprint = fingerprint_of(dataset, examination, skipped)
    plan = _plan(place, fingerprint, options)
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
    )
    return PlanningReport(place, examination, skipped, plan, prepared)


def load_plan(task: Task) -> Plan:
    """The plan of a task, validated; DatasetError where it has not been planned."""
    if not task.plan_path.is_file():
        raise DatasetError(f"{task.plan_path}: no such file. Run msseg_plan_and_preprocess {task.name} first.")
    return plan_from_json(read_json(task.plan_path, DatasetError), str(task.plan_path))


def has_errors(examination: Examination) -> bool:
    """Whether the check found more than notes."""
    return any(problem.severity == "error" for problem in examination.problems)


def _examine(place: Task, dataset: Dataset, workers: int, executor: Executor | None, quiet: bool) -> Examination:
    watch = partial(_watch, total=len(dataset.training), description="check and measure", quiet=quiet)
    examination = examine_dataset(dataset, place.preprocessed / "examined", workers, executor, watch)
    if examination.problems and not quiet:
        print(problems_table(examination.problems), flush=True)
    return examination


def _watch(outcomes: Iterable[Any], total: int, description: str, quiet: bool) -> Iterator[Any]:
    return progress(outcomes, description, total=total, quiet=quiet)


def _record_check(place: Task, examination: Examination, skipped: tuple[str, ...]) -> None:
    write_json(place.source_path, {"raw": str(place.raw)})
    problems = [as_json(problem) for problem in examination.problems]
    write_json(place.check_path, {"cases": len(examination.cases), "skipped": list(skipped), "problems": problems})


def _refuse_errors(place: Task, examination: Examination, skipped: tuple[str, ...], options: PlanningOptions) -> None:
    errors = [problem for problem in examination.problems if problem.severity == "error"]
    left = [problem for problem in errors if problem.case not in skipped]
    if not left:
        return
    hint = "" if options.skip_broken else " or leave the named cases out with --skip-broken"
    raise DatasetError(
        f"{place.raw}: the check found {len(left)} errors, expected none. Mend what {place.check_path} lists{hint}."
    )


def _plan(place: Task, fingerprint: Fingerprint, options: PlanningOptions) -> Plan:
    """The plan on disk where it still holds or was edited by hand, else a new one, written beside its fingerprint."""
    described = fingerprint_to_json(fingerprint)
    wanted = {"fingerprint": value_hash(described), "budget": as_json(options.budget())}
    record = place.preprocessed / "planned.json"
    if place.plan_path.is_file() and not options.replan:
        planned = read_json(record, DatasetError) if record.is_file() else {}
        written = read_json(place.plan_path, DatasetError)
        edited = planned.get("plan") != value_hash(written)
        if edited or {name: planned.get(name) for name in wanted} == wanted:
            if edited:
                _LOG.warning("%s was edited by hand and is honoured; --replan plans anew.", place.plan_path)
            return plan_from_json(written, str(place.plan_path))
    plan = make_plan(fingerprint, options.budget())
    written = plan_to_json(plan)
    write_json(place.fingerprint_path, described)
    write_json(place.plan_path, written)
    write_json(record, {**wanted, "plan": value_hash(written)})
    return plan
