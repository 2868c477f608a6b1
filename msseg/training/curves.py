"""The picture of a training: loss, Dice on patches and whole volumes per class, learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msseg.files import atomic_path
from msseg.training.log import LOG, latest_by_step, read_log

CURVES = "curves.png"


def draw_curves(folder: Path) -> Path | None:
    """Draw `folder`/curves.png from `folder`/log.jsonl; None where no epoch is logged yet, or matplotlib is missing."""
    entries = read_log(folder / LOG)
    epochs = latest_by_step(entries, "epoch")
    if not epochs or not _can_draw():
        return None
    labels: list[str] = next((entry["labels"][1:] for entry in entries if entry["event"] in ("start", "resume")), [])
    path = folder / CURVES
    with atomic_path(path) as temporary:
        _draw(temporary, epochs, latest_by_step(entries, "validation"), labels)
    return path


def _can_draw() -> bool:
    """A training is worth more than its picture, which can be drawn later."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def _draw(path: Path, epochs: list[dict[str, Any]], validations: list[dict[str, Any]], labels: list[str]) -> None:
    # The figure is made without pyplot, which would choose a window system and keep the figure alive.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 9), layout="constrained")
    FigureCanvasAgg(figure)
    loss, dice, rate = figure.subplots(3, 1, sharex=True, height_ratios=(2, 3, 1))
    steps = [entry["step"] for entry in epochs]
    loss.plot(steps, _numbers(entry["loss"] for entry in epochs), color="black")
    loss.set_ylabel("training loss")
    for index, label in enumerate(labels):
        colour = f"C{index % 10}"
        dice.plot(steps, _numbers(entry["patch_dice"][index] for entry in epochs), color=colour, alpha=0.6, label=label)
        if validations:
            dice.plot(
                [entry["step"] for entry in validations],
                _numbers(entry["dice"][index] for entry in validations),
                "o--",
                color=colour,
            )
    dice.set_ylabel("Dice (line: patches, dots: whole volumes)")
    dice.set_ylim(0, 1)
    dice.grid(alpha=0.3)
    if labels:
        dice.legend(loc="lower right")
    rate.plot(steps, [entry["learning_rate"] for entry in epochs], color="grey")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("step")
    figure.savefig(path, dpi=110, format="png")


def _numbers(values: Any) -> list[float]:
    return [float("nan") if value is None else value for value in values]
