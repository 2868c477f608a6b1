"""nnU-Net's side of the race; runs in the Python environment that nnU-Net is installed in.

python nnunet_peer.py layout DECATHLON_FOLDER WORK      lay the data set out as nnU-Net wants it
python nnunet_peer.py train WORK ITERATIONS             train fold 0 for that many iterations, print seconds each
python nnunet_peer.py quality WORK ITERATIONS EPOCHS    train fold 0 that long, print minutes and validation Dice
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from statistics import median

DATASET = "Dataset004_Hippocampus"
ROOMS = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}


def environment(work: Path) -> dict[str, str]:
    """The environment variables that nnU-Net requires."""
    return {**os.environ, **{name: str(work / room) for name, room in ROOMS.items()}}


def layout(source: Path, work: Path) -> None:
    """Write the nnU-Net v2 folder of a Decathlon data set, with links instead of copies."""
    folder = work / "raw" / DATASET
    for room in ("imagesTr", "labelsTr"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    described = json.loads((source / "dataset.json").read_text())
    for pair in described["training"]:
        name = Path(pair["image"]).name.removesuffix(".nii.gz")
        _link(source / pair["image"], folder / "imagesTr" / f"{name}_0000.nii.gz")
        _link(source / pair["label"], folder / "labelsTr" / f"{name}.nii.gz")
    v2 = {
        "channel_names": described["modality"],
        "labels": {name: int(value) for value, name in described["labels"].items()},
        "numTraining": len(described["training"]),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(v2))


def _link(source: Path, place: Path) -> None:
    if not place.is_symlink():
        place.symlink_to(source.resolve())


def train(work: Path, iterations: int, epochs: int = 1, validate: bool = False) -> list[float]:
    """Train fold 0 on the CPU for `epochs` epochs of `iterations` iterations; the seconds of each training step."""
    os.environ.update(environment(work))
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = work / "preprocessed" / DATASET
    plans = {**json.loads((folder / "nnUNetPlans.json").read_text()), "continue_training": False}
    dataset = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = epochs, iterations, 2
    seconds: list[float] = []
    step = trainer.train_step
    last = [time.monotonic()]

    def timed_step(batch: dict) -> dict:
        result = step(batch)
        now = time.monotonic()
        seconds.append(now - last[0])
        last[0] = now
        return result

    trainer.train_step = timed_step
    trainer.run_training()
    if validate:
        trainer.perform_actual_validation(False)
    return seconds


def main(arguments: list[str]) -> None:
    verb, *rest = arguments
    if verb == "layout":
        layout(Path(rest[0]), Path(rest[1]))
    elif verb == "train":
        seconds = train(Path(rest[0]), int(rest[1]))
        # The first steps warm caches up and wait for the augmentation workers to start.
        print(json.dumps({"seconds_per_iteration": median(seconds[2:]), "iterations": len(seconds)}))
    elif verb == "quality":
        seconds = train(Path(rest[0]), int(rest[1]), epochs=int(rest[2]), validate=True)
        summary = work_summary(Path(rest[0]))
        print(json.dumps({"minutes": sum(seconds) / 60, "dice": summary["foreground_mean"]["Dice"]}))
    else:
        raise SystemExit(__doc__)


def work_summary(work: Path) -> dict:
    """nnU-Net's validation summary of fold 0."""
    found = next((work / "results" / DATASET).glob("nnUNetTrainer__*/fold_0/validation/summary.json"))
    return json.loads(found.read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
