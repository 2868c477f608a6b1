"""What msseg_predict will take, from headers, and how much of a limit of memory is left for a case's scores."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from msseg.data.cases import Case, find_images
from msseg.folders import find_model, project_root
from msseg.inference.memory import SINGLE_BYTES, case_bytes, forward_bytes, patches_at_once
from msseg.inference.mirrors import Mirror, mirrored_axes
from msseg.inference.tiles import tile_starts
from msseg.parallel import default_workers
from msseg.pipeline.explain import too_little_memory
from msseg.pipeline.explain_headers import case_size, planned_shape
from msseg.pipeline.model_header import ModelHeader, read_model_header
from planning.costs.cases import CaseSize
from planning.costs.estimate import Estimate
from planning.costs.machine import Machine
from planning.costs.prediction import (
    Kept,
    PredictedCase,
    PredictionWork,
    most_bytes_of_scores,
    prediction_estimate,
)
from planning.plan import Configuration, Plan


@dataclass(frozen=True)
class Views:
    """How often a tile is shown, and how far tiles lie apart."""

    mirror: Mirror = True
    step: float = 0.5
    noise_repeats: int = 0

    def count(self, configuration: Configuration) -> int:
        """Views of one tile."""
        return 2 ** len(mirrored_axes(configuration.mirror_axes, self.mirror)) * (1 + self.noise_repeats)


def explain_prediction(
    input_folder: str | os.PathLike[str],
    machine: Machine,
    model: str | os.PathLike[str] | None = None,
    task: str | None = None,
    root: str | os.PathLike[str] | None = None,
    folds: Sequence[str | int] | None = None,
    views: Views | None = None,
    device: str = "auto",
    workers: int | None = None,
    max_ram: int | None = None,
    kept: Kept = Kept(),  # noqa: B008 (frozen)
) -> Estimate:
    """The prediction for every image of a folder.

    Raises DatasetError for a folder without images, CheckpointError for one without a model, ResourceError where even
    the least does not fit `max_ram` bytes.
    """
    folder = Path(model) if model is not None else find_model(project_root(root), task)
    work = folder_work(input_folder, machine, folder, folds, views or Views(), device, workers, kept)
    if max_ram is not None:
        scores_bytes(work, machine, max_ram)
    return prediction_estimate(work, machine)


def folder_work(
    input_folder: str | os.PathLike[str],
    machine: Machine,
    model: Path,
    folds: Sequence[str | int] | None,
    views: Views,
    device: str,
    workers: int | None,
    kept: Kept = Kept(),  # noqa: B008 (frozen)
) -> PredictionWork:
    """What the model of a folder has to do on a folder of images."""
    header = read_model_header(model, folds)
    cases, _ = find_images(Path(input_folder), len(header.plan.channels))
    return prediction_work(header, cases, views, used_device(device, machine), workers or 1, kept)


def scores_bytes(work: PredictionWork, machine: Machine, max_ram: int) -> int:
    """What the scores of one case may take within `max_ram`; ResourceError where they need more."""
    left = most_bytes_of_scores(work, machine, max_ram)
    cases = [case for stage in work.stages for case in stage.cases]
    needed = max((case.work_bytes for case in cases), default=0)
    if needed > left:
        largest = max(cases, key=lambda case: case.work_bytes).size
        why = f"its largest case, {largest.name}, has {' x '.join(map(str, largest.shape))} voxels"
        remedy = "Give more, or predict the large cases elsewhere."
        raise too_little_memory("prediction", max_ram - left + needed, max_ram, why, remedy)
    return left


def prediction_work(
    header: ModelHeader,
    cases: Sequence[Case],
    views: Views,
    device: str,
    workers: int = 1,
    kept: Kept = Kept(),  # noqa: B008 (frozen)
) -> PredictionWork:
    """What a model has to do on cases, by their headers; in a cascade, what the model before it has to do too."""
    networks = len(header.folds)
    work = work_of(header.plan, header.configuration, networks, cases, views, device, workers, kept)
    if header.previous is None:
        return work
    before = read_model_header(header.previous.folder(header.folder), header.previous.folds)
    return replace(work, previous=prediction_work(before, cases, views, device, workers))


def work_of(
    plan: Plan,
    configuration: Configuration,
    networks: int,
    cases: Sequence[Case],
    views: Views,
    device: str,
    workers: int = 1,
    kept: Kept = Kept(),  # noqa: B008 (frozen)
) -> PredictionWork:
    """What networks of a configuration have to do on cases, by their headers."""
    shape = planned_shape(configuration, plan.axis_order, plan.has_spacing)
    classes = plan.outputs
    seen_at_once = patches_at_once(device, math.prod(configuration.patch_size), default_workers())
    sizes = [case_size(case, len(plan.channels), shape, _nothing) for case in cases]
    predicted = partial(_predicted, configuration=configuration, classes=classes, views=views, batch=seen_at_once)
    return PredictionWork(
        configuration=configuration,
        in_channels=len(plan.channels),
        num_classes=classes,
        networks=networks,
        cases=tuple(predicted(size, kept=kept) for size in sizes),
        device=device,
        seen_at_once=seen_at_once,
        workers=workers,
        alive_bytes=_alive_bytes(configuration, seen_at_once, len(plan.channels)),
    )


def _alive_bytes(configuration: Configuration, batch_size: int, channels: int) -> int:
    """What grows with the batch; the rest was there when the least prediction was measured."""
    return forward_bytes(configuration, batch_size, channels) - forward_bytes(configuration, 0, channels)


def _nothing(*_sizes: object) -> int:
    return 0


def _predicted(
    size: CaseSize, configuration: Configuration, classes: int, views: Views, batch: int, kept: Kept
) -> PredictedCase:
    """The case, of which so much is kept beside its scores."""
    patch = (1,) * (3 - configuration.dimensions) + configuration.patch_size
    padded = [max(length, edge) for length, edge in zip(size.new_shape, patch, strict=True)]
    tiles = math.prod(len(tile_starts(*each, views.step)) for each in zip(padded, patch, strict=True))
    kept_bytes = kept.bytes_of(classes, math.prod(size.shape))
    work_bytes = case_bytes(classes, padded, patch, size.shape, batch, SINGLE_BYTES, kept_bytes)
    return PredictedCase(size, tiles * views.count(configuration), work_bytes)


def used_device(name: str, machine: Machine) -> str:
    """The kind of device that a command takes: `auto` is the graphics card where one was measured."""
    if name == "auto":
        return "cuda" if machine.device is not None else "cpu"
    return name.partition(":")[0]
