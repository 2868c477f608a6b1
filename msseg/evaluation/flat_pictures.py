"""Pictures of 2D segmentations: a panel a case in the image's own colours and pixels, outlines of both sides on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msseg.data.image import read_image, read_label
from msseg.evaluation.case import CaseMetrics, LabelValues, members_of
from msseg.evaluation.object_errors import FALSE, FOUND, MERGED, MISSED, SPLIT, object_errors
from msseg.evaluation.objects import parted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BACKGROUND, _TEXT = "#101216", "#f2f2f2"
_DOTS_PER_INCH = 150
# A picture's long side in dots where the image's pixels can be enlarged by a whole factor to come near it.
_LONG_SIDE = 1200
_LARGEST_SIDE = 4000
_ROW_HEIGHT = 760
_TITLE, _LEGEND, _GAP, _LEAST_WIDTH = 84, 60, 10, 1050
_HALO = 1.3
# After Okabe and Ito: told apart by colour-blind eyes; on dark, bright and stained grounds by a dark edge.
_SKY, _ORANGE, _VERMILLION, _YELLOW = "#56c1f5", "#f0a01e", "#ff5a1f", "#f7e94a"
_PURPLE, _GREEN, _PALE = "#ff8fd0", "#19c796", "#ffffff"
_LABEL_COLOURS = (_SKY, _ORANGE, _GREEN, _YELLOW, _PURPLE, _VERMILLION)
_TITLES = {FOUND: "found: reference", MISSED: "missed", FALSE: "false", MERGED: "merged", SPLIT: "split"}
_SOLID, _DASHED = "solid", (0, (3.2, 1.6))
# How what nobody annotated is darkened, and what the legend calls it.
VEIL, NOT_ANNOTATED = 0.55, "dark: not annotated"


@dataclass(frozen=True)
class FlatCase:
    """A 2D case: pixels as shown, float32 (y, x) or (y, x, 3) in [0, 1], its label maps (y, x), its figures as text.

    `spacing_mm` (y, x) is None where the file does not tell. `ignored` is True where nobody annotated, which is drawn
    darker.
    """

    name: str
    pixels: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    spacing_mm: tuple[float, float] | None = None
    figures: str = ""
    ignored: np.ndarray | None = None


@dataclass(frozen=True)
class _Layer:
    """The outlines of the objects `numbers` of `ids` (y, x), in one colour and style, named in the legend."""

    title: str
    ids: np.ndarray
    numbers: np.ndarray
    colour: str
    width: float
    style: Any = _SOLID


def read_flat_case(
    name: str,
    image_paths: Sequence[Path],
    reference_path: Path,
    prediction_path: Path,
    figures: str = "",
    instances: bool = False,
    ignore: int | None = None,
) -> FlatCase:
    """The files of one case of a single slice, in the order in which the pixels are stored.

    With `instances` a prediction of a single value is parted into its components, as it is where it is measured; else
    nobody annotated the pixels of the value `ignore` in the reference.
    """
    image, geometry = read_image(image_paths)
    prediction = read_label(prediction_path)[0]
    reference, ignored = parted_reference(read_label(reference_path)[0], None if instances else ignore)
    shown = parted(prediction) if instances else prediction
    spacing_mm = geometry.spacing_mm[1:] if geometry.has_spacing else None
    unknown = None if ignored is None else ignored[0]
    return FlatCase(name, shown_pixels(image[:, 0]), reference[0], shown[0], spacing_mm, figures, unknown)


def parted_reference(reference: np.ndarray, ignore: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The reference with 0 in place of the value `ignore`, and where that was; None where it is nowhere."""
    ignored = None if ignore is None else reference == ignore
    if ignored is None or not ignored.any():
        return reference, None
    return np.where(ignored, reference.dtype.type(0), reference), ignored


def figures_of(case: CaseMetrics) -> str:
    """The figures in a picture's title: the Dice of every label and, of measured objects, F1 and DSB2018's score."""
    values = [f"{label} {_three(one.values['dice'])}" for label, one in case.labels.items()]
    figures = [f"Dice: {', '.join(values)}"] if values else []
    if case.objects is not None:
        objects = case.objects.values
        figures.append(f"F1: {_three(objects['object_f1'])}    DSB2018: {_three(objects['dsb2018'])}")
    return "    ".join(figures)


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def shown_pixels(image_cyx: np.ndarray) -> np.ndarray:
    """The image as it is shown, float32 in [0, 1]: (y, x, 3) for three channels that differ, else the first one (y, x).

    Grey is stretched between its 0.5th and 99.8th percentile. Colours keep their hue: all are multiplied by one number,
    so that the 99.8th percentile is white.
    """
    is_colour = len(image_cyx) == 3 and not (image_cyx == image_cyx[:1]).all()
    if not is_colour:
        low, high = np.percentile(image_cyx[0], [0.5, 99.8])
        return _stretched(image_cyx[0], float(low), float(high))
    return _stretched(image_cyx.transpose(1, 2, 0), min(0.0, float(image_cyx.min())), _white(image_cyx))


