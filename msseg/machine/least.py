"""The least run of a command or of a worker, in a process of its own: its cost where there is hardly anything to do.

A start is more than imports: much is loaded where it is used for the first time. A run on five cases of 16 × 16 × 16
voxels goes through all of that, so that whatever a command loads is counted by construction.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from msseg.machine.processes import held_bytes
from msseg.parallel import case_executor

_TASK = "Task01_Least"
_EDGE, _CASES = 16, 5
_LABELS = {"background": 0, "one": 1}


def write_task(folder: Path) -> None:
    """A data set of five small cases in `folder`, and one image by itself to segment."""
    import numpy as np

    from msseg.data.geometry import Geometry
    from msseg.data.image import write_image, write_label
    from msseg.files import write_json

    shape = (_EDGE,) * 3
    geometry = Geometry(shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
    label = np.zeros(shape, np.uint8)
    label[4:12, 4:12, 4:12] = 1
    noise = np.random.default_rng(0)
    for number in range(_CASES):
        image = np.rint(noise.normal(100.0 * label, 10.0))[None].astype(np.int16)
        write_image(folder / _TASK / f"imagesTr/case_{number}_0000.nii.gz", image, geometry)
        write_label(folder / _TASK / f"labelsTr/case_{number}.nii.gz", label, geometry)
    write_image(folder / "images/case_0000.nii.gz", image, geometry)
    description = {"channel_names": {"0": "MRI"}, "labels": _LABELS, "file_ending": ".nii.gz"}
    write_json(folder / _TASK / "dataset.json", description)


def _plan(folder: Path) -> int:
    from msseg.commands.plan import main

    fingerprint = folder / "root/preprocessed" / _TASK / "fingerprint.json"
    return main(["--fingerprint", str(fingerprint), "-o", str(folder / "plan.json"), "-q"])


def _networks(_folder: Path) -> int:
    from msseg.commands.networks import main

    return main([])


def _prepare(folder: Path, root: str = "root", workers: int = 1) -> int:
    from msseg.commands.plan_and_preprocess import main

    arguments = ["--root", str(folder / root), "--network", "plain_unet", "--workers", str(workers), "-q"]
    return main([str(folder / _TASK), *arguments])


def _train(folder: Path) -> int:
    from msseg.commands.train import main

    values = ("steps_per_epoch=1", "validation_batches=1", "batch_size=2", "base_features=8")
    changes = [word for value in values for word in ("--set", value)]
    arguments = ["--root", str(folder / "root"), "--recipe", "nnunet", "--epochs", "1", "--device", "cpu"]
    return main([_TASK, "0", *arguments, *changes, "--workers", "1", "-q"])


def _predict(folder: Path) -> int:
    from msseg.commands.predict import main

    model = next((folder / "root/models" / _TASK).iterdir())
    return main(["-i", str(folder / "images"), "-o", str(folder / "predicted"), "-m", str(model), "-q"])


def _evaluate(folder: Path, workers: int = 1) -> int:
    from msseg.commands.evaluate import main

    labels = str(folder / _TASK / "labelsTr")
    return main(["-p", labels, "-r", labels, "-o", str(folder / "evaluation.json"), "--workers", str(workers), "-q"])


# In an order in which each finds what it needs. A command that leaves its work to workers loads less itself.
COMMANDS: dict[str, Callable[[Path], int]] = {
    "prepare": _prepare,
    "plan": _plan,
    "networks": _networks,
    "train": _train,
    "predict": _predict,
    "evaluate": _evaluate,
    "prepare by workers": partial(_prepare, root="another root", workers=2),
    "evaluate by workers": partial(_evaluate, workers=2),
}


def _examining(folder: Path, pool: Executor) -> None:
    from msseg.data.dataset import read_dataset
    from msseg.preprocessing.examine import examine_dataset

    examine_dataset(read_dataset(folder / _TASK), folder / "examined", 1, pool)


def _preparing(folder: Path, pool: Executor) -> None:
    from msseg.data.dataset import read_dataset
    from msseg.files import read_json
    from msseg.preprocessing.pipeline import preprocess_dataset
    from planning.plan import plan_from_json

    place = folder / "root/preprocessed" / _TASK / "plan.json"
    plan = plan_from_json(read_json(place), str(place))
    store = folder / "prepared by a worker"
    preprocess_dataset(read_dataset(folder / _TASK), plan, plan.default_configuration, store, 1, pool)


def _evaluating(folder: Path, pool: Executor) -> None:
    from msseg.evaluation.evaluate import evaluate_pairs
    from msseg.evaluation.pairs import pair_files

    labels = folder / _TASK / "labelsTr"
    evaluate_pairs(pair_files(labels, labels).pairs, {"one": 1}, executor=pool)


WORKERS: dict[str, Callable[[Path, Executor], None]] = {
    "examining": _examining,
    "preparing": _preparing,
    "evaluating": _evaluating,
}


def _so_far() -> tuple[float, int, int]:
    """Seconds of the processor that this process has taken, and what it holds: in all, and by itself."""
    return time.process_time(), *held_bytes()


def _of_worker(work: Callable[[Path, Executor], None], folder: Path) -> tuple[float, int, int]:
    with case_executor(1) as pool:
        work(folder, pool)
        return pool.submit(_so_far).result()


def main(kind: str, folder: Path) -> int:
    """Runs the least of a kind and prints seconds of the processor and bytes held as JSON; the command's exit code."""
    if kind in WORKERS:
        print(json.dumps(_of_worker(WORKERS[kind], folder)))
        return 0
    code = COMMANDS[kind](folder)
    print(json.dumps(_so_far()))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
