from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from msseg.errors import MssegError
from msseg.training.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    augmentation_named,
    colour_matrix,
    read_size,
    varied,
)
from msseg.training.batches import legacy_randomness
from msseg.training.worker_augmentation import build_transforms

CERTAIN = Augmentation(
    name="all",
    rotation=1.0,
    scaling=1.0,
    elastic=1.0,
    elastic_alpha=(0.0, 50.0),
    elastic_sigma=(2.0, 3.0),
    noise=1.0,
    blur=1.0,
    brightness=1.0,
    contrast=1.0,
    low_resolution=1.0,
    inverted_gamma=1.0,
    gamma=1.0,
)


def volume(shape: tuple[int, ...], channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    label = np.zeros((2, 1, *shape), np.float32)
    middle = tuple(slice(length // 4, 3 * length // 4) for length in shape)
    label[(slice(None), 0, *middle)] = 1
    image = generator.standard_normal((2, channels, *shape)).astype(np.float32) + 3 * label
    return image, label


def apply(row: Augmentation, patch: tuple[int, ...], dummy_2d: bool = False, channels: int = 1, seed: int = 0):
    axes = tuple(range(len(patch)))
    image, label = volume(read_size(row, patch, dummy_2d), channels)
    with legacy_randomness(seed):
        moved = build_transforms(row, patch, dummy_2d, axes)(data=image, seg=label)
    return moved["data"], moved["seg"]


@pytest.mark.parametrize(
    ("patch", "dummy_2d", "channels"), [((8, 10, 9), False, 2), ((4, 16, 16), True, 2), ((16, 12), False, 1)]
)
def test_every_transform_together_gives_finite_patches_of_the_right_shape(patch, dummy_2d, channels):
    image, label = apply(CERTAIN, patch, dummy_2d, channels)
    assert image.shape == (2, channels, *patch)
    assert label.shape == (2, 1, *patch)
    assert np.isfinite(image).all()
    assert set(np.unique(label)) <= {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_every_row_runs_many_times_without_inventing_a_class(name):
    for seed in range(5):
        image, label = apply(AUGMENTATIONS[name], (8, 8, 8), seed=seed)
        assert np.isfinite(image).all()
        assert set(np.unique(label)) <= {-1.0, 0.0, 1.0}


def test_with_nothing_drawn_the_middle_of_what_was_read_comes_back():
    row = Augmentation(name="rare", rotation=1e-12, scaling=1e-12, mirror=False)
    image, label = volume(read_size(row, (6, 6, 6), False))
    start = (image.shape[2] - 6) // 2
    middle = (slice(None), slice(None), *(slice(start, start + 6),) * 3)
    expected = image[middle].copy(), label[middle].copy()
    with legacy_randomness(0):
        moved = build_transforms(row, (6, 6, 6), False, (0, 1, 2))(data=image, seg=label)
    np.testing.assert_array_equal(moved["data"], expected[0])
    np.testing.assert_array_equal(moved["seg"], expected[1])


def test_dummy_2d_moves_every_slice_alike_and_none_into_another():
    row = Augmentation(name="turn", rotation=1.0, mirror=False, image_order=1, label_order=0)
    size = read_size(row, (3, 16, 16), True)
    image = np.broadcast_to(np.arange(1.0, 4.0, dtype=np.float32)[:, None, None], (1, 1, *size)).copy()
    with legacy_randomness(0):
        moved = build_transforms(row, (3, 16, 16), True, ())(data=image, seg=image.copy())["data"]
    inside = moved[0, 0, 0] > 0.99
    assert inside.any()
    for depth, value in enumerate((1.0, 2.0, 3.0)):
        np.testing.assert_allclose(moved[0, 0, depth][inside], value, rtol=1e-5)


def test_labels_outside_what_was_read_are_ignored():
    row = Augmentation(name="shrink", scaling=1.0, scaling_range=(3.0, 3.0), mirror=False)
    image, label = volume((8, 8, 8))
    with legacy_randomness(0):
        moved = build_transforms(row, (8, 8, 8), False, ())(data=image, seg=label)
    assert moved["seg"][0, 0, 0, 0, 0] == -1
    assert moved["data"][0, 0, 0, 0, 0] == 0


def test_only_the_plans_axes_are_mirrored():
    row = Augmentation(name="mirror")
    seen = set()
    for seed in range(20):
        image = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 2, 2)
        with legacy_randomness(seed):
            moved = build_transforms(row, (2, 2, 2), False, (2,))(data=image, seg=image.copy())["data"]
        seen.add(tuple(moved.ravel().astype(int)))
    assert seen == {(0, 1, 2, 3, 4, 5, 6, 7), (1, 0, 3, 2, 5, 4, 7, 6)}


def test_the_region_read_covers_the_turned_patch_times_the_scale():
    row = Augmentation(name="x", rotation=0.2, rotation_degrees=30.0)
    expected = math.ceil(10 * math.cos(math.radians(30)) + 10 * math.sin(math.radians(30)))
    assert read_size(row, (10, 10, 10), False) == (expected,) * 3
    both = replace(row, scaling=0.2, scaling_range=(0.7, 2.0))
    wide = math.ceil(2 * 10 * (math.cos(math.radians(30)) + math.sin(math.radians(30))))
    assert read_size(both, (10, 10, 10), False) == (wide,) * 3


def test_a_full_turn_in_the_plane_needs_the_diagonal_and_leaves_the_depth_alone():
    row = Augmentation(name="x", rotation=0.2)
    assert read_size(row, (5, 30, 40), True) == (5, 50, 50)


def test_no_rotation_and_no_scaling_read_just_the_patch():
    assert read_size(AUGMENTATIONS["none"], (5, 6, 7), False) == (5, 6, 7)


def test_an_unknown_row_lists_the_known_ones():
    with pytest.raises(MssegError, match="nnunet"):
        augmentation_named("heavy")


def test_a_third_of_a_turn_of_the_hue_makes_red_green():
    np.testing.assert_allclose(colour_matrix(120, 1.0, np.eye(3)) @ [1.0, 0.0, 0.0], [0, 1, 0], atol=1e-12)


def test_saturation_is_the_distance_from_grey():
    np.testing.assert_allclose(colour_matrix(0, 0.0, np.eye(3)) @ [3.0, 0.0, 0.0], [1, 1, 1])
    np.testing.assert_allclose(colour_matrix(0, 2.0, np.eye(3)) @ [3.0, 0.0, 0.0], [5, -1, -1])


def test_hue_and_saturation_leave_grey_as_it_is_and_the_mean_of_colours():
    matrix = colour_matrix(40, 1.4, np.eye(3))
    np.testing.assert_allclose(matrix @ np.ones(3), 1)
    np.testing.assert_allclose(matrix.mean(axis=0), 1 / 3)


def test_stain_mixes_what_was_turned():
    stain = np.diag([2.0, 1.0, 1.0])
    np.testing.assert_allclose(colour_matrix(240, 1.0, stain) @ [0.0, 1.0, 0.0], [2, 0, 0], atol=1e-12)


def test_the_negative_is_about_0_and_leaves_the_label():
    image, label = volume((6, 6), channels=2)
    row = Augmentation(name="x", inversion=1.0, mirror=False)
    with legacy_randomness(0):
        moved = build_transforms(row, (6, 6), False, ())(data=image.copy(), seg=label.copy())
    np.testing.assert_array_equal(moved["data"], -image)
    np.testing.assert_array_equal(moved["seg"], label)


def test_colours_change_only_in_their_channels_and_only_where_there_are_any():
    row = Augmentation(name="x", hue=1.0, saturation=1.0, stain=1.0, mirror=False)
    image, label = volume((6, 6), channels=4)
    for colours in ((), (3, 1, 0)):
        with legacy_randomness(0):
            moved = build_transforms(row, (6, 6), False, (), colours)(data=image.copy(), seg=label.copy())
        changed = [not np.array_equal(moved["data"][:, channel], image[:, channel]) for channel in range(4)]
        assert changed == [channel in colours for channel in range(4)]


def test_a_plans_variations_are_added_where_the_row_has_nothing_of_its_own():
    row = Augmentation(name="x", hue=0.7)
    both = varied(row, ("colour", "polarity"))
    assert both.hue == 0.7
    assert both.saturation > 0
    assert both.stain > 0
    assert both.inversion > 0
    assert varied(row, ()) == row