def _white(image_cyx: np.ndarray) -> float:
    return float(np.percentile(image_cyx, 99.8))


def _stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)


def flat_figure(
    cases: Sequence[tuple[str, FlatCase]], labels: Mapping[str, LabelValues], instances: bool = False
) -> Figure:
    """Panels side by side for each (heading, case); one alone is enlarged by a whole factor to its own pixels.

    With `instances` the label maps hold object numbers, and every object is outlined by what became of it.
    """
    from matplotlib.figure import Figure

    sizes = [_size(case, None if len(cases) == 1 else _ROW_HEIGHT) for _, case in cases]
    wide = sum(width for width, _ in sizes) + _GAP * (len(sizes) + 1)
    width, height = max(_LEAST_WIDTH, wide), _TITLE + max(high for _, high in sizes) + _LEGEND
    figure = Figure(
        figsize=(width / _DOTS_PER_INCH, height / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH, facecolor=_BACKGROUND
    )
    left = (width - wide) / 2 + _GAP
    drawn: list[_Layer] = []
    for (heading, case), (panel_width, panel_height) in zip(cases, sizes, strict=True):
        place = (left / width, 1 - (_TITLE + panel_height) / height, panel_width / width, panel_height / height)
        layers = _object_layers(case) if instances else _label_layers(case, labels)
        _draw_panel(figure.add_axes(place), case, layers, panel_width / case.reference.shape[1])
        _draw_title(figure, left / width, 1 - 14 / height, heading, case, instances)
        drawn += layers
        left += panel_width + _GAP
    _draw_legend(figure, drawn, any(case.ignored is not None for _, case in cases))
    return figure


def _size(case: FlatCase, row_height: int | None) -> tuple[int, int]:
    """Width and height of a panel in dots: a whole number of them for each pixel, or the height of a row."""
    rows, columns = case.reference.shape
    tall = rows * (case.spacing_mm[0] / case.spacing_mm[1] if case.spacing_mm else 1.0)
    longest = max(tall, columns)
    zoom = (
        min(max(1, round(_LONG_SIDE / longest)), _LARGEST_SIDE / longest) if row_height is None else row_height / tall
    )
    return round(columns * zoom), round(tall * zoom)


def _label_layers(case: FlatCase, labels: Mapping[str, LabelValues]) -> list[_Layer]:
    """Reference solid and prediction in another colour; of several labels each in its colour, the prediction dashed."""
    if len(labels) == 1:
        (values,) = labels.values()
        return [
            _Layer("reference", *_masked(case.reference, values), _SKY, 1.3),
            _Layer("prediction", *_masked(case.prediction, values), _ORANGE, 1.3),
        ]
    layers = []
    for index, (label, values) in enumerate(labels.items()):
        colour = _LABEL_COLOURS[index % len(_LABEL_COLOURS)]
        layers.append(_Layer(label, *_masked(case.reference, values), colour, 1.3))
        layers.append(_Layer(f"{label}, predicted", *_masked(case.prediction, values), colour, 1.3, _DASHED))
    return layers


def _masked(label: np.ndarray, values: LabelValues) -> tuple[np.ndarray, np.ndarray]:
    return np.isin(label, members_of(values)).astype(np.uint8), np.array([1])


def _object_layers(case: FlatCase) -> list[_Layer]:
    """Solid lines are the reference, dashed ones the prediction; colours are verdicts, and the found come first."""
    errors = object_errors(case.prediction, case.reference)
    expected = ((FOUND, _PALE, 0.7), (MISSED, _VERMILLION, 1.9), (MERGED, _PURPLE, 1.7), (SPLIT, _GREEN, 1.7))
    predicted = ((FALSE, _YELLOW, 1.7), (MERGED, _PURPLE, 1.3), (SPLIT, _GREEN, 1.3))
    layers = [_Layer("found: prediction", case.prediction, errors.prediction[FOUND], _SKY, 1.1)]
    for verdict, colour, width in expected:
        layers.append(_Layer(_TITLES[verdict], case.reference, errors.reference[verdict], colour, width))
    for verdict, colour, width in predicted:
        layers.append(_Layer(_TITLES[verdict], case.prediction, errors.prediction[verdict], colour, width, _DASHED))
    return layers


def _draw_panel(axes: Any, case: FlatCase, layers: Iterable[_Layer], dots_per_pixel: float) -> None:
    """The image and its outlines, thinner where a pixel is small: they would hide what they surround."""
    aspect = case.spacing_mm[0] / case.spacing_mm[1] if case.spacing_mm else 1.0
    axes.imshow(case.pixels, cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
    if case.ignored is not None:
        veil = np.zeros((*case.ignored.shape, 4))
        veil[case.ignored, 3] = VEIL
        axes.imshow(veil, aspect=aspect, interpolation="nearest")
    axes.set_axis_off()
    for layer in layers:
        _draw_outlines(axes, layer, min(1.0, 0.45 + dots_per_pixel / 6))
    if case.spacing_mm is not None:
        _draw_scale(axes, case.reference.shape, case.spacing_mm[1])


def _draw_outlines(axes: Any, layer: _Layer, thickness: float) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import withStroke

    lines = [line[:, ::-1] for line in outlines(layer.ids, layer.numbers)]
    width = thickness * layer.width
    halo = withStroke(linewidth=width + thickness * _HALO, foreground=_BACKGROUND, alpha=0.8)
    drawn = LineCollection(lines, linewidths=width, colors=layer.colour, linestyles=[layer.style])
    drawn.set_path_effects([halo])
    axes.add_collection(drawn, autolim=False)


def outlines(ids: np.ndarray, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """The closed lines (n, 2), as (y, x) in pixels, around each of the objects `numbers` in `ids` (y, x)."""
    from scipy.ndimage import find_objects
    from skimage.measure import find_contours

    known, places = np.unique(ids, return_inverse=True)
    boxes = find_objects(places.reshape(ids.shape) + 1)
    for number in numbers:
        place = int(np.searchsorted(known, number))
        if place == len(known) or known[place] != number or boxes[place] is None:
            continue
        box = boxes[place]
        for line in find_contours(np.pad(ids[box] == number, 1).astype(np.float32), 0.5):
            yield line - 1 + [side.start for side in box]


def _draw_scale(axes: Any, shape: Sequence[int], column_mm: float) -> None:
    """A bar of a round length, at most a quarter of the width."""
    widest = shape[1] * column_mm / 4
    exponent = np.floor(np.log10(widest))
    length_mm = float(max(step * 10**exponent for step in (1, 2, 5) if step * 10**exponent <= widest))
    row, start = 0.965 * shape[0] - 0.5, 0.03 * shape[1] - 0.5
    end = start + length_mm / column_mm
    axes.plot([start, end], [row, row], linewidth=2, solid_capstyle="butt", color=_TEXT, path_effects=_halo(2))
    text = f"{length_mm:g} mm" if length_mm >= 1 else f"{1000 * length_mm:g} µm"
    place = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
    axes.annotate(text, (end, row), color=_TEXT, fontsize=7, path_effects=_halo(0.6), **place)


def _halo(width: float) -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width + _HALO, foreground=_BACKGROUND)]


def _draw_title(figure: Figure, x: float, y: float, heading: str, case: FlatCase, instances: bool) -> None:
    lines = [f"{heading}    {case.figures}".rstrip()]
    if instances:
        counts = object_errors(case.prediction, case.reference).counts()
        of_reference = sum(counts.values()) - counts[FALSE]
        others = ", ".join(f"{counts[verdict]} {verdict}" for verdict in (MISSED, MERGED, SPLIT, FALSE))
        lines.append(f"{counts[FOUND]} of {of_reference} objects found; {others}")
    figure.text(x, y, "\n".join(lines), color=_TEXT, fontsize=9, va="top", linespacing=1.4)


def _draw_legend(figure: Figure, layers: Iterable[_Layer], with_ignored: bool) -> None:
    """One entry for each title: the first layer of that name, the reference's before the prediction's."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = {layer.title: layer for layer in reversed(list(layers))}

    handles: list[Any] = [
        Line2D([], [], color=layer.colour, linewidth=layer.width + 0.5, linestyle=layer.style, label=layer.title)
        for layer in reversed(entries.values())
    ]
    if any(layer.style is _DASHED for layer in entries.values()):
        handles.append(Line2D([], [], color=_TEXT, linestyle=_DASHED, label="dashed: prediction"))
    if with_ignored:
        handles.append(Patch(facecolor=_BACKGROUND, edgecolor=_TEXT, label=NOT_ANNOTATED))
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=len(handles),
        frameon=False,
        labelcolor=_TEXT,
        fontsize=7.5,
        handlelength=2.2,
        columnspacing=1.2,
    )
