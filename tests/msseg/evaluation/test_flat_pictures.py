from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from PIL import Image

from msseg.data.synthetic_cells import synthetic_cells
from msseg.evaluation.case import EvaluationOptions
from msseg.evaluation.evaluate import evaluate_folder
from msseg.evaluation.flat_pictures import FlatCase, flat_figure, outlines, shown_pixels
from msseg.evaluation.pictures import draw_evaluation

LABELS = {"nucleus": 1}


def make_case(index: int = 2, spacing_mm: tuple[float, float] | None = None) -> FlatCase:
    cells = synthetic_cells(0, index)
    image = cells.image[None] if cells.image.ndim == 2 else cells.image.transpose(2, 0, 1)
    prediction = cells.instances.copy()
    prediction[prediction == 1] = 0  # missed
    prediction[prediction == 3] = 2  # merged, where the two touch, else found under another number
    return FlatCase(cells.kind, shown_pixels(image), cells.instances, prediction, spacing_mm)


def test_colours_keep_their_hue_and_grey_is_stretched():
    colour = np.array([[10.0, 100.0], [20.0, 200.0], [30.0, 50.0]]).reshape(3, 1, 2)
    shown = shown_pixels(colour)
    assert shown.shape == (1, 2, 3)
    assert shown[0, 0] / shown[0, 0].sum() == pytest.approx(np.array([10, 20, 30]) / 60)
    grey = shown_pixels(np.repeat(np.arange(100.0).reshape(1, 10, 10), 3, axis=0))
    assert grey.shape == (10, 10) and grey.min() == 0 and grey.max() == 1


def test_a_constant_image_can_be_shown():
    assert np.isfinite(shown_pixels(np.full((1, 4, 4), 7.0))).all()
    assert np.isfinite(shown_pixels(np.zeros((3, 4, 4)))).all()


def test_an_outline_runs_around_the_pixels_of_its_object():
    ids = np.zeros((6, 7), np.uint16)
    ids[2:4, 3:6] = 40000
    (line,) = outlines(ids, np.array([40000, 7]))
    assert line.min(axis=0) == pytest.approx([1.5, 2.5]) and line.max(axis=0) == pytest.approx([3.5, 5.5])


def test_every_object_is_outlined_once_on_each_side():
    case = make_case()
    figure = flat_figure([("a", case)], LABELS, instances=True)
    lines = sum(len(one.get_segments()) for one in figure.axes[0].collections if isinstance(one, LineCollection))
    expected = len(np.unique(case.reference)) + len(np.unique(case.prediction)) - 2
    assert lines >= expected  # an object in two pieces has two outlines


def test_the_title_counts_what_became_of_the_objects():
    reference, prediction = np.zeros((2, 20, 20), np.uint16)
    reference[2:6, 2:6], reference[2:6, 10:14], reference[10:14, 2:6] = 1, 2, 3
    prediction[2:6, 2:6], prediction[15:18, 15:18] = 9, 4
    case = FlatCase("a", np.zeros((20, 20), np.float32), reference, prediction, figures="F1: 0.400")
    (text,) = flat_figure([("worst: a", case)], LABELS, instances=True).texts
    assert text.get_text() == "worst: a    F1: 0.400\n1 of 3 objects found; 2 missed, 0 merged, 0 split, 1 false"


def test_a_panel_alone_shows_every_pixel_by_a_whole_number_of_dots():
    case = make_case()
    figure = flat_figure([("a", case)], LABELS)
    width, height = figure.axes[0].get_window_extent().size
    rows, columns = case.reference.shape
    assert width / columns == pytest.approx(height / rows)
    assert width / columns == pytest.approx(round(width / columns), abs=1e-6)


def test_pixels_that_are_not_square_keep_their_proportions():
    figure = flat_figure([("a", make_case(spacing_mm=(0.001, 0.0005)))], LABELS)
    assert figure.axes[0].get_aspect() == 2
    assert any("µm" in text.get_text() for text in figure.axes[0].texts)


@pytest.mark.parametrize("labels", [LABELS, {"nucleus": 1, "wall": 2}])
def test_label_maps_without_foreground_can_be_drawn(labels: dict[str, int]):
    empty = np.zeros((30, 40), np.uint8)
    assert len(flat_figure([("a", FlatCase("a", np.zeros((30, 40)), empty, empty))], labels).axes) == 1


@pytest.mark.parametrize("instances", [False, True])
def test_an_evaluation_of_images_is_drawn_to_files(tmp_path: Path, instances: bool):
    for index in range(2):
        cells = synthetic_cells(0, index)
        label = cells.instances if instances else (cells.instances > 0).astype(np.uint8)
        arrays = {"images": cells.image, "references": label, "predictions": np.roll(label, 5 * index, axis=0)}
        for part, array in arrays.items():
            (tmp_path / part).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / part / f"cells_{index}.png")
    options = EvaluationOptions(instances=instances)
    evaluation = evaluate_folder(tmp_path / "predictions", tmp_path / "references", LABELS, options)
    files = {part: {f"cells_{i}": tmp_path / part / f"cells_{i}.png" for i in range(2)} for part in arrays}
    images = {name: [path] for name, path in files["images"].items()}
    drawn = draw_evaluation(evaluation, images, files["predictions"], files["references"], tmp_path / "pictures")
    assert [path.name for path in drawn] == ["overview.png", "cells_1.png", "cells_0.png"]
    with Image.open(drawn[1]) as picture:
        assert picture.width >= 1050
