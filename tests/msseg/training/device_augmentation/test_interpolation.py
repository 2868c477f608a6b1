from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from batchgenerators.augmentations.utils import interpolate_img
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter1d

from msseg.training.device_augmentation.interpolation import outside_of, sample_image, sample_label
from msseg.training.device_augmentation.separable import along_axes, gaussian_matrix, natural_matrix, spline_matrix

SHAPES = ((7, 9), (6, 8, 7), (1, 8, 5))


def scattered(shape: tuple[int, ...], samples: int = 2, count: int = 60) -> list[torch.Tensor]:
    """Places (m, n) an axis, some on the end voxels and some beyond them."""
    generator = torch.Generator().manual_seed(0)
    places = [torch.rand(samples, count, generator=generator) * (edge + 1) - 1 for edge in shape]
    for axis, edge in enumerate(shape):
        places[axis][:, 0], places[axis][:, 1] = 0, edge - 1
    return places


def coordinates(places: list[torch.Tensor], sample: int) -> np.ndarray:
    return np.stack([place[sample].double().numpy() for place in places])


@pytest.mark.parametrize(("shape", "order"), list(itertools.product(SHAPES, (1, 3))))
def test_values_between_voxels_are_scipys(shape, order):
    volumes = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    places = scattered(shape)
    ours = sample_image(volumes, places, order)
    outside = outside_of(places, shape)
    for sample, channel in itertools.product(range(2), range(3)):
        where = coordinates(places, sample)
        theirs = map_coordinates(volumes[sample, channel].double().numpy(), where, order=order, cval=np.nan)
        np.testing.assert_array_equal(np.isnan(theirs), outside[sample].numpy())
        inside = ~np.isnan(theirs)
        np.testing.assert_allclose(ours[sample, channel].numpy()[inside], theirs[inside], atol=2e-5)


@pytest.mark.parametrize(("shape", "order"), list(itertools.product(SHAPES, (0, 1))))
def test_labels_are_batchgenerators(shape, order):
    volumes = torch.randint(-1, 4, (2, 1, *shape), generator=torch.Generator().manual_seed(2)).to(torch.int16)
    places = scattered(shape)
    ours = sample_label(volumes, places, order).masked_fill_(outside_of(places, shape)[:, None], -1)
    for sample in range(2):
        image = volumes[sample, 0].numpy().astype(np.float32)
        theirs = interpolate_img(image, coordinates(places, sample), order, "constant", cval=-1, is_seg=True)
        np.testing.assert_array_equal(ours[sample, 0].numpy(), theirs)


def test_half_way_between_two_labels_the_nearest_wins_a_tie():
    line = torch.tensor([[[[3, 1, 1]]]], dtype=torch.int16)
    places = [torch.zeros(1, 3), torch.tensor([[0.25, 0.5, 0.75]])]
    # At 0.5 both weigh the same; rounding up takes the voxel after.
    assert sample_label(line, places, 1).tolist() == [[[3, 1, 1]]]


@pytest.mark.parametrize("length", [1, 2, 5, 12])
def test_the_spline_matrix_is_scipys_filter_mirrored_beyond_the_ends(length):
    values = np.random.default_rng(0).standard_normal(length)
    padded = spline_matrix(length, 2) @ values
    expected = spline_filter1d(values, order=3, mode="mirror") if length > 1 else values
    np.testing.assert_allclose(padded[2:-2], expected, atol=1e-10)
    mirrored = np.pad(expected, 2, mode="reflect") if length > 2 else None
    if mirrored is not None:
        np.testing.assert_allclose(padded, mirrored, atol=1e-10)


@pytest.mark.parametrize(("edge", "mode"), [("reflect", "reflect"), ("zero", "constant")])
def test_blur_by_matrices_is_scipys(edge, mode):
    volume = torch.randn(2, 5, 9, 7, generator=torch.Generator().manual_seed(3))
    for sigma in (0.6, 3.0):
        ours = along_axes(volume, [gaussian_matrix(length, sigma, edge) for length in (5, 9, 7)])
        theirs = [gaussian_filter(one.double().numpy(), sigma, mode=mode, cval=0.0) for one in volume]
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("points", [3, 5])
def test_the_natural_spline_is_scipys(points):
    values = np.random.default_rng(0).standard_normal(points)
    spline = CubicSpline(np.linspace(0, 1, points), values, bc_type="natural")
    np.testing.assert_allclose(natural_matrix(17, points) @ values, spline(np.linspace(0, 1, 17)), atol=1e-10)


def test_an_axis_without_a_matrix_is_left():
    x = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(along_axes(x, [None, np.eye(3)[::-1]]), x.flip(1))
