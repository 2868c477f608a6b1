"""The whole line on the synthetic data set: written, planned, trained, predicted, evaluated and drawn."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msseg.data.synthetic import write_synthetic_dataset
from msseg.evaluation.evaluate import Evaluation
from msseg.interrupts import StopRequest
from msseg.pipeline.evaluation import draw_pictures, evaluate
from msseg.pipeline.planning import PlanningOptions, plan_and_preprocess
from msseg.pipeline.prediction import predict
from msseg.pipeline.training import TrainingOptions, train

TASK = "Dataset001_SyntheticKidneys"
# A patch of a few hundred thousand voxels: enough to see a kidney, small enough for minutes on two cores.
MEMORY_BYTES = 2_000_000_000


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
) -> DemoResult:
    """Every step of the line below `root`, the network trained for `budget_s` seconds; run again, it goes on."""
    stop = stop or StopRequest()
    raw = Path(root) / "raw" / TASK
    if not (raw / "dataset.json").is_file():
        announce(f"1/5 writing {training_cases + test_cases} synthetic CT volumes to {raw}")
        write_synthetic_dataset(raw, training_cases, test_cases)
    announce("2/5 checking, measuring, planning and preprocessing (msseg_plan_and_preprocess)")
    plan_and_preprocess(TASK, root, PlanningOptions(memory_bytes=MEMORY_BYTES), workers, quiet=quiet)
    if stop.requested:
        return _STOPPED
    announce(f"3/5 training fold 0 for {budget_s / 60:.1f} minutes (msseg_train)")
    options = TrainingOptions(budget_s=budget_s)
    report = train(TASK, 0, root, options, device, workers, quiet, stop)
    if stop.requested:
        return _STOPPED
    announce("4/5 segmenting the test cases (msseg_predict)")
    output = Path(root) / "predictions" / TASK
    predict(raw / "imagesTs", output, report.model, device=device, overwrite=True, quiet=quiet, stop=stop)
    if stop.requested:
        return _STOPPED
    announce("5/5 evaluating and drawing (msseg_evaluate)")
    evaluation = evaluate(output, raw / "labelsTs", workers=workers, quiet=quiet)
    pictures = draw_pictures(evaluation, raw / "imagesTs", output, raw / "labelsTs", Path(root) / "pictures")
    return DemoResult(evaluation, tuple(pictures))
