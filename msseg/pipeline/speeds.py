"""Dice and time of the presets of speed on a model's validation cases, at the end of a training or on demand."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from msseg.checkpoint import Checkpoint
from msseg.data.cases import Case
from msseg.data.dataset import read_dataset
from msseg.data.image import read_image
from msseg.devices import resolve_device
from msseg.errors import DatasetError
from msseg.folders import Task
from msseg.inference.predictor import PredictionOptions, Predictor, load_predictor
from msseg.inference.speeds import SPEEDS, MeasuredSpeed, measured_speeds, options_for, shown_dice
from msseg.pipeline.pruned_model import read_whole_model
from msseg.pipeline.pruning import task_of
from msseg.pipeline.reference import read_reference
from msseg.pipeline.speed_records import CaseSpeeds, write_fold, write_summary
from msseg.progress import progress
from msseg.training.validation import overlap
from planning.plan import Plan

CASES = 8
# Of the training's time, at its end.
SHARE_OF_TRAINING = 0.1
# The first case under all presets, and once to warm up, over the same case under exact alone.
_FIRST_CASE_COST = 3.0


@dataclass(frozen=True)
class TimeLimit:
    """Measuring ends `seconds` after `start` (time.monotonic); `exact_case_s` is what a case is known to take."""

    seconds: float
    exact_case_s: float
    start: float = field(default_factory=time.monotonic)

    def left_s(self) -> float:
        return self.start + self.seconds - time.monotonic()


def measure_speeds(
    model: str | os.PathLike[str],
    task: str | None = None,
    root: str | os.PathLike[str] | None = None,
    cases: int = CASES,
    device: str = "auto",
    quiet: bool = True,
) -> dict[str, MeasuredSpeed]:
    """Each preset's Dice and time over at most `cases` validation cases of every fold; written into the model's folder.

    The cases are those of `task` (default: of the folder that the model lies in), from its raw data set. Raises
    CheckpointError where there is no model, DatasetError where no fold has validation cases or one is gone.
    """
    whole = read_whole_model(Path(model))
    place = task_of(whole.folder, task, root)
    for fold, checkpoint in whole.checkpoints.items():
        chosen = _validation_cases(place, checkpoint)
        if chosen:
            predictor = load_predictor(
                whole.folder, resolve_device(device), [fold], postprocess=False, out_of_fold=True
            )
            measure_fold(predictor, whole.folder / f"fold_{fold}", chosen, cases, quiet=quiet)
    if not write_summary(whole.folder):
        raise DatasetError(f"{whole.folder}: its folds have no validation cases, so there is nothing to measure on.")
    return measured_speeds(whole.folder)


def measure_fold(
    predictor: Predictor,
    fold: Path,
    cases: Sequence[Case],
    most: int = CASES,
    limit: TimeLimit | None = None,
    quiet: bool = True,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """How many of the fold's validation cases were predicted under every preset; the findings are in its folder.

    At most `most` cases, evenly spread over their names, and none is begun that should not end within `limit`. The
    presets take turns case by case, so that whatever else the machine does slows them alike. Nothing is written where
    no case was measured.
    """
    presets = {name: predictor.with_options(options_for(name, PredictionOptions())) for name in SPEEDS}
    measured: list[CaseSpeeds] = []
    for case in progress(_spread(cases, most), "measure speeds", quiet=quiet):
        one = None if stop() else _measure_case(presets, case, predictor.model.plan, limit, measured)
        if one is None:
            break
        measured.append(one)
    if measured:
        write_fold(fold, predictor, measured)
    return len(measured)


def _spread(cases: Sequence[Case], most: int) -> list[Case]:
    """At most so many of the cases, evenly spread."""
    if len(cases) <= most:
        return list(cases)
    return [cases[round(place)] for place in np.linspace(0, len(cases) - 1, most)]


def _measure_case(
    presets: Mapping[str, Predictor],
    case: Case,
    plan: Plan,
    limit: TimeLimit | None,
    before: Sequence[CaseSpeeds],
) -> CaseSpeeds | None:
    """The case under every preset; None where no time is left for it."""
    if case.label_path is None:
        raise DatasetError(f"{case.image_paths[0]}: a validation case without a label. Put its label back.")
    image, geometry = read_image(case.image_paths, len(plan.channels))
    megavoxels = math.prod(geometry.shape) / 1e6
    if limit is not None and _expected_s(megavoxels, before, limit) > limit.left_s():
        return None
    reference = read_reference(case.label_path, plan)
    if not before:
        _warm_up(presets, image, geometry.spacing_mm)
    overlaps, seconds = {}, {}
    regions = [region.classes for region in plan.regions]
    for name, predictor in presets.items():
        start = time.perf_counter()
        label = predictor.predict_array(image, geometry.spacing_mm)
        seconds[name] = time.perf_counter() - start
        label_map = predictor.label_map
        overlaps[name] = overlap(label_map.to_index(label), reference, len(label_map.values), regions)
    return CaseSpeeds(case.name, megavoxels, overlaps, seconds)


def _expected_s(megavoxels: float, before: Sequence[CaseSpeeds], limit: TimeLimit) -> float:
    """Seconds that a case of this size should take under all presets, by the slowest of those before it."""
    if not before:
        return limit.exact_case_s * _FIRST_CASE_COST
    return megavoxels * max(sum(one.seconds.values()) / one.megavoxels for one in before)


def _warm_up(presets: Mapping[str, Predictor], image: np.ndarray, spacing_mm: Sequence[float]) -> None:
    """Let the networks choose layouts and algorithms: by the fastest preset, on a device by the batches of each."""
    on_cpu = next(iter(presets.values())).device.type == "cpu"
    for name in list(presets)[-1:] if on_cpu else presets:
        presets[name].predict_array(image, spacing_mm)


def _validation_cases(place: Task, checkpoint: Checkpoint) -> list[Case]:
    """The fold's validation cases in the raw data set; DatasetError where one is gone."""
    names = sorted(checkpoint.metadata.get("identity", {}).get("validation_cases", ()))
    if not names:
        return []
    known = {case.name: case for case in read_dataset(place.raw, place.preprocessed).training}
    missing = sorted(set(names) - set(known))
    if missing:
        raise DatasetError(f"{place.raw}: validation cases are gone ({', '.join(missing[:3])}). Put them back.")
    return [known[name] for name in names]


def speeds_table(measured: Mapping[str, MeasuredSpeed]) -> str:
    """A line a preset: Dice, seconds a case and a megavoxel, and its time over that of exact."""
    lines = [f"{'speed':<10} {'Dice':>6} {'s a case':>9} {'s a Mvoxel':>11} {'of exact':>9}"]
    lines += [
        f"{name:<10} {shown_dice(one.dice):>6} {one.seconds_per_case:>9.3f} {one.seconds_per_megavoxel:>11.3f} "
        f"{one.share_of_exact:>8.2f}×"
        for name, one in measured.items()
    ]
    return "\n".join(lines)
