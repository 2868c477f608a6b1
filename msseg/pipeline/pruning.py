"""From a trained model to a smaller one: measure what each level is worth, keep one, write it as a model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from msseg.checkpoint import Checkpoint, load_weights
from msseg.data.store import StoredCase, open_case, stored_names
from msseg.devices import resolve_device
from msseg.errors import DatasetError, PlanError
from msseg.files import write_json
from msseg.folders import Task, find_task, project_root
from msseg.inference.predictor import RULES_FILE
from msseg.networks.build import build_network
from msseg.networks.pruning import pruned_configuration, pruned_weights
from msseg.pipeline.level_report import draw_levels, levels_table, levels_to_json
from msseg.pipeline.levels import LevelMeter, LevelScore, Networks, Viewing, measure_fold, smallest_within
from msseg.pipeline.pruned_model import WholeModel, check_place, read_whole_model, write_pruned_model
from msseg.postprocessing.rules import Rule, read_rules
from msseg.progress import progress
from planning.label_pairs import sides_of
from planning.regions import measured_labels

TABLE_FILE, FIGURE_FILE = "pruning.json", "pruning.png"


@dataclass(frozen=True)
class PruningOptions:
    """What the user asks for. `level` None measures all of them and keeps the smallest within `tolerance` of the best.

    `tolerance` is in mean Dice. `branches` and `mirror` say how the cases are predicted (see PredictionOptions);
    `cases` bounds how many of each fold are.
    """

    level: int | None = None
    tolerance: float = 0.005
    branches: str = "accurate"
    mirror: bool = False
    cases: int | None = None


@dataclass(frozen=True)
class PruningReport:
    """What was written where, and what was measured for it; `postprocessing` says what became of the model's rules."""

    output: Path
    level: int
    levels: tuple[int, ...]
    postprocessing: str
    scores: tuple[LevelScore, ...] = ()
    files: tuple[Path, ...] = ()

    def summary(self) -> str:
        """Lines for the end of the command."""
        lines = [levels_table(self.scores), *(str(path) for path in self.files)] if self.scores else []
        whole = " (every node is kept)" if self.level == self.levels[-1] else ""
        lines += [f"{self.output}: level {self.level} of {self.levels[-1]}{whole}.", self.postprocessing]
        return "\n".join(lines)


def prune(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    options: PruningOptions | None = None,
    task: str | None = None,
    root: str | os.PathLike[str] | None = None,
    device: str = "auto",
    quiet: bool = True,
) -> PruningReport:
    """Cut a trained model to one of its levels and write it as a model of its own, `MODEL_levelN` unless named.

    `model` is a model folder, or one fold's folder or checkpoint. Where levels are measured, the table and the figure
    are written into the model's folder; the cases are those of `task` (default: of the folder that the model lies in).
    Raises PlanError where the network cannot be pruned, CheckpointError where there is no model or the output holds
    something else, DatasetError where the validation cases are gone.
    """
    options = options or PruningOptions()
    whole = read_whole_model(Path(model))
    if output is not None:
        check_place(Path(output))
    rules_path = whole.folder / RULES_FILE
    rules = read_rules(rules_path) if rules_path.is_file() else []
    levels = whole.levels
    scores: tuple[LevelScore, ...] = ()
    level = options.level
    if level is None:
        _refuse_cascade(whole)
        place = task_of(whole.folder, task, root)
        scores = _measured(whole, levels, place, rules, options, resolve_device(device), quiet)
        level = smallest_within(scores, options.tolerance).level
    keep_rules, postprocessing = _fate_of_rules(rules, next((one for one in scores if one.level == level), None))
    target = Path(output) if output is not None else whole.folder.with_name(f"{whole.folder.name}_level{level}")
    record = {
        "model": whole.folder.name,
        "levels": list(levels),
        "postprocessing": postprocessing,
        "measured": _measurements(scores, options) if scores else None,
    }
    write_pruned_model(whole, level, target, keep_rules, record)
    files = _write_report(whole, scores, level, options) if scores else ()
    return PruningReport(target, level, levels, postprocessing, scores, files)


def _refuse_cascade(whole: WholeModel) -> None:
    """Raise PlanError for the second network of a cascade: measured alone, it would see nothing of the first."""
    first = next(iter(whole.checkpoints.values())).configuration
    if first.previous_stage is not None:
        levels = ", ".join(map(str, whole.levels))
        raise PlanError(
            f"{whole.folder}: the levels of a cascade's second network are not measured. Name one with --level "
            f"({levels}), and measure what it is worth with msseg_speeds or msseg_evaluate."
        )


