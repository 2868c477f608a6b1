from __future__ import annotations

import numpy as np
from scipy import ndimage

from msseg.preprocessing.crop import nonzero_box, nonzero_mask


def test_the_box_is_the_union_over_channels() -> None:
    image = np.zeros((2, 5, 6, 7), np.float32)
    image[0, 1, 2, 3] = 1
    image[1, 3, 2, 5] = -4
    assert nonzero_box(image) == (slice(1, 4), slice(2, 3), slice(3, 6))


def test_an_image_of_zeros_keeps_its_whole_extent() -> None:
    assert nonzero_box(np.zeros((1, 2, 3, 4))) == (slice(0, 2), slice(0, 3), slice(0, 4))


def test_an_enclosed_hole_belongs_to_the_mask_and_a_bay_does_not() -> None:
    shell = np.zeros((1, 7, 7, 7))
    shell[0, 1:6, 1:6, 1:6] = 1
    shell[0, 3, 3, 3] = 0
    shell[0, 1, 1, 5] = 0
    expected = np.zeros((7, 7, 7), bool)
    expected[1:6, 1:6, 1:6] = True
    expected[1, 1, 5] = False
    np.testing.assert_array_equal(nonzero_mask(shell), expected)


def test_the_mask_equals_scipys_hole_filling_in_and_out_of_the_box() -> None:
    image = (np.random.default_rng(0).random((1, 12, 13, 14)) > 0.35).astype(np.float32)
    image[:, :2] = 0
    expected = ndimage.binary_fill_holes(image[0] != 0)
    np.testing.assert_array_equal(nonzero_mask(image), expected)
    box = nonzero_box(image)
    np.testing.assert_array_equal(nonzero_mask(image[(slice(None), *box)]), expected[box])
