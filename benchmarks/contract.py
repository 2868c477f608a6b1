"""How far `--explain` lies from what the commands then take: predicted over real, for time and memory.

    python benchmarks/contract.py --data Task04_Hippocampus --cases 40 [--work contract] [--clock cpu]

Each stage is predicted, run from its process start, and predicted over real is printed. On a machine at rest the clock
is the wall's. `--clock cpu` compares with the processor time of the command and its children instead, which other work
hardly stretches: run it with OMP_NUM_THREADS=1, and every command gets one worker, so that at rest the two agree.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.image import read_label, write_label
from msseg.machine import measured_machine
from msseg.machine.watch import tree_bytes
from msseg.pipeline.explain_evaluation import explain_evaluation
from msseg.pipeline.explain_planning import explain_preparation
from msseg.pipeline.explain_prediction import explain_prediction
from msseg.pipeline.explain_training import TrainingWish, explain_training
from planning.costs.estimate import Estimate
from planning.costs.machine import Machine

_SECONDS_BETWEEN_LOOKS = 0.05


@dataclass(frozen=True)
class Taken:
    """What a command took, with all its children."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Contract:
    """A data set cut to a few cases, the place for all that is written, and what a training is made short by."""

    data: Path
    work: Path
    workers: int | None
    steps: int
    predicted: int
    network: str | None
    configuration: str | None = None

    @property
    def root(self) -> Path:
        return self.work / "root"

    @property
    def models(self) -> Path:
        return self.root / "models" / self.data.name

    def common(self) -> list[str]:
        return ["--workers", str(self.workers), "--quiet"] if self.workers else ["--quiet"]


def run(command: str, arguments: Sequence[str], log: Path) -> Taken:
    """One of our commands from its process start to its end; CalledProcessError where it fails."""
    script = str(Path(sys.executable).with_name(command))
    start = time.monotonic()
    ended, peak = threading.Event(), [0]
    with log.open("w") as output:
        process = subprocess.Popen([script, *arguments], stdout=output, stderr=subprocess.STDOUT)
        watcher = threading.Thread(target=_watch, args=(process.pid, ended, peak), daemon=True)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    watcher.join()
    if process.returncode:
        print(log.read_text()[-2000:], file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, command)
    return Taken(wall_s, usage.ru_utime + usage.ru_stime, peak[0])


def _watch(pid: int, ended: threading.Event, peak: list[int]) -> None:
    """The sum over the processes counts what they share once; what others on the machine share with them is not seen
    in it, so that the largest process by itself is looked at too."""
    while not ended.wait(_SECONDS_BETWEEN_LOOKS):
        peak[0] = max(peak[0], tree_bytes(pid), _most_resident_bytes(pid))


def _most_resident_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def prepare(contract: Contract, machine: Machine) -> tuple[Estimate, Taken]:
    """Plan and preprocess from nothing."""
    shutil.rmtree(contract.root, ignore_errors=True)
    estimate = explain_preparation(contract.data, machine, contract.root, contract.workers)
    options = ["--root", str(contract.root), *contract.common()]
    options += ["--network", contract.network] if contract.network else []
    taken = run("msseg_plan_and_preprocess", [str(contract.data), *options], contract.work / "prepare.log")
    return estimate, taken


def train(contract: Contract, machine: Machine) -> tuple[Estimate, Taken]:
    """A few steps of a narrow network, and the fold's validation."""
    shutil.rmtree(contract.models, ignore_errors=True)
    overrides = {"steps_per_epoch": contract.steps, "validation_batches": 2, "batch_size": 2, "base_features": 12}
    wish = TrainingWish(contract.configuration, recipe="nnunet", overrides=overrides, epochs=1)
    estimate = explain_training(contract.data.name, 0, machine, wish, contract.root, "cpu", contract.workers)
    arguments = [
        contract.data.name,
        "0",
        "--root",
        str(contract.root),
        "--recipe",
        "nnunet",
        "--epochs",
        "1",
        "--restart",
    ]
    for key, value in overrides.items():
        arguments += ["--set", f"{key}={value}"]
    arguments += ["--configuration", contract.configuration] if contract.configuration else []
    arguments += ["--device", "cpu", *contract.common()]
    return estimate, run("msseg_train", arguments, contract.work / "train.log")


def predict(contract: Contract, machine: Machine) -> tuple[Estimate, Taken]:
    """Segment a few images with the model just trained."""
    images = _links(contract)
    model = next(contract.models.iterdir())
    estimate = explain_prediction(images, machine, model, device="cpu")
    output = contract.work / "predicted"
    arguments = ["-i", str(images), "-o", str(output), "-m", str(model), "--device", "cpu", "--overwrite", "--quiet"]
    return estimate, run("msseg_predict", arguments, contract.work / "predict.log")


