from __future__ import annotations

import numpy as np
import pytest

from msseg.preprocessing import locations
from msseg.preprocessing.locations import class_voxels, sample_locations


def test_every_voxel_of_a_small_class_is_listed_once_and_in_order() -> None:
    label = np.array([[[0, 2], [1, 2]]], np.uint8)
    found = sample_locations(label)
    assert sorted(found) == [1, 2]
    np.testing.assert_array_equal(found[1], [[0, 1, 0]])
    np.testing.assert_array_equal(found[2], [[0, 0, 1], [0, 1, 1]])


def test_a_large_class_gives_ten_thousand_or_one_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.ones((30, 30, 30), np.uint8)
    assert len(np.unique(sample_locations(label)[1], axis=0)) == 10_000
    monkeypatch.setattr(locations, "_MOST_VOXELS", 10)
    assert len(sample_locations(label)[1]) == 270


def test_slabs_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.random.default_rng(0).integers(0, 4, (20, 10, 10)).astype(np.uint8)
    monkeypatch.setattr(locations, "_MOST_VOXELS", 50)
    whole = sample_locations(label)
    monkeypatch.setattr(locations, "_SLAB_VOXELS", 350)
    for index, voxels in sample_locations(label).items():
        np.testing.assert_array_equal(voxels, whole[index])
        assert (label[tuple(voxels.T)] == index).all()


def test_no_foreground_gives_no_locations() -> None:
    assert sample_locations(np.zeros((2, 2, 2), np.uint8)) == {}


def test_slabs_without_foreground_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "_SLAB_VOXELS", 4)
    label = np.zeros((3, 2, 2), np.uint8)
    label[1, 0, 1] = 3
    np.testing.assert_array_equal(sample_locations(label)[3], [[1, 0, 1]])


def test_ignored_voxels_are_not_counted() -> None:
    np.testing.assert_array_equal(class_voxels(np.array([[[-1, 0, 2, 2]]], np.int8)), [1, 0, 2])
