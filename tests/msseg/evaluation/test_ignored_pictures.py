"""Pictures of cases of which a part is not annotated: that part is darkened, and no label of the reference."""

from __future__ import annotations

import json

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.data.synthetic import synthetic_case
from msseg.evaluation.evaluate import evaluate_folder
from msseg.evaluation.flat_pictures import NOT_ANNOTATED, parted_reference
from msseg.evaluation.pictures import draw_evaluation, read_picture_case

IGNORE = 3


def written(folder, image, label, prediction, geometry, ending=".nii.gz"):
    """The files of case a, with the description that names the ignore value."""
    paths = [folder / part / f"a{ending}" for part in ("images", "references", "predictions")]
    write_image(paths[0], image, geometry)
    for path, one in zip(paths[1:], (label, prediction), strict=True):
        write_label(path, one, geometry)
    labels = {"background": 0, "kidney": 1, "tumour": 2, "ignore": IGNORE}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return paths


@pytest.fixture
def legends(monkeypatch):
    """The entries of every legend that is drawn."""
    from matplotlib.figure import Figure, SubFigure

    drawn = []
    for kind in (Figure, SubFigure):
        draw = kind.legend

        def legend(self, *arguments, draw=draw, **options):
            drawn.append([handle.get_label() for handle in options["handles"]])
            return draw(self, *arguments, **options)

        monkeypatch.setattr(kind, "legend", legend)
    return drawn


def drawn(folder, paths):
    image, reference, prediction = paths
    evaluation = evaluate_folder(folder / "predictions", folder / "references")
    name = evaluation.cases[0].name
    return draw_evaluation(evaluation, {name: [image]}, {name: prediction}, {name: reference}, folder / "pictures")


def test_volumes_show_what_is_not_annotated(tmp_path, legends):
    case = synthetic_case(3, 0)
    label = case.label.copy()
    label[::2] = IGNORE
    paths = written(tmp_path, case.image, label, case.label, case.geometry)
    assert [path.name for path in drawn(tmp_path, paths)] == ["overview.png", "a.png"]
    assert legends
    assert all(NOT_ANNOTATED in entries for entries in legends)


def test_images_show_what_is_not_annotated(tmp_path, legends):
    rng = np.random.default_rng(0)
    label = np.zeros((1, 20, 24), np.uint8)
    label[0, 5:12, 5:12], label[0, :, 15:] = 1, IGNORE
    paths = written(
        tmp_path, rng.random((1, 1, 20, 24), np.float32), label, label % 2, Geometry(label.shape, (1.0,) * 3)
    )
    assert [path.name for path in drawn(tmp_path, paths)] == ["overview.png", "a.png"]
    assert all(NOT_ANNOTATED in entries for entries in legends)


def test_pictures_of_whole_references_say_nothing_of_it(tmp_path, legends):
    case = synthetic_case(3, 0)
    drawn(tmp_path, written(tmp_path, case.image, case.label, case.label, case.geometry))
    assert not any(NOT_ANNOTATED in entries for entries in legends)


def test_the_reference_is_parted_and_turned_with_the_rest(tmp_path):
    label = np.array([[[0, 1, 3], [3, 2, 0]]], np.uint8)
    reference, ignored = parted_reference(label, IGNORE)
    assert reference.tolist() == [[[0, 1, 0], [0, 2, 0]]]
    assert ignored.tolist() == [[[False, False, True], [True, False, False]]]
    geometry = Geometry((1, 2, 3), (1.0, 1.0, 1.0), direction=((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
    paths = written(tmp_path, np.zeros((1, 1, 2, 3), np.float32), label, label, geometry)
    whole, parted = (read_picture_case("a", [paths[0]], paths[1], paths[2], ignore=one) for one in (None, IGNORE))
    assert not np.array_equal(whole.reference, label)
    assert np.array_equal(parted.ignored, whole.reference == IGNORE)
    assert np.array_equal(parted.reference, np.where(parted.ignored, 0, whole.reference))


@pytest.mark.parametrize("ignore", [None, 7])
def test_a_reference_without_the_value_is_handed_on(ignore):
    label = np.array([[[0, 1]]], np.uint8)
    assert parted_reference(label, ignore) == (label, None)
