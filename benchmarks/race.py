"""Races the commands of this project against nnU-Net's on the same data and machine, in turn, and prints ratios.

    python benchmarks/race.py --data Task04_Hippocampus --nnunet /venv/with/nnunet/bin/python [--stages preprocess ...]

nnU-Net lives in an environment of its own and is no dependency. Each stage runs A B A B …, so that a drift of the
machine's speed meets both; quoted are medians over the pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from measure import Measurement, measure, middle
from nnunet_peer import DATASET, environment

HERE = Path(__file__).parent
PREDICTED_CASES = 20


@dataclass(frozen=True)
class Race:
    """Where everything lies; `nnunet` is the Python of nnU-Net's environment."""

    data: Path
    nnunet: Path
    work: Path
    repeats: int

    @property
    def peer(self) -> Path:
        return self.work / "nnunet"

    @property
    def root(self) -> Path:
        return self.work / "msseg"

    def log(self, name: str) -> Path:
        return self.work / f"{name}.log"

    def ours(self, command: str, *arguments: str) -> Measurement:
        """Run one of our commands from its process start."""
        script = Path(sys.executable).with_name(command)
        return measure([str(script), *arguments], self.log(command))

    def theirs(self, command: str, *arguments: str) -> Measurement:
        """Run one of nnU-Net's commands from its process start."""
        script = self.nnunet.with_name(command)
        return measure([str(script), *arguments], self.log(command), environment(self.peer))


@dataclass(frozen=True)
class Row:
    """A line of the result: the same figure of both, and what it is measured in."""

    stage: str
    figure: str
    unit: str
    ours: float
    theirs: float

    def text(self) -> str:
        ratio = self.ours / self.theirs
        return f"{self.stage:<12} {self.figure:<22} {self.ours:10.2f} {self.theirs:10.2f} {ratio:7.3f}  {self.unit}"


def preprocess(race: Race) -> list[Row]:
    """Plan and preprocess all cases from nothing."""
    ours, theirs = [], []
    for _ in range(race.repeats):
        shutil.rmtree(race.root / "preprocessed", ignore_errors=True)
        arguments = ["--root", str(race.root), "--network", "plain_unet", "--quiet"]
        ours.append(race.ours("msseg_plan_and_preprocess", str(race.data), *arguments))
        shutil.rmtree(race.peer / "preprocessed", ignore_errors=True)
        theirs.append(race.theirs("nnUNetv2_plan_and_preprocess", "-d", "4", "-c", "3d_fullres"))
    return _rows("preprocess", ours, theirs)


def iteration(race: Race, iterations: int = 8) -> list[Row]:
    """One training iteration at nnU-Net's network, patch and batch, augmentation included."""
    ours, theirs = [], []
    our_seconds, their_seconds = [], []
    for _ in range(race.repeats):
        command = [sys.executable, str(HERE / "iteration.py"), str(race.root), race.data.name, str(iterations)]
        ours.append(measure(command, race.log("iteration_ours")))
        our_seconds.append(_last_json(race.log("iteration_ours"))["seconds_per_iteration"])
        script = [str(race.nnunet), str(HERE / "nnunet_peer.py"), "train", str(race.peer), str(iterations)]
        theirs.append(measure(script, race.log("iteration_theirs"), environment(race.peer)))
        their_seconds.append(_last_json(race.log("iteration_theirs"))["seconds_per_iteration"])
    rate = Row("iteration", "seconds an iteration", "s", median(our_seconds), median(their_seconds))
    return [rate, _rows("iteration", ours, theirs)[1]]


def predict(race: Race) -> list[Row]:
    """Predict cases with eight mirrors from process start, each with the plain U-Net of its own short training."""
    model = race.root / "models" / race.data.name / "3d_plain_unet"
    if not (model / "fold_all" / "checkpoint_final.safetensors").exists():
        options = ["--root", str(race.root), "--recipe", "nnunet", "--budget", "1m", "--device", "cpu", "--quiet"]
        race.ours("msseg_train", race.data.name, "all", *options)
    images = race.work / "images"
    images.mkdir(exist_ok=True)
    for path in sorted((race.peer / "raw" / DATASET / "imagesTr").iterdir())[:PREDICTED_CASES]:
        if not (images / path.name).exists():
            (images / path.name).symlink_to(path.resolve())
    ours, theirs = [], []
    for _ in range(race.repeats):
        for name in ("ours", "theirs"):
            shutil.rmtree(race.work / name, ignore_errors=True)
        arguments = ["-i", str(images), "-o", str(race.work / "ours"), "-m", str(model), "--device", "cpu", "--quiet"]
        ours.append(race.ours("msseg_predict", *arguments))
        options = ["-d", "4", "-c", "3d_fullres", "-f", "0", "-device", "cpu"]
        output = ["-i", str(images), "-o", str(race.work / "theirs")]
        theirs.append(race.theirs("nnUNetv2_predict", *output, *options))
    return _rows("predict", ours, theirs)


STAGES: dict[str, Callable[[Race], list[Row]]] = {"preprocess": preprocess, "iteration": iteration, "predict": predict}


def _rows(stage: str, ours: list[Measurement], theirs: list[Measurement]) -> list[Row]:
    mine, peers = middle(ours), middle(theirs)
    return [
        Row(stage, "wall time", "s", mine.wall_s, peers.wall_s),
        Row(stage, "peak memory", "GB", mine.peak_bytes / 1e9, peers.peak_bytes / 1e9),
    ]


def _last_json(log: Path) -> dict[str, float]:
    return json.loads(log.read_text().strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Task04_Hippocampus in the Decathlon layout")
    parser.add_argument("--nnunet", type=Path, required=True, help="python of an environment with nnunetv2")
    parser.add_argument("--work", type=Path, default=Path("race"), help="folder for all that the race writes")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    race = Race(arguments.data.resolve(), arguments.nnunet.absolute(), work, arguments.repeats)
    peer = [str(race.nnunet), str(HERE / "nnunet_peer.py"), "layout", str(race.data), str(race.peer)]
    measure(peer, race.log("layout"), dict(os.environ))
    print(f"{'stage':<12} {'figure':<22} {'msseg':>10} {'nnU-Net':>10} {'ratio':>7}", flush=True)
    for stage in arguments.stages:
        for row in STAGES[stage](race):
            print(row.text(), flush=True)


if __name__ == "__main__":
    main()
