"""The ignore label: found in dataset.json, -1 among the class indices, refused where it makes no sense."""

from __future__ import annotations

import json

import numpy as np
import pytest

from msseg.data.dataset import read_dataset
from msseg.data.ignored import without_ignored
from msseg.data.labels import LabelMap, UndeclaredValuesError
from msseg.errors import DatasetError


@pytest.fixture
def described(tmp_path):
    """A data set folder with two empty image files and a dataset.json of these labels and other entries."""

    def write(labels, **entries):
        for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"a{ending}").touch()
        description = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
        (tmp_path / "dataset.json").write_text(json.dumps({**description, **entries}))
        return tmp_path

    return write


@pytest.mark.parametrize("name", ["ignore", "Ignore", "IGNORE"])
def test_the_ignore_label_is_no_class(described, name):
    dataset = read_dataset(described({"background": 0, "front": 1, "back": 2, name: 5}))
    assert dataset.ignore == 5
    assert dataset.labels == {"background": 0, "front": 1, "back": 2}
    assert dataset.label_map == LabelMap((0, 1, 2), 5)


def test_the_ignore_label_may_stand_in_the_decathlons_direction(described):
    dataset = read_dataset(described({"0": "background", "1": "organ", "2": "ignore"}))
    assert (dataset.labels, dataset.ignore) == ({"background": 0, "organ": 1}, 2)


def test_a_data_set_without_it_ignores_nothing(described):
    dataset = read_dataset(described({"background": 0, "organ": 1}))
    assert dataset.ignore is None
    assert dataset.label_map == LabelMap((0, 1))


def test_the_ignore_label_stands_beside_regions(described):
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    dataset = read_dataset(described(labels, regions_class_order=[1, 2]))
    assert dataset.ignore == 3
    assert list(dataset.labels.values()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("labels", "entries", "message"),
    [
        ({"background": 0, "organ": 2, "ignore": 1}, {}, "ignore 1 beside the values .*expected the highest value"),
        ({"background": 0, "organ": 2, "ignore": 2}, {}, "expected the highest value"),
        ({"background": 0, "organ": 1, "ignore": 2, "Ignore": 3}, {}, "2 ignore labels.*at most one"),
        ({"0": "background", "1": "organ", "2": "ignore", "3": "ignore"}, {}, "2 ignore labels"),
        ({"background": 0, "organ": 1, "ignore": [2, 3]}, {}, r"ignore with value \[2, 3\].*an integer"),
        ({"background": 0, "organ": 1, "ignore": True}, {}, "an integer"),
        ({"background": 0, "ignore": 1}, {}, "background 0 and at least one other"),
        ({"background": 0, "cell": 1, "ignore": 2}, {"instances": True}, "the ignore label 2 with instances"),
    ],
)
def test_an_ignore_label_that_makes_no_sense_is_refused(described, labels, entries, message):
    with pytest.raises(DatasetError, match=message):
        read_dataset(described(labels, **entries))


def test_labels_that_are_no_object_are_handed_on(tmp_path):
    assert without_ignored(tmp_path / "dataset.json", ["organ"]) == (["organ"], None)


def test_ignored_voxels_have_the_index_minus_one():
    index = LabelMap((0, 1, 7), 9).to_index(np.array([[0, 9, 7], [1, 9, 0]], np.uint8))
    assert index.dtype == np.int8
    assert index.tolist() == [[0, -1, 2], [1, -1, 0]]


def test_indices_without_an_ignore_value_stay_unsigned():
    assert LabelMap((0, 1)).to_index(np.zeros((2, 2), np.uint8)).dtype == np.uint8


@pytest.mark.parametrize(("classes", "dtype"), [(127, np.int8), (128, np.int16), (300, np.int16)])
def test_indices_take_the_smallest_signed_type_that_fits(classes, dtype):
    index = LabelMap(tuple(range(classes)), 1000).to_index(np.array([0, classes - 1, 1000]))
    assert index.dtype == dtype
    assert index.tolist() == [0, classes - 1, -1]


def test_other_values_than_classes_and_ignore_are_named():
    with pytest.raises(UndeclaredValuesError, match=r"3 \(1 voxels\); expected 0, 1, 2"):
        LabelMap((0, 1), 2).to_index(np.array([0, 3, 2]))


@pytest.mark.parametrize("values", [(0, 1, 1), ()])
def test_no_value_stands_twice_in_a_map(values):
    with pytest.raises(DatasetError):
        LabelMap(values, 4)


def test_the_ignore_value_of_a_map_is_none_of_its_classes():
    with pytest.raises(DatasetError, match="none of them twice"):
        LabelMap((0, 1), 1)
