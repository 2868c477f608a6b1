"""Pictures of segmentations: three planes of a case (of an image, the whole), and worst, median and best together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msseg.data.geometry import Geometry
from msseg.data.image import read_geometry, read_image, read_label
from msseg.errors import DatasetError
from msseg.evaluation.case import CaseMetrics, LabelValues, members_of
from msseg.evaluation.evaluate import Evaluation
from msseg.evaluation.flat_pictures import (
    NOT_ANNOTATED,
    VEIL,
    figures_of,
    flat_figure,
    parted_reference,
    read_flat_case,
)
from msseg.evaluation.surface import bounding_box
from msseg.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

# Told apart on grey and by colour-blind eyes; a ninth label starts again from the first.
COLOURS = ("#35c3f3", "#ffa01e", "#8ee04e", "#ff5fa2", "#f5e663", "#b18cff", "#4ee6b8", "#ff6b4a")
_BACKGROUND, _TEXT = "#101216", "#f2f2f2"
_MARGIN_MM = 12.0
_MARGIN_SHARE = 0.3
_PANEL_HEIGHT_INCHES = 2.8
_TITLE_INCHES, _LEGEND_INCHES = 0.34, 0.4
_DOTS_PER_INCH = 150
_PLANES = ("axial", "coronal", "sagittal")
# Of a case by its name: the files of the image's channels, the reference, the prediction.
_Files = Mapping[str, tuple[Sequence[Path], Path, Path]]


@dataclass(frozen=True)
class PictureCase:
    """What a picture of a case needs: arrays (z, y, x) turned to the patient's axes, and the Dice of each label.

    `prediction` None draws the reference alone. `ignored` is True where nobody annotated, which is drawn darker.
    """

    name: str
    image: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray | None
    spacing_mm: tuple[float, float, float]
    dice: Mapping[str, float | None]
    ignored: np.ndarray | None = None


@dataclass(frozen=True)
class _View:
    """One slice as it is drawn: rows downwards, columns to the right, steps in mm."""

    plane: str
    image: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray | None
    row_mm: float
    column_mm: float
    ignored: np.ndarray | None = None

    @property
    def width_mm(self) -> float:
        return self.image.shape[1] * self.column_mm

    @property
    def width_per_height(self) -> float:
        return self.width_mm / (self.image.shape[0] * self.row_mm)


def draw_evaluation(
    evaluation: Evaluation,
    images: Mapping[str, Sequence[Path]],
    predictions: Mapping[str, Path],
    references: Mapping[str, Path],
    folder: Path,
) -> list[Path]:
    """The PNG files written to `folder`: `overview.png` of the worst, median and best case, and each of them alone.

    The mappings give the files by case name, for an image those of its channels (the first is drawn). No evaluated
    case: no picture. Raises DatasetError where a case to draw has no image.
    """
    ranked = worst_median_best(evaluation)
    missing = sorted({*ranked.values()} - {*images})
    if missing:
        wanted = "one a case, or one a channel. Name their folder with --images."
        raise DatasetError(f"pictures: no image of {', '.join(missing)}; expected {wanted}")
    files = {name: (images[name], references[name], predictions[name]) for name in dict.fromkeys(ranked.values())}
    are_flat = all(read_geometry(image_paths[0]).shape[0] == 1 for image_paths, *_ in files.values())
    paths = []
    for stem, figure in (_flat_figures if are_flat else _plane_figures)(evaluation, ranked, files):
        paths.append(Path(folder) / f"{stem}.png")
        save_figure(figure, paths[-1])
    return paths


def _plane_figures(evaluation: Evaluation, ranked: Mapping[str, str], files: _Files) -> Iterator[tuple[str, Figure]]:
    """The overview and each case of volumes, with the stem of its file's name."""
    dice = {case.name: {k: v.values["dice"] for k, v in case.labels.items()} for case in evaluation.cases}
    ignore = evaluation.options.ignore
    cases = {name: read_picture_case(name, *paths, dice[name], ignore) for name, paths in files.items()}
    if cases:
        rows = [(heading, cases[name]) for heading, name in ranked.items()]
        yield "overview", montage_figure(rows, evaluation.labels)
    for name, case in cases.items():
        yield name, case_figure(case, evaluation.labels)


