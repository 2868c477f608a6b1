from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from msseg.inference.tiles import axis_shares, importance_profile, tile_starts


def test_last_tile_is_flush_with_the_image_end():
    for length in range(8, 60):
        assert tile_starts(length, 8, 0.5)[-1] == length - 8


def test_tiles_are_evenly_spaced_and_no_further_apart_than_the_step():
    assert tile_starts(16, 8, 0.5) == [0, 4, 8]
    assert tile_starts(17, 8, 0.5) == [0, 3, 6, 9]
    assert tile_starts(110, 64, 0.5) == [0, 23, 46]


def test_halves_are_rounded_to_even():
    assert tile_starts(13, 8, 0.5) == [0, 2, 5]


def test_an_axis_shorter_than_the_tile_has_one_tile():
    assert tile_starts(5, 8, 0.5) == [0]
    assert tile_starts(8, 8, 0.5) == [0]


def test_a_step_of_nothing_is_refused():
    with pytest.raises(ValueError, match="step 0"):
        tile_starts(16, 8, 0)


def test_importance_equals_scipys_gaussian_of_a_point():
    tile = (16, 9, 12)
    point = np.zeros(tile)
    point[8, 4, 6] = 1
    expected = gaussian_filter(point, [size / 8 for size in tile], mode="constant", cval=0)
    weights = np.einsum("i,j,k->ijk", *map(importance_profile, tile))
    inside = expected > 0
    np.testing.assert_allclose(weights[inside], (expected / expected.max())[inside], rtol=1e-5)
    assert inside.all()


def test_importance_is_nowhere_zero_whatever_the_tile():
    for size in range(1, 300):
        profile = importance_profile(size)
        assert profile.max() == 1 and profile.min() >= np.exp(-8)


def test_shares_of_two_tiles_worked_out_by_hand():
    """Tiles of 2 at 0 and 1 in an axis of 3 weigh (e^-8, 1) each; they meet in the middle voxel."""
    edge = np.exp(-8)
    expected = [[1, 1 / (1 + edge)], [edge / (1 + edge), 1]]
    np.testing.assert_allclose(axis_shares(3, 2, [0, 1]), expected, rtol=1e-6)


@pytest.mark.parametrize(("length", "tile"), [(16, 8), (17, 8), (110, 64), (8, 8), (3, 1), (41, 7)])
def test_shares_sum_to_one_at_every_voxel(length, tile):
    starts = tile_starts(length, tile, 0.5)
    total = np.zeros(length)
    for start, share in zip(starts, axis_shares(length, tile, starts), strict=True):
        assert share.dtype == np.float32 and share.min() > 0
        total[start : start + tile] += share
    np.testing.assert_allclose(total, 1, rtol=1e-6)
