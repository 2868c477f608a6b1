from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from msseg.training.batches import legacy_randomness
from msseg.training.transforms import GridElastic, QuarterTurn, RandomWindow, smooth_field


def numbered(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(1, 1, *shape)


def test_a_quarter_turn_is_one_of_four_and_the_same_for_image_and_label():
    square = numbered(2, 2)
    seen = set()
    for seed in range(20):
        with legacy_randomness(seed):
            moved = QuarterTurn(1.0)(data=square.copy(), seg=square.copy())
        np.testing.assert_array_equal(moved["data"], moved["seg"])
        seen.add(tuple(moved["data"].ravel().astype(int)))
    assert seen == {(0, 1, 2, 3), (1, 3, 0, 2), (3, 2, 1, 0), (2, 0, 3, 1)}


def test_a_quarter_turn_of_a_volume_leaves_every_slice_where_it_is():
    volume = numbered(3, 4, 4)
    for seed in range(6):
        with legacy_randomness(seed):
            moved = QuarterTurn(1.0)(data=volume.copy())["data"]
        for depth in range(3):
            assert set(moved[0, 0, depth].ravel()) == set(volume[0, 0, depth].ravel())


def test_windows_lie_at_every_place_and_show_the_same_of_image_and_label():
    row = numbered(4)
    seen = set()
    for seed in range(30):
        with legacy_randomness(seed):
            moved = RandomWindow((2,))(data=row, seg=10 * row)
        np.testing.assert_array_equal(10 * moved["data"], moved["seg"])
        seen.add(tuple(moved["data"].ravel().astype(int)))
    assert seen == {(0, 1), (1, 2), (2, 3)}


def test_a_smooth_field_has_the_grids_values_at_its_points_and_a_natural_spline_between():
    coarse = np.array([[0.0, 3.0, -1.0], [2.0, 2.0, 2.0], [5.0, 0.0, 1.0]])
    field = smooth_field(coarse, (9, 5))
    assert field.shape == (9, 5)
    np.testing.assert_allclose(field[::4, ::2], coarse, atol=1e-12)
    expected = CubicSpline([0, 4, 8], coarse[:, 1], bc_type="natural")(np.arange(9))
    np.testing.assert_allclose(field[:, 2], expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(16, 20), (8, 16, 12)])
def test_elastic_deformation_moves_image_and_label_alike_and_invents_no_label(shape):
    label = np.zeros((2, 1, *shape), np.float32)
    label[(slice(None), 0, *(slice(edge // 4, 3 * edge // 4) for edge in shape))] = 2.0
    elastic = GridElastic(3, share=0.1, largest=10.0, image_order=1, label_order=0, p_per_sample=1.0)
    with legacy_randomness(0):
        moved = elastic(data=label.copy(), seg=label.copy())
    assert set(np.unique(moved["seg"])) <= {-1.0, 0.0, 2.0}
    assert (moved["seg"] != label).any()
    inside = moved["seg"] >= 0
    assert np.abs(moved["data"] - moved["seg"])[inside].mean() < 0.15


def test_the_largest_displacement_bounds_the_share():
    row = GridElastic(3, share=0.5, largest=0.0, image_order=1, label_order=0, p_per_sample=1.0)
    image = numbered(6, 6)
    with legacy_randomness(0):
        np.testing.assert_array_equal(row(data=image.copy(), seg=image.copy())["data"], image)