def evaluate(contract: Contract, machine: Machine) -> tuple[Estimate, Taken]:
    """The reference labels against themselves moved by a voxel, so that all surfaces lie apart."""
    labels, moved = contract.data / "labelsTr", contract.work / "moved"
    for path in [path for path in labels.iterdir() if not (moved / path.name).exists()]:
        label, geometry = read_label(path)
        write_label(moved / path.name, np.roll(label, 1, axis=1), geometry)
    output = contract.work / "evaluation.json"
    estimate = explain_evaluation(moved, labels, machine, workers=contract.workers)
    arguments = ["-p", str(moved), "-r", str(labels), "-o", str(output), *contract.common()]
    return estimate, run("msseg_evaluate", arguments, contract.work / "evaluate.log")


STAGES: dict[str, Callable[[Contract, Machine], tuple[Estimate, Taken]]] = {
    "prepare": prepare,
    "train": train,
    "predict": predict,
    "evaluate": evaluate,
}


def median_run(
    stage: Callable[[Contract, Machine], tuple[Estimate, Taken]], contract: Contract, machine: Machine, repeats: int
) -> tuple[Estimate, Taken]:
    """The prediction, and the median of each figure over the runs."""
    runs = [stage(contract, machine) for _ in range(repeats)]
    wall_s, cpu_s, peak = (
        statistics.median(getattr(taken, name) for _, taken in runs) for name in ("wall_s", "cpu_s", "peak_bytes")
    )
    return runs[0][0], Taken(wall_s, cpu_s, round(peak))


def _links(contract: Contract) -> Path:
    """A folder with the first images of the data set."""
    folder = contract.work / "images"
    folder.mkdir(exist_ok=True)
    for case in _training(contract.data)[: contract.predicted]:
        image = contract.data / case["image"]
        link = folder / image.name
        if not link.exists():
            link.symlink_to(image.resolve())
    return folder


def _training(data: Path) -> list[dict[str, str]]:
    cases: list[dict[str, str]] = json.loads((data / "dataset.json").read_text())["training"]
    return cases


def cut(data: Path, cases: int, work: Path) -> Path:
    """A data set folder of the Decathlon's layout with the first cases of `data`, all files linked."""
    from msseg.data.dataset import read_dataset

    dataset = read_dataset(data)
    folder = work / dataset.name
    entries = []
    for case in dataset.training[:cases]:
        image, label = case.image_paths[0], case.label_path
        if len(case.image_paths) != 1 or label is None:
            raise SystemExit(f"{data}: case {case.name} has several files a case or no label; give another data set.")
        for room, path in (("imagesTr", image), ("labelsTr", label)):
            (folder / room).mkdir(parents=True, exist_ok=True)
            link = folder / room / label.name
            if not link.exists():
                link.symlink_to(path.resolve())
        entries.append({"image": f"imagesTr/{label.name}", "label": f"labelsTr/{label.name}"})
    labels = {str(value): name for name, value in dataset.labels.items()}
    modality = {str(number): name for number, name in enumerate(dataset.channels)}
    description = {"modality": modality, "labels": labels, "training": entries, "test": []}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data set folder with one image file a case")
    parser.add_argument("--cases", type=int, default=40, help="how many of its cases are taken")
    parser.add_argument("--predicted", type=int, default=4, help="how many of these are segmented")
    parser.add_argument("--steps", type=int, default=4, help="training steps")
    parser.add_argument("--network", help="the network that is planned (default: the planner's choice)")
    parser.add_argument("--configuration", help="what is trained (default: the plan's choice)")
    parser.add_argument("--work", type=Path, default=Path("contract"), help="folder for all that is written")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each stage, of which the median counts")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    contract = Contract(
        data=cut(arguments.data, arguments.cases, work),
        work=work,
        workers=1 if arguments.clock == "cpu" else None,
        steps=arguments.steps,
        predicted=arguments.predicted,
        network=arguments.network,
        configuration=arguments.configuration,
    )
    machine = measured_machine()
    print(f"{'stage':<10} {'predicted':>10} {'real':>10} {'ratio':>6}   {'predicted':>10} {'real':>10} {'ratio':>6}")
    for stage in arguments.stages:
        estimate, taken = median_run(STAGES[stage], contract, machine, arguments.repeats)
        real_s = taken.cpu_s if arguments.clock == "cpu" else taken.wall_s
        print(
            f"{stage:<10} {estimate.wall_s:8.2f} s {real_s:8.2f} s {estimate.wall_s / real_s:6.2f}   "
            f"{estimate.ram_bytes / 1e9:7.3f} GB {taken.peak_bytes / 1e9:7.3f} GB "
            f"{estimate.ram_bytes / taken.peak_bytes:6.2f}",
            flush=True,
        )
        print("           " + ", ".join(f"{part.name} {part.wall_s:.2f}" for part in estimate.parts), flush=True)


if __name__ == "__main__":
    main()
