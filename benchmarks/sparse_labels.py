"""What labels in every fifth slice are worth: the same steps on all of a data set's labels and on a part of them.

    python benchmarks/sparse_labels.py DATA --root FOLDER --cases 60 --every 5 --epochs 4

DATA is a data set in the Decathlon's layout. Below FOLDER it is written three times: `Full` as it is; `Sparse` with the
slices between marked as ignored, which dataset.json says; `Emptied` with them as background, as it would be without an
ignore label. Each is planned, trained and validated on fold 0 by the commands, and the segmentations of the validation
cases, the same ones in all, are measured against the full labels.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msseg.data.dataset import read_dataset
from msseg.data.image import read_label, write_label

VARIANTS = ("Full", "Sparse", "Emptied")
_IGNORE = "ignore"


def write_variant(source: Path, folder: Path, variant: str, cases: int, every: int) -> float:
    """The share of the voxels that are annotated in the data set of the first `cases` cases written to `folder`."""
    dataset = read_dataset(source)
    training = dataset.training[:cases]
    ignored = max(dataset.labels.values()) + 1
    between = {"Full": None, "Sparse": ignored, "Emptied": 0}[variant]
    annotated, voxels = 0, 0
    for case in training:
        (image_path,), label_path = case.image_paths, case.label_path
        assert label_path is not None
        label, geometry = read_label(label_path)
        kept = np.zeros(label.shape, bool)
        kept[every // 2 :: every if between is not None else 1] = True
        kept |= between is None
        annotated, voxels = annotated + int(kept.sum()), voxels + kept.size
        (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image_path, folder / "imagesTr" / f"{case.name}_0000.nii.gz")
        write_label(folder / "labelsTr" / f"{case.name}.nii.gz", np.where(kept, label, between or 0), geometry)
    labels = dataset.labels | ({_IGNORE: ignored} if variant == "Sparse" else {})
    description = {
        "channel_names": {str(number): name for number, name in enumerate(dataset.channels)},
        "labels": labels,
        "numTraining": len(training),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1))
    return annotated / voxels


def command(name: str, *arguments: str | Path) -> str:
    """What the command of that name says."""
    program = str(Path(sys.executable).with_name(name))
    return subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def trained(task: Path, root: Path, training: Sequence[str]) -> Path:
    """The folder of fold 0 of the data set, planned, trained and validated."""
    command("msseg_plan_and_preprocess", task, "--root", root)
    said = command("msseg_train", task, "0", "--root", root, *training)
    first = next(line for line in said.splitlines() if "fold_0:" in line)
    return Path(first.split(":", 1)[0])


def measured(segmentations: Path, references: Path, record: Path) -> dict[str, Any]:
    """The evaluation of segmentations against the full labels of the same names."""
    held = record.with_suffix("")
    shutil.rmtree(held, ignore_errors=True)
    held.mkdir(parents=True)
    for path in segmentations.glob("*.nii.gz"):
        shutil.copyfile(references / path.name, held / path.name)
    shutil.copyfile(references.parent / "dataset.json", held / "dataset.json")
    command("msseg_evaluate", "-p", segmentations, "-r", held, "-o", record)
    value: dict[str, Any] = json.loads(record.read_text())
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--every", type=int, default=5, help="one slice in so many is annotated")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments, rest = parser.parse_known_args()
    training = ["--recipe", "budget", "--epochs", str(arguments.epochs), *rest]
    raw = arguments.root / "raw"
    for variant in dict.fromkeys(["Full", *arguments.variants]):
        share = write_variant(arguments.data, raw / variant, variant, arguments.cases, arguments.every)
        if variant not in arguments.variants:
            continue
        fold = trained(raw / variant, arguments.root, training)
        record = arguments.root / f"{variant}.json"
        evaluation = measured(fold / "validation", raw / "Full" / "labelsTr", record)
        dice = {name: round(one["mean"]["dice"], 4) for name, one in evaluation["summary"].items()}
        mean = evaluation["mean_foreground"]["dice"]
        print(f"{variant:<8} {share:4.0%} of the voxels annotated  Dice {mean:.4f}  {dice}", flush=True)


if __name__ == "__main__":
    main()
