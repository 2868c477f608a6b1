"""Seconds of one training iteration of ours: python iteration.py ROOT TASK ITERATIONS

The plan's own patch and batch, with nnU-Net's recipe, its augmentation in background workers included.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from msseg.data.store import stored_names
from msseg.folders import find_task
from msseg.parallel import default_workers
from msseg.pipeline.planning import load_plan
from msseg.pipeline.splits import ensure_splits, split_of
from msseg.training.job import TrainingJob
from msseg.training.log import read_log
from msseg.training.loop import train_fold
from msseg.training.recipes import recipe_named


def main(root: str, task: str, iterations: str) -> None:
    place = find_task(task, Path(root))
    plan = load_plan(place)
    name = plan.default_configuration
    store = place.store(name)
    recipe = replace(recipe_named("nnunet"), steps_per_epoch=1, validation_batches=0, whole_volume_every=10**6)
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingJob(
            store=store,
            plan=plan,
            configuration_name=name,
            split=split_of(ensure_splits(place, stored_names(store)), "0"),
            fold="0",
            recipe=recipe,
            folder=Path(folder),
            device=torch.device("cpu"),
            workers=default_workers(),
            epochs=int(iterations),
        )
        train_fold(job, report=lambda _line: None)
        epochs = [entry for entry in read_log(Path(folder) / "log.jsonl") if entry["event"] == "epoch"]
    steps = [after["elapsed_s"] - before["elapsed_s"] for before, after in itertools.pairwise(epochs)][1:]
    waited = [entry["waited_s"] for entry in epochs][
        2:
    ]  # The first steps fill caches and wait for the worker to start.
    measured = {"seconds_per_iteration": median(steps), "waiting_share": sum(waited) / sum(steps)}
    print(json.dumps({**measured, "iterations": len(steps)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
