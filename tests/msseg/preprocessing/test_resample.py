from __future__ import annotations

import numpy as np
import pytest
from skimage.transform import resize

from msseg.preprocessing.resample import (
    axis_weights,
    full_spacing,
    resample_image,
    resample_label,
    resampled_shape,
    row_blocks,
    separate_axis,
)
from msseg.preprocessing.slabwise import AxisSpline, apply_spline

SHAPES = [
    ((11, 14, 9), (17, 10, 9)),
    ((1, 20, 20), (1, 31, 12)),
    ((5, 6, 7), (10, 12, 14)),
    ((2, 3, 4), (9, 3, 2)),
]


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_images_equal_scikit_images_resize(old: tuple[int, ...], new: tuple[int, ...], order: int) -> None:
    image = np.random.default_rng(0).normal(0, 170, old).astype(np.float32)
    expected = resize(image, new, order, mode="edge", anti_aliasing=False)
    resampled = resample_image(image[None], new, order)[0]
    assert resampled.dtype == np.float32
    assert np.abs(resampled - expected).max() < 1e-5 * image.std()


def test_a_coarse_axis_apart_is_sliced_resized_and_picked() -> None:
    volume = np.random.default_rng(1).normal(0, 1, (4, 9, 8)).astype(np.float32)
    slices = np.stack([resize(part, (13, 6), 3, mode="edge", anti_aliasing=False) for part in volume])
    nearest = [0, 0, 1, 2, 2, 3, 3]  # floor((i + 0.5) * 4 / 7)
    np.testing.assert_allclose(resample_image(volume[None], (7, 13, 6), 3, separate=0)[0], slices[nearest], atol=1e-5)
    np.testing.assert_allclose(resample_image(volume[None], (2, 13, 6), 3, separate=0)[0], slices[[1, 3]], atol=1e-5)


def test_linear_weights_of_two_voxels_to_four() -> None:
    expected = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    np.testing.assert_allclose(axis_weights(2, 4, 1), expected)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_weights_sum_to_one_and_are_read_only(order: int) -> None:
    weights = axis_weights(40, 57, order)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert not weights.flags.writeable


def test_an_unknown_order_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1, 3\]"):
        axis_weights(4, 5, 2)


@pytest.mark.parametrize(("n_in", "n_out"), [(300, 410), (300, 120), (7, 300)])
def test_blocks_leave_out_nothing_that_weighs(n_in: int, n_out: int) -> None:
    weights = axis_weights(n_in, n_out, 3).copy()
    for rows, columns in row_blocks(n_in, n_out):
        weights[rows, columns] = 0
    assert np.abs(weights).sum(axis=1).max() < 1e-6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blocked_products_equal_the_plain_one(axis: int) -> None:
    shape = [6, 5, 4]
    shape[axis] = 150
    volume = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    weights = axis_weights(150, 170, 3)
    expected = np.moveaxis(np.tensordot(weights, volume, (1, axis)), 0, axis)
    spline = AxisSpline(weights, tuple(row_blocks(150, 170)))
    np.testing.assert_allclose(apply_spline(volume, spline, axis), expected, atol=1e-5)


def test_nothing_is_copied_where_the_grid_stays() -> None:
    image, label = np.zeros((1, 3, 4, 5), np.float32), np.zeros((3, 4, 5), np.uint8)
    assert resample_image(image, (3, 4, 5), 3) is image
    assert resample_label(label, (3, 4, 5), 1) is label


def test_values_stay_in_the_range_of_each_channel() -> None:
    image = np.zeros((2, 6, 6, 6), np.float32)
    image[0, 3:] = 1
    image[1, 3:] = -5
    resampled = resample_image(image, (11, 11, 11), 3)
    assert resampled[0].min() == 0 and resampled[0].max() == 1
    assert resampled[1].min() == -5 and resampled[1].max() == 0


def test_the_new_shape_is_rounded_and_never_empty() -> None:
    assert resampled_shape((10, 100, 3), (5.0, 0.8, 1.0), (2.5, 1.0, 9.0)) == (20, 80, 1)


def test_a_configuration_of_two_axes_leaves_the_slices() -> None:
    assert full_spacing((7.0, 1.0, 1.0), (0.5, 0.5)) == (7.0, 0.5, 0.5)
    assert resampled_shape((4, 10, 10), (7.0, 1.0, 1.0), (0.5, 0.5)) == (4, 20, 20)


@pytest.mark.parametrize(
    ("old", "new", "axis"),
    [
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 5.0), (4.0, 1.0, 1.0), 2),
        ((1.0, 1.0, 1.0), (1.0, 4.0, 1.0), 1),
        ((3.0, 1.0, 1.0), (3.0, 1.0, 1.0), None),
        ((0.24, 1.25, 1.25), (1.0, 1.0, 1.0), None),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),
    ],
)
def test_the_axis_taken_apart(old: tuple[float, ...], new: tuple[float, ...], axis: int | None) -> None:
    assert separate_axis(old, new) == axis