def _flat_figures(evaluation: Evaluation, ranked: Mapping[str, str], files: _Files) -> Iterator[tuple[str, Figure]]:
    """The overview and each case of images of one slice, with the stem of its file's name."""
    figures, are_objects = {case.name: figures_of(case) for case in evaluation.cases}, evaluation.objects is not None
    told = {name: (figures[name], are_objects, evaluation.options.ignore) for name in files}
    cases = {name: read_flat_case(name, *paths, *told[name]) for name, paths in files.items()}
    if cases:
        panels = [(f"{heading}: {name}", cases[name]) for heading, name in ranked.items()]
        yield "overview", flat_figure(panels, evaluation.labels, are_objects)
    for name, case in cases.items():
        yield name, flat_figure([(name, case)], evaluation.labels, are_objects)


def worst_median_best(evaluation: Evaluation) -> dict[str, str]:
    """Case names under "worst", "median" and "best" by mean Dice, by the objects' F1 where objects were measured.

    Fewer headings where there are fewer cases.
    """
    scores = [(_score(case), case.name) for case in evaluation.cases]
    names = [name for _, name in sorted((score, name) for score, name in scores if score is not None)]
    if len(names) < 3:
        return dict(zip(("worst", "best"), names, strict=False))
    return {"worst": names[0], "median": names[len(names) // 2], "best": names[-1]}


def _score(case: CaseMetrics) -> float | None:
    if case.objects is not None:
        return case.objects.values["object_f1"]
    defined = [one.values["dice"] for one in case.labels.values() if one.values["dice"] is not None]
    return sum(defined) / len(defined) if defined else None


def read_picture_case(
    name: str,
    image_paths: Sequence[Path],
    reference_path: Path,
    prediction_path: Path | None = None,
    dice: Mapping[str, float | None] | None = None,
    ignore: int | None = None,
) -> PictureCase:
    """The files of one case, turned so that the arrays' axes run to the head, the back and the left.

    Where the reference has the value `ignore`, nobody annotated.
    """
    image, geometry = read_image(image_paths)
    reference, ignored = parted_reference(read_label(reference_path)[0], ignore)
    prediction = None if prediction_path is None else read_label(prediction_path)[0]
    arrays = {"image": image[0], "reference": reference, "prediction": prediction, "ignored": ignored}
    there = {key: array for key, array in arrays.items() if array is not None}
    turned, spacing_mm = to_patient_axes(list(there.values()), geometry)
    parts = dict.fromkeys(arrays) | dict(zip(there, turned, strict=True))
    return PictureCase(name, spacing_mm=spacing_mm, dice=dice or {}, **parts)


def to_patient_axes(
    arrays: Sequence[np.ndarray], geometry: Geometry
) -> tuple[list[np.ndarray], tuple[float, float, float]]:
    """Views of the arrays whose axes run (nearly) to the head, the back and the left, and the spacing along them.

    Axes are only swapped and flipped; a grid so oblique that no such order is clear stays as it is.
    """
    along = np.asarray(geometry.direction)[:, ::-1]  # rows: array axes; columns: head, back, left
    source = np.abs(along).argmax(axis=0)
    if sorted(source) != [0, 1, 2]:
        return list(arrays), geometry.spacing_mm
    steps = [slice(None, None, 1 if along[axis, target] > 0 else -1) for target, axis in enumerate(source)]
    turned = [array.transpose(source)[tuple(steps)] for array in arrays]
    first, second, third = (geometry.spacing_mm[axis] for axis in source)
    return turned, (first, second, third)


def case_figure(case: PictureCase, labels: Mapping[str, LabelValues]) -> Figure:
    """Three planes of one case through its foreground, with both outlines of each label."""
    return _figure([(case.name, case)], labels)


def montage_figure(cases: Sequence[tuple[str, PictureCase]], labels: Mapping[str, LabelValues]) -> Figure:
    """A row of three planes for each (heading, case)."""
    return _figure([(f"{heading}: {case.name}", case) for heading, case in cases], labels)


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, atomically."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH, facecolor=figure.get_facecolor())


def _figure(cases: Sequence[tuple[str, PictureCase]], labels: Mapping[str, LabelValues]) -> Figure:
    from matplotlib.figure import Figure

    views = [_views(case, labels) for _, case in cases]
    proportions = [sum(view.width_per_height for view in row) for row in views]
    width = max(7.0, _PANEL_HEIGHT_INCHES * max(proportions))
    heights = [_TITLE_INCHES + min(width / share, _PANEL_HEIGHT_INCHES) for share in proportions]
    figure = Figure(figsize=(width, sum(heights) + _LEGEND_INCHES), facecolor=_BACKGROUND)
    strips = figure.subfigures(len(cases) + 1, 1, height_ratios=[*heights, _LEGEND_INCHES], squeeze=False)[:, 0]
    for strip, (title, case), row in zip(strips, cases, views, strict=False):
        _draw_strip(strip, title, case, row, labels)
    with_prediction, with_ignored = (
        any(getattr(case, part) is not None for _, case in cases) for part in ("prediction", "ignored")
    )
    _draw_legend(strips[-1], labels, with_prediction, with_ignored)
    return figure


def _draw_strip(
    strip: SubFigure, title: str, case: PictureCase, views: Sequence[_View], labels: Mapping[str, LabelValues]
) -> None:
    strip.set_facecolor("none")
    strip.suptitle(_title(title, case.dice), color=_TEXT, fontsize=10, x=0.01, ha="left")
    widths = [view.width_per_height for view in views]
    panels = strip.subplots(1, len(views), squeeze=False, width_ratios=widths)[0]
    filled = min(1.0, sum(widths) * _PANEL_HEIGHT_INCHES * strip.dpi / strip.bbox.width)
    strip.subplots_adjust(left=0.008, right=0.008 + 0.984 * filled, bottom=0.015, top=0.895, wspace=0.02)
    for axes, view in zip(panels, views, strict=True):
        _draw_view(axes, view, _grey_window(case), labels)


def _draw_view(axes: Any, view: _View, grey_window: tuple[float, float], labels: Mapping[str, LabelValues]) -> None:
    low, high = grey_window
    step = view.row_mm / view.column_mm
    axes.imshow(view.image, cmap="gray", vmin=low, vmax=high, aspect=step, interpolation="bilinear")
    axes.set_axis_off()
    if view.ignored is not None:
        _fill(axes, view.ignored, _BACKGROUND, VEIL)
    for colour, values in zip(_colours(labels), labels.values(), strict=True):
        members = members_of(values)
        if view.prediction is not None:
            _fill(axes, np.isin(view.prediction, members), colour)
        _outline(axes, np.isin(view.reference, members), colour)
    axes.text(0.02, 0.97, view.plane, transform=axes.transAxes, va="top", **_caption())
    _draw_scale(axes, view)


def _caption() -> dict[str, Any]:
    """The style of small text that stays legible on any grey."""
    from matplotlib.patheffects import withStroke

    return {"color": _TEXT, "fontsize": 7, "path_effects": [withStroke(linewidth=1.8, foreground=_BACKGROUND)]}


def _outline(axes: Any, mask: np.ndarray, colour: str) -> None:
    if mask.any():
        rows, columns = (np.arange(-1, length + 1) for length in mask.shape)
        axes.contour(columns, rows, np.pad(mask, 1), levels=[0.5], colors=[colour], linewidths=1.1)


def _fill(axes: Any, mask: np.ndarray, colour: str, alpha: float = 0.33) -> None:
    if mask.any():
        rows, columns = (np.arange(-1, length + 1) for length in mask.shape)
        axes.contourf(columns, rows, np.pad(mask, 1), levels=[0.5, 1.5], colors=[colour], alpha=alpha)


def _draw_scale(axes: Any, view: _View) -> None:
    """A bar of a round length, at most a third of the width."""
    length_mm = next((step for step in (100, 50, 20, 10, 5, 2) if step < view.width_mm / 3), 1)
    row, start = 0.96 * view.image.shape[0] - 0.5, 0.03 * view.image.shape[1] - 0.5
    end = start + length_mm / view.column_mm
    axes.plot([start, end], [row, row], linewidth=1.5, solid_capstyle="butt", color=_TEXT)
    place = {"xytext": (3, 0), "textcoords": "offset points", "va": "center"}
    axes.annotate(f"{length_mm} mm", (end, row), **place, **_caption())


def _draw_legend(
    strip: SubFigure, labels: Mapping[str, LabelValues], with_prediction: bool, with_ignored: bool
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    strip.set_facecolor("none")
    handles: list[Any] = [
        Patch(color=colour, label=name) for colour, name in zip(_colours(labels), labels, strict=True)
    ]
    handles.append(Line2D([], [], color=_TEXT, linewidth=1.1, label="line: reference"))
    if with_prediction:
        handles.append(Patch(facecolor=_TEXT, alpha=0.33, label="filled: prediction"))
    if with_ignored:
        handles.append(Patch(facecolor=_BACKGROUND, edgecolor=_TEXT, label=NOT_ANNOTATED))
    strip.legend(handles=handles, loc="center", ncols=len(handles), frameon=False, labelcolor=_TEXT, fontsize=8)


def _title(title: str, dice: Mapping[str, float | None]) -> str:
    figures = [f"{label} –" if value is None else f"{label} {value:.3f}" for label, value in dice.items()]
    return f"{title}    Dice: {', '.join(figures)}" if figures else title


def _colours(labels: Mapping[str, LabelValues]) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(len(labels))]


def _views(case: PictureCase, labels: Mapping[str, LabelValues]) -> list[_View]:
    """The planes of a case that are more than a line: cropped around the foreground, the head and the front up."""
    foreground = case.reference != 0
    if case.prediction is not None:
        foreground = foreground | (case.prediction != 0)
    box = _with_margin(bounding_box(foreground), case.image.shape, case.spacing_mm)
    shown = case.reference if case.reference.any() or case.prediction is None else case.prediction
    views = []
    for axis, plane in enumerate(_PLANES):
        rows, columns = (other for other in range(3) if other != axis)
        if min(case.image.shape[rows], case.image.shape[columns]) < 2:
            continue
        index = _telling_slice(shown, axis, labels)
        place = tuple(index if other == axis else box[other] for other in range(3))
        upright = slice(None, None, 1 if plane == "axial" else -1)
        views.append(
            _View(
                plane,
                case.image[place][upright],
                case.reference[place][upright],
                None if case.prediction is None else case.prediction[place][upright],
                case.spacing_mm[rows],
                case.spacing_mm[columns],
                None if case.ignored is None else case.ignored[place][upright],
            )
        )
    return views


def _with_margin(box: tuple[slice, ...], shape: Sequence[int], spacing_mm: Sequence[float]) -> tuple[slice, ...]:
    """The box and its surroundings, within the image; the whole image where the box is empty."""
    if any(side.start == side.stop for side in box):
        return tuple(slice(0, length) for length in shape)
    widened = []
    for side, length, step_mm in zip(box, shape, spacing_mm, strict=True):
        margin = int(np.ceil(max(_MARGIN_MM / step_mm, _MARGIN_SHARE * (side.stop - side.start))))
        widened.append(slice(max(0, side.start - margin), min(length, side.stop + margin)))
    return tuple(widened)


def _telling_slice(label: np.ndarray, axis: int, labels: Mapping[str, LabelValues]) -> int:
    """The slice that shows most of every label: areas are summed in shares of each label's largest."""
    others = tuple(other for other in range(label.ndim) if other != axis)
    shares = np.zeros(label.shape[axis])
    for values in labels.values():
        areas = np.isin(label, members_of(values)).sum(axis=others)
        shares += areas / max(1, areas.max())
    return int(shares.argmax()) if shares.any() else label.shape[axis] // 2


def _grey_window(case: PictureCase) -> tuple[float, float]:
    """Black and white of the picture: the 2nd and 99.5th percentile in the box of the foreground."""
    box = bounding_box(case.reference != 0)
    values = case.image[box]
    low, high = np.percentile(values if values.size else case.image, [2, 99.5])
    return float(low), float(max(high, low + 1e-6))
