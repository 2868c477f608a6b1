"""From a planned and preprocessed task to a trained and validated fold."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from msseg.devices import resolve_device
from msseg.evaluation.evaluate import Evaluation
from msseg.evaluation.tables import evaluation_table
from msseg.folders import Task, find_task, project_root
from msseg.interrupts import StopRequest
from msseg.parallel import default_workers
from msseg.pipeline.decisions import Decided
from msseg.pipeline.fold_to_train import affordable_workers, prepared_fold, segment_maker
from msseg.pipeline.training_options import TrainingOptions
from msseg.pipeline.validation import is_validated, validate_fold
from msseg.training.distributed import ALONE, Team
from msseg.training.job import TrainingJob, TrainingResult
from msseg.training.loop import train_fold


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
        wanted = prepared_fold(place, fold, options, workers, quiet)
        if max_ram is not None:
            workers = affordable_workers(place, fold, options, device, workers, max_ram // team.local_world)
        used = team.device if team.is_shared else resolve_device(device)
        previous = wanted.previous(used, quiet, stop) if team.leads else None
    is_cascade = wanted.configuration.previous_stage is not None
    if team.told_by_lead(lambda: is_cascade and previous is None):
        not_begun = TrainingResult("stopped", False, 0, 0, 0.0, wanted.folder)
        return TrainingReport(wanted.model, wanted.fold, not_begun, None)
    with team.lead_first():
        previous = previous or wanted.previous(used, quiet, stop)
        job = wanted.job(used, workers, previous, team)
    result = train_fold(job, segment_maker(job), stop, (lambda _line: None) if quiet else None)
    if not team.leads:
        return TrainingReport(wanted.model, job.fold, result, None, validation_stopped=not team.told_by_lead(bool))
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
