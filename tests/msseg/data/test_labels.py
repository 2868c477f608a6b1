from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from msseg.data.labels import LabelMap, UndeclaredValuesError
from msseg.errors import DatasetError


@pytest.mark.parametrize(
    ("values", "stored", "index"),
    [
        ((0, 1, 2), [0, 1, 2, 1], [0, 1, 2, 1]),
        ((0, 255), [0, 255, 255, 0], [0, 1, 1, 0]),
        ((0, 1, 7, 9), [9, 7, 1, 0], [3, 2, 1, 0]),
        ((0, 2, 1), [0, 1, 2, 2], [0, 2, 1, 1]),
        ((0, -1, 5_000_000), [5_000_000, -1, 0, 0], [2, 1, 0, 0]),
    ],
)
def test_values_become_class_indices_and_come_back(values, stored, index):
    label_map = LabelMap(values)
    label = np.array(stored, np.int32).reshape(1, 2, 2)
    result = label_map.to_index(label)
    assert result.dtype == np.uint8
    assert result.ravel().tolist() == index
    assert np.array_equal(label_map.to_values(result), label)


@pytest.mark.parametrize("dtype", ["uint8", "int8", ">i2", "uint16", "int64", "uint64"])
def test_every_stored_integer_type_is_taken(dtype):
    label = np.array([0, 7, 9, 7], dtype)
    assert LabelMap((0, 7, 9)).to_index(label).tolist() == [0, 1, 2, 1]


def test_values_come_back_in_the_smallest_type_that_holds_them_all():
    index = np.array([0, 1], np.uint8)
    assert LabelMap((0, 255)).to_values(index).dtype == np.uint8
    assert LabelMap((0, 256)).to_values(index).dtype == np.int16
    assert LabelMap((0, 40_000)).to_values(index).dtype == np.uint16
    assert LabelMap((0, -1)).to_values(index).dtype == np.int16


@pytest.mark.parametrize("values", [(0, 1), (0, 9), (0, 5_000_000)])
def test_undeclared_values_are_all_named_with_their_voxels(values):
    label = np.array([0, 3, 3, 300, -2], np.int32)
    with pytest.raises(UndeclaredValuesError, match="does not declare") as caught:
        LabelMap(values).to_index(label)
    assert caught.value.counts == {-2: 1, 3: 2, 300: 1}
    assert "3 (2 voxels)" in str(caught.value)


def test_more_than_255_classes_get_wider_indices():
    values = tuple(range(0, 600, 2))
    index = LabelMap(values).to_index(np.array([0, 598]))
    assert index.dtype == np.uint16
    assert index.tolist() == [0, 299]


def test_a_label_larger_than_one_block_is_mapped_to_its_end():
    label = np.zeros((3, 700, 700), np.uint8)
    label[-1, -1, -1] = 255
    index = LabelMap((0, 255)).to_index(label)
    assert index[-1, -1, -1] == 1
    assert index.sum() == 1


@pytest.mark.parametrize("values", [(0, 1), (0, 255)])
def test_no_wide_copy_of_a_large_label_is_made(values):
    label = np.zeros((256, 256, 256), np.uint8)  # 16 MB; its class indices another 16, and 64-bit ones would be 128
    tracemalloc.start()
    LabelMap(values).to_index(label)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 64 << 20


def test_transposed_arrays_keep_their_places():
    label = np.array([[0, 4], [9, 0]], np.uint8).T
    assert LabelMap((0, 4, 9)).to_index(label).tolist() == [[0, 2], [1, 0]]


def test_a_value_declared_twice_is_refused():
    with pytest.raises(DatasetError, match="none of them twice"):
        LabelMap((0, 1, 1))


def test_an_empty_array_gives_an_empty_array():
    assert LabelMap((0, 1)).to_index(np.zeros((0, 2, 2), np.uint8)).shape == (0, 2, 2)
