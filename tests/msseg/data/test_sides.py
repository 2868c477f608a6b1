from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from msseg.data.dataset import read_dataset
from msseg.data.sides import declared_pairs, lateral_axes
from msseg.errors import DatasetError

LABELS = {"background": 0, "left kidney": 1, "right kidney": 2}


def write(path: Path, affine: np.ndarray, code: int = 1) -> Path:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), affine)
    image.set_sform(affine, code)
    image.set_qform(affine if code else None, code)
    nibabel.save(image, path)
    return path


def turned(degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:2, :2] = (cos, -sin), (sin, cos)
    return affine


def test_the_axis_from_side_to_side_is_that_of_the_headers(tmp_path):
    straight = write(tmp_path / "straight.nii.gz", np.diag([-1.0, 1, 2, 1]))
    sagittal = write(tmp_path / "sagittal.nii.gz", np.eye(4)[[2, 1, 0, 3]])
    assert lateral_axes([straight]) == (2,)
    assert lateral_axes([sagittal]) == (0,)
    assert lateral_axes([straight, sagittal]) == (0, 2)


@pytest.mark.parametrize(("degrees", "axes"), [(0, (2,)), (20, (2,)), (45, (1, 2)), (80, (1,))])
def test_an_oblique_image_has_the_axes_within_its_patients(degrees, axes, tmp_path):
    assert lateral_axes([write(tmp_path / "a.nii", turned(degrees))]) == axes


def test_one_image_that_does_not_tell_leaves_it_unknown(tmp_path):
    told, untold = write(tmp_path / "a.nii", np.eye(4)), write(tmp_path / "b.nii", np.eye(4), code=0)
    assert lateral_axes([told, untold]) == ()
    assert lateral_axes([told, tmp_path / "never_opened.png"]) == ()
    assert lateral_axes([]) == ()


def test_declared_pairs_are_of_the_labels():
    source = Path("dataset.json")
    assert declared_pairs(source, None, LABELS) is None
    assert declared_pairs(source, [], LABELS) == ()
    assert declared_pairs(source, [["left kidney", "right kidney"]], LABELS) == (("left kidney", "right kidney"),)


@pytest.mark.parametrize(
    "value",
    ["left", [["left kidney"]], [["left kidney", "spleen"]], [["background", "left kidney"]], [["left kidney"] * 2]],
)
def test_what_are_no_pairs_is_refused(value):
    with pytest.raises(DatasetError, match="label_pairs"):
        declared_pairs(Path("dataset.json"), value, LABELS)


def test_a_data_set_has_the_pairs_that_it_declares(tmp_path):
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
    write(tmp_path / "imagesTr" / "a_0000.nii.gz", np.eye(4))
    write(tmp_path / "labelsTr" / "a.nii.gz", np.eye(4))
    description = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 1, "file_ending": ".nii.gz"}
    for more, pairs in (
        ({}, None),
        ({"label_pairs": [["left kidney", "right kidney"]]}, (("left kidney", "right kidney"),)),
    ):
        (tmp_path / "dataset.json").write_text(json.dumps({**description, **more}))
        assert read_dataset(tmp_path).label_pairs == pairs