def task_of(model: Path, task: str | None, root: str | os.PathLike[str] | None) -> Task:
    """The task called `task`, or that of a model in ROOT/models/TASK/MODEL; DatasetError where there is none."""
    if task is not None:
        return find_task(task, project_root(root))
    parents = model.resolve().parents
    if len(parents) < 3 or parents[1].name != "models":
        raise DatasetError(f"{model}: expected ROOT/models/TASK/MODEL. Name the cases' --task and --root.")
    return find_task(parents[0].name, Path(root) if root is not None else parents[2])


def validation_cases(checkpoint: Checkpoint, task: Task, most: int | None = None) -> list[str]:
    """The names of the fold's validation cases, the first `most`; DatasetError where the store lacks one of them."""
    names = sorted(checkpoint.metadata.get("identity", {}).get("validation_cases", ()))
    store = task.store(checkpoint.configuration_name)
    missing = sorted(set(names) - set(stored_names(store)))
    if missing:
        shown = ", ".join(missing[:3])
        raise DatasetError(f"{store}: {len(missing)} validation cases are not there ({shown}). Preprocess {task.name}.")
    return names[:most]


def _measured(
    whole: WholeModel,
    levels: Sequence[int],
    task: Task,
    rules: Sequence[Rule],
    options: PruningOptions,
    device: torch.device,
    quiet: bool,
) -> tuple[LevelScore, ...]:
    """Every level's measurements over the validation cases of all folds."""
    first = next(iter(whole.checkpoints.values()))
    labels = tuple(measured_labels(first.plan.labels, first.plan.regions))
    meters = {level: LevelMeter(level, labels, rules, first.plan.regions) for level in levels}
    viewing = Viewing(device, options.mirror, options.branches, sides_of(first.plan, first.configuration))
    for fold, checkpoint in whole.checkpoints.items():
        names = validation_cases(checkpoint, task, options.cases)
        networks = _networks(checkpoint, levels, whole.paths[fold], device)
        shown = progress(names, f"measure levels (fold {fold})", quiet=quiet)
        measure_fold(meters, networks, _opened(task.store(checkpoint.configuration_name), shown), viewing)
    scores = tuple(meter.score() for meter in meters.values())
    if not scores[0].cases:
        raise DatasetError(f"{whole.folder}: its folds have no labelled validation cases. Name the level with --level.")
    return scores


def _opened(store: Path, names: Iterator[str]) -> Iterator[StoredCase]:
    return map(partial(open_case, store), names)


def _networks(checkpoint: Checkpoint, levels: Sequence[int], path: Path, device: torch.device) -> Networks:
    networks: Networks = {}
    for level in levels:
        configuration = pruned_configuration(checkpoint.configuration, level)
        network = build_network(configuration, len(checkpoint.plan.channels), checkpoint.plan.outputs)
        load_weights(network, pruned_weights(checkpoint.best_weights, configuration), path)
        networks[level] = network.to(device).eval(), configuration
    return networks


def _fate_of_rules(rules: Sequence[Rule], score: LevelScore | None) -> tuple[bool, str]:
    """Whether the model's postprocessing goes with the pruned one, and why."""
    if not rules:
        return True, "Postprocessing: the model has none."
    if score is None or score.mean_dice is None or score.mended_dice is None:
        return True, "Postprocessing: kept as it is; it was chosen with the whole network's segmentations."
    keep = score.mended_dice >= score.mean_dice
    change = f"mean Dice {score.mended_dice:.4f} with it, {score.mean_dice:.4f} without"
    return keep, f"Postprocessing: {'kept' if keep else 'dropped'}, {change}."


def _measurements(scores: Sequence[LevelScore], options: PruningOptions) -> dict[str, Any]:
    return {
        "tolerance": options.tolerance,
        "branches": options.branches,
        "mirror": options.mirror,
        "threads": torch.get_num_threads(),
        "levels": levels_to_json(scores),
    }


def _write_report(
    whole: WholeModel, scores: Sequence[LevelScore], level: int, options: PruningOptions
) -> tuple[Path, ...]:
    """Write the table and the figure beside the whole model's folds; their paths."""
    table, figure = whole.folder / TABLE_FILE, whole.folder / FIGURE_FILE
    write_json(table, {"kept": level, "folds": list(whole.checkpoints), **_measurements(scores, options)})
    draw_levels(figure, scores, level, options.tolerance, whole.folder.name)
    return table, figure
