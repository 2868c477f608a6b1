from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from msseg.postprocessing.components import foreground_box, keep_largest

LABEL = np.array(
    [
        [1, 1, 0, 2, 0, 1],
        [1, 0, 0, 2, 0, 0],
        [0, 0, 0, 2, 2, 0],
        [2, 0, 0, 0, 0, 0],
    ],
    np.uint8,
)[None]


def test_each_class_keeps_its_own_largest_component():
    expected = [[1, 1, 0, 2, 0, 0], [1, 0, 0, 2, 0, 0], [0, 0, 0, 2, 2, 0], [0, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(keep_largest(LABEL, (1, 2))[0], expected)


def test_other_classes_are_left_alone():
    expected = [[1, 1, 0, 2, 0, 0], [1, 0, 0, 2, 0, 0], [0, 0, 0, 2, 2, 0], [2, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(keep_largest(LABEL, (1,))[0], expected)


def test_classes_taken_together_are_one_object_where_they_touch():
    label = np.array([[1, 2, 0, 1, 1, 0, 2, 2, 1]], np.uint8)[None]
    np.testing.assert_array_equal(keep_largest(label, (1, 2), together=True)[0, 0], [0, 0, 0, 0, 0, 0, 2, 2, 1])


def test_voxels_that_share_a_corner_belong_together():
    label = np.zeros((3, 3, 4), np.uint8)
    label[0, 0, 0] = label[1, 1, 1] = label[2, 2, 2] = 1
    label[0, 2, 3] = 1
    kept = keep_largest(label, (1,))
    assert kept.sum() == 3 and kept[0, 2, 3] == 0


def test_of_equally_large_components_the_first_stays():
    label = np.array([[0, 1, 0, 1, 0]], np.uint8)[None]
    np.testing.assert_array_equal(keep_largest(label, (1,))[0, 0], [0, 1, 0, 0, 0])


def test_an_empty_map_or_a_missing_class_changes_nothing():
    empty = np.zeros((2, 3, 4), np.uint8)
    np.testing.assert_array_equal(keep_largest(empty, (1,)), empty)
    np.testing.assert_array_equal(keep_largest(LABEL, (7,)), LABEL)
    np.testing.assert_array_equal(keep_largest(LABEL, ()), LABEL)


def test_a_map_as_full_of_components_as_it_can_be_is_taken():
    label = np.zeros((5, 5, 5), np.uint8)
    label[::2, ::2, ::2] = 1
    assert keep_largest(label, (1,)).sum() == 1
    assert keep_largest(label[:1, :1], (1,)).sum() == 1


def test_the_input_is_left_as_it_was():
    before = LABEL.copy()
    keep_largest(LABEL, (1, 2), together=True)
    np.testing.assert_array_equal(LABEL, before)


def test_the_box_holds_all_foreground_and_nothing_more():
    label = np.zeros((5, 6, 7), np.uint8)
    assert foreground_box(label) is None
    label[1, 2, 3] = label[3, 2, 5] = 9
    assert foreground_box(label) == (slice(1, 4), slice(2, 3), slice(3, 6))


@pytest.mark.parametrize("together", [False, True])
def test_the_largest_component_equals_scipys(together):
    label = np.random.default_rng(0).choice(3, size=(12, 13, 14), p=[0.86, 0.08, 0.06]).astype(np.uint16)
    expected = label.copy()
    for classes in [(1, 2)] if together else [(1,), (2,)]:
        components, _ = ndimage.label(np.isin(label, classes), np.ones((3, 3, 3)))
        sizes = np.bincount(components.ravel())
        expected[(components > 0) & (components != 1 + np.argmax(sizes[1:]))] = 0
    kept = keep_largest(label, (1, 2), together)
    assert kept.dtype == label.dtype
    np.testing.assert_array_equal(kept, expected)
