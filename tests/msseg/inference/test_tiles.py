from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from msseg.inference.tiles import gaussian_importance, tile_corners, tile_starts


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


def test_corners_run_over_the_first_axis_slowest():
    assert tile_corners((12, 8), (8, 4), 0.5) == [(0, 0), (0, 2), (0, 4), (4, 0), (4, 2), (4, 4)]


def test_importance_equals_scipys_gaussian_of_a_point():
    tile = (16, 9, 12)
    point = np.zeros(tile)
    point[8, 4, 6] = 1
    expected = gaussian_filter(point, [size / 8 for size in tile], mode="constant", cval=0)
    expected *= 10 / expected.max()
    weights = gaussian_importance(tile)
    inside = expected > 0
    np.testing.assert_allclose(weights[inside], expected[inside], rtol=1e-5)
    assert weights[~inside].size == 0 or np.all(weights[~inside] == weights[inside].min())


def test_importance_is_positive_everywhere_even_on_an_axis_of_one_voxel():
    for tile in [(1, 8, 8), (3, 5, 7), (40, 56, 40), (1,)]:
        weights = gaussian_importance(tile)
        assert weights.shape == tile and weights.dtype == np.float32
        assert weights.min() > 0 and weights.max() == pytest.approx(10)
