"""The whole line on a synthetic data set: written, planned, trained, predicted, evaluated and drawn."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msseg.data.synthetic import write_synthetic_dataset
from msseg.data.synthetic_cells import write_cells
from msseg.evaluation.evaluate import Evaluation
from msseg.interrupts import StopRequest
from msseg.pipeline.evaluation import draw_pictures, evaluate
from msseg.pipeline.planning import PlanningOptions, plan_and_preprocess
from msseg.pipeline.prediction import OutputWish, predict
from msseg.pipeline.training import train
from msseg.pipeline.training_options import TrainingOptions

# A patch of a few hundred thousand voxels: enough to see a kidney, small enough for minutes on two cores.
MEMORY_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Demo:
    """A synthetic data set: its task, what its cases are called, how it is written, and where its test cases lie.

    `last_file(cases)` is the file that is written last: with it the folder is whole.
    """

    task: str
    cases: str
    write: Callable[[Path, int, int], Path]
    last_file: Callable[[int], str]
    images: str
    references: str
    instances: bool = False


DEMOS = {
    "abdomen": Demo(
        task="Dataset001_SyntheticKidneys",
        cases="CT volumes",
        write=write_synthetic_dataset,
        last_file=lambda cases: "dataset.json",
        images="imagesTs",
        references="labelsTs",
    ),
    "cells": Demo(
        task="Dataset002_SyntheticCells",
        cases="microscopy images",
        write=write_cells,
        last_file=lambda cases: f"test/instances/cells_{cases - 1:03d}.png",
        images="test/images",
        references="test/instances",
        instances=True,
    ),
}


@dataclass(frozen=True)
class DemoResult:
    """What the demo leaves: the evaluation of its test cases, and the pictures; None and none where it was stopped."""

    evaluation: Evaluation | None
    pictures: tuple[Path, ...]


_STOPPED = DemoResult(None, ())


def run_demo(
    root: str | os.PathLike[str],
    budget_s: float,
    training_cases: int = 20,
    test_cases: int = 5,
    device: str = "auto",
    workers: int | None = None,
    quiet: bool = False,
    stop: StopRequest | None = None,
    announce: Callable[[str], None] = print,
    demo: Demo = DEMOS["abdomen"],
) -> DemoResult:
    """Every step of the line below `root`, the network trained for `budget_s` seconds; run again, it goes on."""
    stop = stop or StopRequest()
    raw = Path(root) / "raw" / demo.task
    if not (raw / demo.last_file(training_cases + test_cases)).is_file():
        announce(f"1/5 writing {training_cases + test_cases} synthetic {demo.cases} to {raw}")
        demo.write(raw, training_cases, test_cases)
    announce("2/5 checking, measuring, planning and preprocessing (msseg_plan_and_preprocess)")
    plan_and_preprocess(demo.task, root, PlanningOptions(memory_bytes=MEMORY_BYTES), workers, quiet=quiet)
    if stop.requested:
        return _STOPPED
    announce(f"3/5 training fold 0 for {budget_s / 60:.1f} minutes (msseg_train)")
    options = TrainingOptions(budget_s=budget_s)
    report = train(demo.task, 0, root, options, device, workers, quiet, stop)
    if stop.requested:
        return _STOPPED
    announce("4/5 segmenting the test cases (msseg_predict)")
    output = Path(root) / "predictions" / demo.task
    outputs = OutputWish(instances=demo.instances)
    images, references = raw / demo.images, raw / demo.references
    predict(images, output, report.model, device=device, overwrite=True, quiet=quiet, stop=stop, outputs=outputs)
    if stop.requested:
        return _STOPPED
    announce("5/5 evaluating and drawing (msseg_evaluate)")
    evaluation = evaluate(output, references, workers=workers, quiet=quiet)
    pictures = draw_pictures(evaluation, images, output, references, Path(root) / "pictures" / demo.task)
    return DemoResult(evaluation, tuple(pictures))
