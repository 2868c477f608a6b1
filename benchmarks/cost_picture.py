"""The picture of the cost curves: seconds and memory of each stage, on logarithmic axes, with the floor beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Panels, and whose sweeps are drawn in them, the second with a word beside the size's name.
PANELS: dict[str, tuple[tuple[str, str], ...]] = {
    "prepare": (("prepare", ""), ("prepare again", " again")),
    "batches": (("batches", ""),),
    "training step": (("training step", ""),),
    "sliding window": (("sliding window", ""),),
    "predict a case": (("predict", ""),),
    "export": (("export", ""),),
    "evaluate": (("evaluate", ""), ("evaluate files", "")),
    "postprocess": (("postprocess", ""),),
}
_COLOURS = {"voxels": "#1b6ca8", "classes": "#c1442d", "cases": "#2f8f5b", "workers": "#7a5195"}
_COLUMNS = 4
_LEAST_GAP = 0.09  # between direct labels, as a share of the panel's height


def draw(points: Sequence[dict[str, Any]], floors: Mapping[str, float], path: Path) -> Path:
    """The path of the picture, written as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"font.size": 7, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(4, _COLUMNS, figsize=(11, 9), layout="constrained")
        for index, (title, sources) in enumerate(PANELS.items()):
            row, column = 2 * (index // _COLUMNS), index % _COLUMNS
            lines = [line for stage, word in sources for line in _lines(points, stage, word)]
            _floor(axes[row, column], lines, floors)
            _panel(axes[row, column], lines, "seconds")
            _panel(axes[row + 1, column], lines, "megabytes")
            axes[row, column].set_title(title, fontsize=9, loc="left")
        figure.supxlabel("size, times the smallest of its sweep")
        for row in range(4):
            axes[row, 0].set_ylabel(("seconds of one core (workers: of the clock)", "peak memory, MB")[row % 2])
        figure.savefig(path, dpi=75)
        plt.close(figure)
    return path


def _lines(points: Sequence[dict[str, Any]], stage: str, word: str) -> list[dict[str, Any]]:
    """One line a sweep of the stage: its label, sizes relative to the smallest, and what was measured."""
    lines = []
    for swept in dict.fromkeys(point["swept"] for point in points if point["stage"] == stage):
        mine = [point for point in points if (point["stage"], point["swept"]) == (stage, swept)]
        mine.sort(key=lambda point: point["size"])
        seconds = [point["wall_s" if swept == "workers" else "cpu_s"] for point in mine]
        lines.append(
            {
                "label": swept + word,
                "swept": swept,
                "x": [point["size"] / mine[0]["size"] for point in mine],
                "seconds": seconds,
                "megabytes": [point["peak_bytes"] / 1e6 for point in mine],
                "points": mine,
            }
        )
    return lines


def _panel(axis: Any, lines: Sequence[dict[str, Any]], what: str) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    ends = []
    for line in lines:
        style = "--" if line["label"] != line["swept"] else "-"
        axis.plot(line["x"], line[what], style, marker="o", markersize=2.5, lw=1.2, color=_COLOURS[line["swept"]])
        exponent = np.polyfit(np.log(line["x"]), np.log(line[what]), 1)[0] if len(line["x"]) > 1 else 0.0
        ends.append((line[what][-1], f"{line['label']}  {exponent:+.2f}", _COLOURS[line["swept"]], line["x"][-1]))
    _at_least_a_decade(axis)
    axis.grid(True, which="major", lw=0.3, alpha=0.6)
    _label_ends(axis, ends)


def _at_least_a_decade(axis: Any) -> None:
    """Widen the height to 1.5 decades, so that a level line looks level, and name whole decades by plain numbers."""
    from matplotlib import ticker

    low, high = np.log10(axis.get_ylim())
    extra = max(0.0, 1.5 - (high - low)) / 2
    axis.set_ylim(10 ** (low - extra), 10 ** (high + extra))
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def _label_ends(axis: Any, ends: Sequence[tuple[float, str, str, float]]) -> None:
    """Write each line's name and exponent right of the panel, at its end's height or just above the one below."""
    if not ends:
        return
    low, high = np.log(axis.get_ylim())
    height = -1.0
    for value, text, colour, _ in sorted(ends):
        height = max((np.log(value) - low) / (high - low), height + _LEAST_GAP)
        axis.text(1.02, height, text, transform=axis.transAxes, color=colour, fontsize=6.5, va="center")


def _floor(axis: Any, lines: Sequence[dict[str, Any]], floors: Mapping[str, float]) -> None:
    """The least seconds by arithmetic and by memory's bandwidth of the sweep over voxels, as a dotted line."""
    for line in lines:
        if line["label"] != "voxels":
            continue
        least = [floor_seconds(point, floors) for point in line["points"]]
        if min(least) > 0:
            axis.plot(line["x"], least, ":", lw=1.0, color="#555555")
            middle = len(least) // 2
            axis.annotate("floor", (line["x"][middle], least[middle]), fontsize=6, color="#555555", va="top")


def floor_seconds(point: Mapping[str, float], floors: Mapping[str, float]) -> float:
    """The least seconds that one thread can need: the longer of arithmetic in float32 and of moving bytes."""
    return max(point["flops"] / floors["float32_flops_per_s"], point["moved_bytes"] / floors["copy_bytes_per_s"])
