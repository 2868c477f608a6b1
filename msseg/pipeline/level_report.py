"""The measured levels to read and to look at: a table, the papers' figure, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msseg.evaluation.tables import aligned
from msseg.files import atomic_path
from msseg.pipeline.levels import LevelScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NOTHING = "–"


def levels_table(scores: Sequence[LevelScore]) -> str:
    """The levels as a table for the terminal."""
    headings = ["level", "Dice", "IoU", "parameters", "s per case", "MB at the peak"]
    return aligned(headings, [_row(score) for score in scores])


def _row(score: LevelScore) -> list[str]:
    return [
        f"L{score.level}",
        *(_NOTHING if value is None else f"{value:.4f}" for value in (score.mean_dice, score.mean_iou)),
        f"{score.parameters:,}",
        f"{score.seconds_per_case:.3f}",
        f"{score.memory_bytes / 1e6:.1f}",
    ]


def levels_to_json(scores: Sequence[LevelScore]) -> list[dict[str, Any]]:
    """The measurements as JSON values."""
    return [asdict(score) for score in scores]


def draw_levels(path: Path, scores: Sequence[LevelScore], chosen: int, tolerance: float, title: str) -> None:
    """Draw score against parameters and against time, a point a level; the chosen one is ringed."""
    # The figure is made without pyplot, which would choose a window system and keep the figure alive.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    by_size, by_time = figure.subplots(1, 2, sharey=True)
    _draw_curve(by_size, [score.parameters for score in scores], scores, chosen, tolerance)
    _draw_curve(by_time, [score.seconds_per_case for score in scores], scores, chosen, tolerance)
    by_size.set_xscale("log")
    by_size.set_xticks([score.parameters for score in scores], [_short(score.parameters) for score in scores])
    by_size.set_xticks([], minor=True)
    by_size.set_xlabel("parameters")
    by_size.set_ylabel("score on the validation cases")
    by_time.set_xlim(left=0)
    by_time.set_xlabel("seconds per case")
    figure.legend(*by_time.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _short(count: int) -> str:
    """A count as people write it: 19.4 k, 9.16 M."""
    return f"{count / 1e6:.3g} M" if count >= 1e6 else f"{count / 1e3:.3g} k"


def _draw_curve(
    axes: Axes, places: Sequence[float], scores: Sequence[LevelScore], chosen: int, tolerance: float
) -> None:
    nothing = float("nan")
    dice = [nothing if score.mean_dice is None else score.mean_dice for score in scores]
    iou = [nothing if score.mean_iou is None else score.mean_iou for score in scores]
    axes.plot(places, dice, "o-", color="C0", label="Dice")
    axes.plot(places, iou, "s-", color="C1", label="IoU")
    known = [score.mean_dice for score in scores if score.mean_dice is not None]
    if known:
        axes.axhline(max(known) - tolerance, color="C0", linestyle=":", label=f"best Dice less {tolerance:g}")
    for place, value, score in zip(places, dice, scores, strict=True):
        axes.annotate(f"L{score.level}", (place, value), xytext=(0, 8), textcoords="offset points", ha="center")
        if score.level == chosen:
            axes.plot([place], [value], "o", markersize=14, fillstyle="none", color="black", label="kept")
    axes.margins(y=0.15)
    axes.grid(alpha=0.3)
