from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from msseg.postprocessing import components
from msseg.postprocessing.components import fill_holes


def slice_of(text: str) -> np.ndarray:
    """A label map of one slice, a digit a voxel, rows apart by blanks."""
    return np.array([[int(one) for one in row] for row in text.split()], np.uint8)[None]


def test_background_that_a_class_encloses_belongs_to_it():
    np.testing.assert_array_equal(fill_holes(slice_of("1110 1010 1110"), (1,)), slice_of("1110 1110 1110"))


def test_corners_hold_a_wall_together_but_let_nothing_through():
    np.testing.assert_array_equal(fill_holes(slice_of("00100 01010 00100"), (1,)), slice_of("00100 01110 00100"))


def test_what_reaches_the_edge_of_the_image_is_no_hole():
    np.testing.assert_array_equal(fill_holes(slice_of("0110 1010 1110"), (1,)), slice_of("0110 1110 1110"))
    label = slice_of("111 101 101")
    assert fill_holes(label, (1,)) is label


def test_other_classes_inside_stay():
    label = slice_of("11111 10201 10001 11111")
    np.testing.assert_array_equal(fill_holes(label, (1,)), slice_of("11111 11211 11111 11111"))


def test_classes_enclose_together_what_none_encloses_alone():
    label = slice_of("1122 1002 1122")
    assert fill_holes(label, (1, 2)) is label
    np.testing.assert_array_equal(fill_holes(label, (1, 2), together=True), slice_of("1122 1112 1122"))
    more = slice_of("1222 1002 1222")
    np.testing.assert_array_equal(fill_holes(more, (1, 2), together=True), slice_of("1222 1222 1222"))


def test_holes_above_a_size_stay_open():
    label = slice_of("1111111 1010011 1111111")
    np.testing.assert_array_equal(fill_holes(label, (1,), largest_voxels=1), slice_of("1111111 1110011 1111111"))


def test_a_tunnel_is_no_hole_of_a_volume():
    label = np.ones((3, 3, 3), np.uint8)
    label[:, 1, 1] = 0
    assert fill_holes(label, (1,)) is label
    label[[0, 2], 1, 1] = 1
    assert fill_holes(label, (1,)).all()


def test_the_innermost_hole_goes_to_the_lower_class_whichever_lies_outside():
    label = slice_of("2222222 2000002 2011102 2010102 2011102 2000002 2222222")
    np.testing.assert_array_equal(
        fill_holes(label, (1, 2)), slice_of("2222222 2222222 2211122 2211122 2211122 2222222 2222222")
    )


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_holes_equal_scipys(seed, whole, monkeypatch):
    if whole:  # as where boxes overlap a lot
        monkeypatch.setattr(components.math, "prod", lambda lengths: np.prod(list(lengths), dtype=int) * 1000)
    rng = np.random.default_rng(seed)
    shape = [(6, 9, 8), (1, 20, 22)][seed % 2]
    label = rng.choice(3, size=shape, p=[0.3, 0.45, 0.25]).astype(np.uint8)
    expected = label.copy()
    flat = shape[0] == 1
    for value in (1, 2):
        mask = label == value
        holes = ndimage.binary_fill_holes(mask[0])[None] if flat else ndimage.binary_fill_holes(mask)
        expected[holes & (expected == 0)] = value
    np.testing.assert_array_equal(fill_holes(label, (1, 2)), expected)
    around = ndimage.binary_fill_holes(label[0] > 0)[None] if flat else ndimage.binary_fill_holes(label > 0)
    np.testing.assert_array_equal(fill_holes(label, (1, 2), together=True) > 0, around)
