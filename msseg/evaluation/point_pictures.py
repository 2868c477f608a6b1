"""A picture of the points that point rendering chose: a row of levels over the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from msseg.evaluation.pictures import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BACKGROUND, _TEXT = "#101216", "#f2f2f2"
_OUTLINE, _POINTS = COLOURS[1], COLOURS[0]
_PANEL_INCHES = 1.9
_TITLE_INCHES = 0.22
# In square points of print: of all dots of a panel, and of one at least and at most.
_DOTS_AREA, _DOT_AREAS = 4000.0, (0.4, 4.0)


@dataclass(frozen=True)
class ChosenPoints:
    """The points of one level of one case: coordinates (n, 2) in [0, 1] as (y, x), and the level's shape.

    `whole_cells`: each point stands for the cell that it lies in, which is drawn instead of a dot.
    """

    title: str
    coordinates: np.ndarray
    level_shape: tuple[int, int]
    whole_cells: bool


def points_figure(image: np.ndarray, reference: np.ndarray, rows: Mapping[str, Sequence[ChosenPoints]]) -> Figure:
    """A row of levels for each heading, over `image` (y, x) with the outline of `reference` (y, x)."""
    from matplotlib.figure import Figure

    columns = max(len(levels) for levels in rows.values())
    height = _PANEL_INCHES * image.shape[0] / image.shape[1] + _TITLE_INCHES
    figure = Figure(figsize=(_PANEL_INCHES * columns, height * len(rows)), facecolor=_BACKGROUND)
    panels = figure.subplots(len(rows), columns, squeeze=False)
    top = 1 - _TITLE_INCHES / (height * len(rows))
    figure.subplots_adjust(0.004, 0.006, 0.996, top, wspace=0.02, hspace=_TITLE_INCHES / (height - _TITLE_INCHES))
    for axes in panels.flat:
        axes.set_axis_off()
    for line, (heading, levels) in zip(panels, rows.items(), strict=True):
        for axes, chosen in zip(line, levels, strict=False):
            _draw_level(axes, image, reference, chosen)
            axes.set_title(f"{heading}, {chosen.title}", color=_TEXT, fontsize=6.5, pad=2.5)
    return figure


def cells_of(chosen: ChosenPoints) -> np.ndarray:
    """Which cells of the level hold a point, a bool array of the level's shape."""
    shape = np.asarray(chosen.level_shape)
    places = np.clip((chosen.coordinates * shape).astype(int), 0, shape - 1)
    held = np.zeros(chosen.level_shape, dtype=bool)
    held[places[:, 0], places[:, 1]] = True
    return held


def share_near_boundary(chosen: ChosenPoints, near: np.ndarray) -> float:
    """The share of the points that lie where `near` (y, x) is true; NaN without points."""
    if not len(chosen.coordinates):
        return float("nan")
    shape = np.asarray(near.shape)
    places = np.clip((chosen.coordinates * shape).astype(int), 0, shape - 1)
    return float(near[places[:, 0], places[:, 1]].mean())


def near_boundary(reference: np.ndarray, distance: float) -> np.ndarray:
    """Where the nearest pixel of the other kind (label 0 or not) is at most `distance` pixels away, bool (y, x)."""
    from scipy.ndimage import distance_transform_edt

    inside = reference != 0
    if inside.all() or not inside.any():
        return np.zeros(inside.shape, dtype=bool)
    apart = np.where(inside, distance_transform_edt(inside), distance_transform_edt(~inside))
    return np.asarray(apart <= distance)


def _draw_level(axes: Any, image: np.ndarray, reference: np.ndarray, chosen: ChosenPoints) -> None:
    height, width = image.shape
    extent = (0, width, height, 0)
    low, high = np.percentile(image, [1, 99.5])
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), extent=extent, interpolation="bilinear")
    if chosen.whole_cells:
        layer = np.ma.masked_equal(cells_of(chosen), 0)
        axes.imshow(layer, cmap=_one_colour(), alpha=0.75, extent=extent, interpolation="nearest")
    else:
        y, x = chosen.coordinates.T * np.array([[height], [width]])
        area = np.clip(_DOTS_AREA / max(1, len(x)), *_DOT_AREAS)
        axes.scatter(x, y, s=area, color=_POINTS, linewidths=0)
    if reference.any():
        axes.contour(reference != 0, levels=[0.5], colors=[_OUTLINE], linewidths=0.5, extent=extent, origin="upper")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _one_colour() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([_POINTS])
