"""All folds of a task, one after another; each as if it were trained alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from msseg.errors import DatasetError
from msseg.evaluation.tables import aligned
from msseg.files import read_json
from msseg.folders import Task, find_task, project_root
from msseg.interrupts import StopRequest
from msseg.pipeline.training import TrainingReport, train
from msseg.pipeline.training_options import TrainingOptions
from msseg.training.distributed import ALONE, Team

ALL_FOLDS = "all-folds"
SPLITS = "splits.json"
_NOTHING = "–"


@dataclass(frozen=True)
class FoldsReport:
    """What became of each fold, in order; those after a stop are `left`."""

    task: str
    reports: tuple[TrainingReport, ...]
    left: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every fold is trained and validated."""
        return not self.left and all(one.complete for one in self.reports)

    def summary(self) -> str:
        """Lines for the end of the command: a row a fold, and the command that goes on."""
        rows = [_row(report) for report in self.reports]
        lines = [aligned(["fold", "ended", "steps", "cases", "mean Dice"], rows)]
        if self.complete:
            lines.append(f"All folds are trained. Compare what is trained: msseg_find_best {self.task}")
        else:
            left = f", folds {', '.join(self.left)} were not begun" if self.left else ""
            lines.append(f"Stopped{left}. Run the same command again to go on.")
        return "\n".join(lines)


def train_all_folds(
    task: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    options: TrainingOptions | None = None,
    device: str = "auto",
    workers: int | None = None,
    quiet: bool = True,
    stop: StopRequest | None = None,
    max_ram: int | None = None,
    say: Callable[[str], None] = lambda _line: None,
    team: Team = ALONE,
) -> FoldsReport:
    """Train and validate every fold of a preprocessed task with the same options; folds that are done stay as they are.

    A budget is for each fold. `say` takes a fold's summary as it ends. Raises as `train` does, where the folds before
    are kept.
    """
    stop = stop or StopRequest()
    options = options or TrainingOptions()
    place = find_task(os.fspath(task), project_root(root))
    reports: list[TrainingReport] = []
    names = ["0"]  # the first fold makes the splits where there are none, or none that fit
    while len(reports) < len(names):
        fold = names[len(reports)]
        report = train(task, fold, root, options, device, workers, quiet, stop, max_ram, revalidate=False, team=team)
        reports.append(report)
        say(report.summary())
        names = fold_names(place)
        if not report.complete or stop.requested:
            break
    return FoldsReport(place.name, tuple(reports), tuple(names[len(reports) :]))


def fold_names(task: Task) -> list[str]:
    """The folds of a task by its splits; DatasetError where it has none yet."""
    return [str(number) for number in range(len(read_json(task.preprocessed / SPLITS, DatasetError)["folds"]))]


def _row(report: TrainingReport) -> list[str]:
    result = report.result
    validated = report.model / f"fold_{report.fold}" / "validation.json"
    found = read_json(validated) if result.complete and validated.is_file() else None
    dice = found["mean_foreground"].get("dice") if found else None
    return [
        report.fold,
        result.ended,
        str(result.steps),
        _NOTHING if found is None else str(len(found["cases"])),
        _NOTHING if dice is None else f"{dice:.4f}",
    ]
