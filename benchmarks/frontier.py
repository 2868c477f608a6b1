"""Quality in time: Dice of a fold against the minutes that its training was given, through the commands alone.

    python benchmarks/frontier.py --task Task04_Hippocampus --root DATA_ROOT --budgets 5m 15m 45m
    python benchmarks/frontier.py --task Task04_Hippocampus --root DATA_ROOT --steps 600 --variant adamw \\
        --set optimiser=adamw

The first form trains from nothing with each budget, everything included: process start, training, prediction of the
validation cases, evaluation. The second compares variants of the recipe at a fixed number of steps, which a busy
machine does not disturb. Every run adds a line to RESULTS (JSON lines); `--plot` draws all lines that are there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STEPS_PER_EPOCH = 50  # of the budget recipe
_TICKS = (5, 10, 20, 45)
# What was measured elsewhere, for the picture: minutes, Dice (docs/benchmarks.md says where).
PEER = ("nnU-Net v2.8.1, 540 iterations", 43.0, 0.854)


def trained(arguments: argparse.Namespace, length: Sequence[str]) -> dict[str, Any]:
    """Train, validate and evaluate a fold from nothing: the line of the results."""
    command = [str(Path(sys.executable).with_name("msseg_train")), arguments.task, arguments.fold]
    command += ["--root", str(arguments.root), "--recipe", "budget", "--restart", *length, *arguments.options]
    start = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    minutes = (time.monotonic() - start) / 60
    folder = _fold_folder(arguments, done.stdout)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    validation = json.loads((folder / "validation.json").read_text())
    return {
        "task": arguments.task,
        "variant": arguments.variant,
        "length": list(length),
        "minutes": round(minutes, 2),
        "steps": log[-1]["step"],
        "features": next(entry["features"] for entry in log if entry["event"] == "start"),
        "dice": round(validation["mean_foreground"]["dice"], 4),
        "waited_s": round(sum(entry.get("waited_s", 0.0) for entry in log if entry["event"] == "epoch"), 1),
    }


def _fold_folder(arguments: argparse.Namespace, said: str) -> Path:
    """The folder that the command's summary begins with."""
    first = next(line for line in said.splitlines() if f"fold_{arguments.fold}:" in line)
    return Path(first.split(":", 1)[0])


def text(line: dict[str, Any]) -> str:
    """A line of the table."""
    length = " ".join(line["length"])
    figures = f"{line['minutes']:6.1f} min {line['steps']:6d} steps  Dice {line['dice']:.4f}"
    return f"{line['task']:<20} {line['variant']:<12} {length:<14} {figures}"


def draw(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Dice against minutes: a curve for every task, the peer beside."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for task in sorted({line["task"] for line in lines}):
        points = sorted((line["minutes"], line["dice"]) for line in lines if line["task"] == task)
        axes.plot(*zip(*points, strict=True), marker="o", label=f"msseg, {task}")
        for minutes, dice in points:
            axes.annotate(f"{dice:.3f}", (minutes, dice), textcoords="offset points", xytext=(4, 6), fontsize=8)
    axes.plot(PEER[1], PEER[2], marker="s", linestyle="", color="grey", label=PEER[0])
    axes.set(xscale="log", xlabel="minutes, everything included", ylabel="mean foreground Dice of the fold")
    axes.set_xticks(_TICKS, [str(minutes) for minutes in _TICKS])
    axes.minorticks_off()
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True)
    parser.add_argument("--root", type=Path, required=True, help="where the task is planned and preprocessed")
    parser.add_argument("--fold", default="0")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--budgets", nargs="+", default=[], help="such as 5m 15m 45m")
    length.add_argument("--steps", type=int, help=f"fixed number of steps, in epochs of {STEPS_PER_EPOCH}")
    parser.add_argument("--variant", default="budget", help="the name of what --set changes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes of the recipe")
    parser.add_argument("--results", type=Path, default=Path("frontier.jsonl"))
    parser.add_argument("--plot", type=Path)
    arguments, rest = parser.parse_known_args()
    arguments.options = [word for change in arguments.set for word in ("--set", change)] + rest
    lengths = [["--budget", budget] for budget in arguments.budgets]
    if arguments.steps:
        lengths = [["--epochs", str(arguments.steps // STEPS_PER_EPOCH)]]
    for each in lengths:
        line = trained(arguments, each)
        print(text(line), flush=True)
        with arguments.results.open("a") as results:
            results.write(json.dumps(line) + "\n")
    if arguments.plot:
        draw([json.loads(line) for line in arguments.results.read_text().splitlines()], arguments.plot)


if __name__ == "__main__":
    main()
