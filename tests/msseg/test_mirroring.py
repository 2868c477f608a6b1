from __future__ import annotations

import numpy as np
import pytest

from msseg.mirroring import mirrored_places, with_neighbours


@pytest.mark.parametrize(
    ("start", "stop", "length", "places"),
    [
        (-3, 6, 4, [3, 2, 1, 0, 1, 2, 3, 2, 1]),
        (0, 4, 4, [0, 1, 2, 3]),
        (-2, 3, 1, [0, 0, 0, 0, 0]),
        (-5, 0, 2, [1, 0, 1, 0, 1]),
    ],
)
def test_places_beyond_an_end_are_mirrored_at_its_voxel(start, stop, length, places):
    assert mirrored_places(start, stop, length).tolist() == places


def test_places_are_numpys_reflection():
    line = np.arange(7)
    assert mirrored_places(-10, 17, 7).tolist() == np.pad(line, 10, "reflect").tolist()


def test_each_slice_has_its_neighbours_channels_in_order_mirrored_at_the_ends():
    image = np.array([[[[1.0]], [[2.0]], [[3.0]]], [[[10.0]], [[20.0]], [[30.0]]]], np.float32)
    stacked = with_neighbours(image, 1)
    assert stacked.shape == (6, 3, 1, 1)
    by_slice = stacked[:, :, 0, 0].T.tolist()
    assert by_slice == [[2, 20, 1, 10, 2, 20], [1, 10, 2, 20, 3, 30], [2, 20, 3, 30, 2, 20]]


def test_a_slice_without_others_is_its_own_neighbour():
    image = np.full((1, 1, 2, 2), 5, np.float32)
    np.testing.assert_array_equal(with_neighbours(image, 2), np.full((5, 1, 2, 2), 5))
