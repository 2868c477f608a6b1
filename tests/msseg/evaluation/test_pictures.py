from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.data.synthetic import synthetic_case
from msseg.evaluation.evaluate import evaluate_folder, gather, measure_case
from msseg.evaluation.pictures import (
    PictureCase,
    case_figure,
    draw_evaluation,
    to_patient_axes,
    worst_median_best,
)

LABELS = {"kidney": 1, "tumour": 2}
PNG = b"\x89PNG\r\n\x1a\n"


def test_arrays_are_turned_to_head_back_and_left():
    array = np.arange(24).reshape(2, 3, 4)
    # Array axes run: first to the right, second to the head, third to the front.
    geometry = Geometry((2, 3, 4), (1.0, 2.0, 3.0), direction=((-1, 0, 0), (0, 0, 1), (0, -1, 0)))
    (turned,), spacing_mm = to_patient_axes([array], geometry)
    assert spacing_mm == (2.0, 3.0, 1.0)
    assert np.array_equal(turned, array.transpose(1, 2, 0)[:, ::-1, ::-1])


def test_upright_arrays_stay_as_they_are():
    array = np.arange(24).reshape(2, 3, 4)
    (turned,), spacing_mm = to_patient_axes([array], Geometry((2, 3, 4), (3.0, 2.0, 1.0)))
    assert np.array_equal(turned, array) and spacing_mm == (3.0, 2.0, 1.0)


def test_worst_median_and_best_go_by_mean_dice():
    reference = np.zeros((1, 4, 10), dtype=np.uint8)
    reference[..., :8] = 1
    cases = []
    for name, width in {"all": 8, "most": 6, "half": 4, "none": 0, "some": 2}.items():
        prediction = reference.copy()
        prediction[..., width:] = 0
        cases.append(measure_case(name, prediction, reference, (1, 1, 1), {"kidney": 1}))
    assert worst_median_best(gather(cases, {"kidney": 1})) == {"worst": "none", "median": "half", "best": "all"}
    assert worst_median_best(gather(cases[:2], {"kidney": 1})) == {"worst": "most", "best": "all"}
    assert worst_median_best(gather([], {"kidney": 1})) == {}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for index in range(2):
        case = synthetic_case(3, index)
        write_image(tmp_path / "images" / f"case_{index}.nii.gz", case.image, case.geometry)
        write_label(tmp_path / "references" / f"case_{index}.nii.gz", case.label, case.geometry)
        moved = np.roll(case.label, 1, axis=2)
        write_label(tmp_path / "predictions" / f"case_{index}.nii.gz", moved, case.geometry)
    return tmp_path


def test_an_evaluation_is_drawn_to_files(files: Path):
    evaluation = evaluate_folder(files / "predictions", files / "references", LABELS)
    paths = {
        part: {f"case_{i}": files / part / f"case_{i}.nii.gz" for i in range(2)}
        for part in ("predictions", "references")
    }
    images = {name: [files / "images" / path.name] for name, path in paths["references"].items()}
    drawn = draw_evaluation(evaluation, images, paths["predictions"], paths["references"], files / "pictures")
    assert sorted(path.name for path in drawn) == ["case_0.png", "case_1.png", "overview.png"]
    assert all(path.read_bytes().startswith(PNG) for path in drawn)


def test_panels_have_the_proportions_of_the_body():
    case = synthetic_case(3, 0)
    picture = PictureCase("a", case.image[0], case.label, case.label, case.geometry.spacing_mm, {"kidney": 1.0})
    figure = case_figure(picture, LABELS)
    aspects = [axes.get_aspect() for axes in figure.axes]
    slice_mm, row_mm, column_mm = case.geometry.spacing_mm
    assert aspects == pytest.approx([row_mm / column_mm, slice_mm / column_mm, slice_mm / row_mm])


@pytest.mark.parametrize("shape", [(1, 30, 40), (9, 30, 40)])
def test_images_without_foreground_and_flat_ones_can_be_drawn(shape: tuple[int, int, int]):
    empty = np.zeros(shape, dtype=np.uint8)
    figure = case_figure(PictureCase("a", np.zeros(shape), empty, None, (1.0, 1.0, 1.0), {}), LABELS)
    assert len(figure.axes) == (1 if shape[0] == 1 else 3)
