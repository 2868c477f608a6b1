"""From a data set to a challenge entry through the commands alone: five folds, the choice, prediction, submission.

    python benchmarks/challenge_entry.py hippocampus --data ../shared/data --out DIR --budget 2m
    python benchmarks/challenge_entry.py acdc --data ../shared/data --out DIR --budget 4m

Every command is printed as it could be typed, with the time it took. Started again it goes on: each command leaves
alone what it has done. What the entries of `ENTRIES` do not name is left to the plan. docs/challenge_entry.md tells
what came out.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A data set of the Decathlon's layout below --data, and what is done with it.

    Of its labelled cases, in the order of their names, the first `training_cases` are trained on and the others are the
    test; None: all are trained on. `group_by` tells patients in case names. Each of `configurations` is trained in five
    folds. `ranking` is the challenge by which the result is evaluated, and for which it is submitted, if it is.
    """

    folder: str
    training_cases: int | None
    configurations: tuple[str, ...]
    ranking: str
    group_by: str | None = None
    is_submitted: bool = False


ENTRIES = {
    "hippocampus": Entry("Task04_Hippocampus", 100, ("3d", "2d"), "decathlon", is_submitted=True),
    "acdc": Entry("volumes/ACDC_cardiac", None, ("2d", "3d"), "acdc", group_by=r"patient\d+"),
}


def main() -> None:
    """Do all of it, or what is missing of it."""
    arguments = _arguments()
    entry, out = ENTRIES[arguments.entry], arguments.out
    task = Path(entry.folder).name
    lay_out(entry, arguments.data / entry.folder, out / "raw" / task)
    compare_models(entry, task, out, ["--budget", arguments.budget, *arguments.options])
    enter(entry, task, out)


def compare_models(entry: Entry, task: str, out: Path, options: list[str]) -> None:
    """Train five folds of each configuration and choose between them."""
    root = ["--root", str(out)]
    grouped = ["--group-by", entry.group_by] if entry.group_by else []
    run("msseg_plan_and_preprocess", task, *root, *grouped)
    for name in entry.configurations:
        run("msseg_train", task, "all-folds", *root, "--configuration", name, *options)
    run("msseg_find_best", task, *root)


def enter(entry: Entry, task: str, out: Path) -> None:
    """Predict the test (of a data set without one what was trained on), evaluate, submit."""
    raw, predictions = out / "raw" / task, str(out / "predictions")
    which = "Tr" if entry.training_cases is None else "Ts"
    images, labels = str(raw / f"images{which}"), str(raw / f"labels{which}")
    run("msseg_predict", "-i", images, "-o", predictions, "--inference", str(out / "models" / task / "inference.json"))
    run("msseg_evaluate", "-p", predictions, "-r", labels, "--challenge", entry.ranking)
    if entry.is_submitted:
        challenge, submission = ["--challenge", entry.ranking], str(out / f"{entry.ranking}.zip")
        run("msseg_submit", *challenge, "-i", predictions, "-o", submission, "-r", images)
        run("msseg_submit", "--check", submission, "-r", images)


def run(command: str, *options: str) -> None:
    """Run one of the commands that lie beside this Python; its failure ends everything."""
    print(f"\n$ {shlex.join([command, *options])}", flush=True)
    start = time.monotonic()
    done = subprocess.run([str(Path(sys.executable).with_name(command)), *options], check=False)
    print(f"# {command}: {time.monotonic() - start:.1f} s", flush=True)
    if done.returncode:
        sys.exit(done.returncode)


def lay_out(entry: Entry, source: Path, raw: Path) -> None:
    """Copy the data set to `raw`, with the cases that are not trained on as its test; nothing where it is there."""
    if (raw / "dataset.json").is_file():
        return
    description = json.loads((source / "dataset.json").read_text())
    names = sorted(Path(row["image"]).name for row in description["training"])
    training, test = names[: entry.training_cases], names[len(names[: entry.training_cases]) :]
    for folder, chosen in (("Tr", training), ("Ts", test)):
        _copy(source, raw, chosen, folder)
    (raw / "dataset.json").write_text(json.dumps({**description, **_listing(training, test)}, indent=1))


def _copy(source: Path, raw: Path, names: list[str], ending: str) -> None:
    for kind in ("images", "labels"):
        for name in names:
            target = raw / f"{kind}{ending}" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / f"{kind}Tr" / name, target)


def _listing(training: list[str], test: list[str]) -> dict[str, Any]:
    pairs = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in training]
    listed = [f"./imagesTs/{name}" for name in test]
    return {"training": pairs, "test": listed, "numTraining": len(training), "numTest": len(test)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", choices=ENTRIES)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="where raw/, models/ and the entry go")
    parser.add_argument("--budget", default="2m", help="time of each fold (default: 2m)")
    parser.add_argument("options", nargs="*", help="more options of msseg_train, after --")
    return parser.parse_args()


if __name__ == "__main__":
    main()
