from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from msseg.data.checks import check_case
from msseg.data.dataset import Case
from msseg.data.image import read_label
from msseg.data.labels import LabelMap
from msseg.data.mask_folders import mask_files, merge_masks
from msseg.errors import DatasetError
from msseg.instances.coding import InstanceCoding
from msseg.preprocessing.examine import case_paths

ROWS = {"b": [0, 255, 255, 0], "a": [255, 255, 0, 0], "c": [0, 0, 0, 9]}


@pytest.fixture
def masks(tmp_path):
    def write(rows=None, ending=".png"):
        folder = tmp_path / "masks"
        folder.mkdir(exist_ok=True)
        for name, row in (rows or ROWS).items():
            Image.fromarray(np.array([row], np.uint8)).save(folder / f"{name}{ending}")
        return folder

    return write


def test_masks_are_numbered_by_name_and_the_first_keeps_what_overlaps(masks):
    merged = merge_masks(masks())
    assert merged.label.tolist() == [[[1, 1, 2, 3]]]
    assert merged.label.dtype == np.uint8
    assert (merged.overlap_pixels, merged.empty) == (1, ())
    assert merged.geometry.shape == (1, 1, 4)


def test_masks_without_a_pixel_of_their_own_leave_no_gap_in_the_numbers(masks):
    folder = masks({"a": [1, 1, 0, 0], "b": [0, 0, 0, 0], "c": [1, 0, 0, 0], "d": [0, 0, 0, 1]})
    merged = merge_masks(folder)
    assert merged.label.tolist() == [[[1, 1, 0, 2]]]
    assert [path.name for path in merged.empty] == ["b.png", "c.png"]


def test_a_label_may_be_such_a_folder(masks):
    label, geometry = read_label(masks())
    assert label.tolist() == [[[1, 1, 2, 3]]]
    assert not geometry.has_spacing


def test_more_than_255_objects_get_a_wider_type(masks):
    rows = {f"m{number:03d}": np.eye(1, 300, number, np.uint8)[0] for number in range(300)}
    label, _ = read_label(masks(rows))
    assert label.ravel().tolist() == list(range(1, 301))


def test_a_folder_without_masks_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(DatasetError, match=r"without masks.*one mask of nothing but 0"):
        merge_masks(tmp_path)


@pytest.mark.parametrize(
    ("image", "folder"),
    [
        ("ID/images/ID.png", "ID/masks"),
        ("cells/images/b.tif", "cells/masks/b"),
        ("cells/images/b.jpg", "cells/instances/b"),
        ("imagesTr/b_0000.png", "labelsTr/b"),
    ],
)
def test_an_empty_folder_is_an_image_without_objects(tmp_path, image, folder):
    (tmp_path / image).parent.mkdir(parents=True)
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / ".keep").touch()
    Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)).save(tmp_path / image)
    label, geometry = read_label(tmp_path / folder)
    assert label.shape == geometry.shape == (1, 2, 3) and not label.any()
    checked = check_case(Case("b", (tmp_path / image,), tmp_path / folder), 1, InstanceCoding(1))
    assert [(problem.severity, problem.found) for problem in checked.report.problems] == [
        ("note", "an empty folder of masks")
    ]
    (tmp_path / folder / "outlines.json").touch()
    with pytest.raises(DatasetError, match="without masks"):
        read_label(tmp_path / folder)


def test_a_missing_folder_of_masks_is_an_error(tmp_path):
    Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)).save(tmp_path / "image.png")
    checked = check_case(Case("b", (tmp_path / "image.png",), tmp_path / "masks"), 1, InstanceCoding(1))
    assert [(problem.severity, problem.found) for problem in checked.report.problems] == [
        ("error", "no such folder of masks")
    ]


def test_a_mask_of_another_size_is_named(masks):
    folder = masks()
    Image.fromarray(np.zeros((2, 4), np.uint8)).save(folder / "d.png")
    with pytest.raises(DatasetError, match=r"d\.png: shape 4 x 2 pixels \(x, y\); expected 4 x 1 as in a\.png"):
        merge_masks(folder)


def test_one_name_with_two_endings_is_refused(masks):
    masks({"a": ROWS["a"]}, ".tif")
    with pytest.raises(DatasetError, match=r"a\.tif: the name of a\.png again"):
        merge_masks(masks())


def test_the_check_notes_what_it_met_in_the_folder(masks, tmp_path):
    Image.fromarray(np.array([[1, 2, 3, 4]], np.uint8)).save(tmp_path / "image.png")
    folder = masks({**ROWS, "d": [0, 0, 0, 0]})
    checked = check_case(Case("x", (tmp_path / "image.png",), folder), 1, InstanceCoding(1))
    assert [(problem.severity, problem.found) for problem in checked.report.problems] == [
        ("note", "masks that overlap in 1 pixels"),
        ("note", "1 masks without a pixel of their own, the first d.png"),
    ]
    assert (checked.label > 0).all()


def test_numbers_may_be_mapped_as_any_label(masks, tmp_path):
    Image.fromarray(np.array([[1, 2, 3, 4]], np.uint8)).save(tmp_path / "image.png")
    checked = check_case(Case("x", (tmp_path / "image.png",), masks()), 1, LabelMap((0, 1, 2, 3)))
    assert checked.label.tolist() == [[[1, 1, 2, 3]]]


def test_the_content_of_a_case_is_that_of_all_its_masks(masks, tmp_path):
    folder = masks()
    (folder / "notes.txt").touch()
    assert [path.name for path in mask_files(folder)] == ["a.png", "b.png", "c.png"]
    case = Case("x", (tmp_path / "image.png",), folder)
    assert [path.name for path in case_paths(case)] == ["image.png", "a.png", "b.png", "c.png"]
