from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msseg.training.augmentation import AUGMENTATIONS, Augmentation, read_size
from msseg.training.device_augmentation.draws import draw, rotation

PATCH = (20, 24, 16)


def drawn(row: Augmentation, seed: int = 0, samples: int = 4, channels: int = 2, dummy_2d: bool = False):
    return draw(row, np.random.default_rng(seed), samples, channels, PATCH, dummy_2d, (0, 2))


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
@pytest.mark.parametrize("dummy_2d", [False, True])
def test_equal_generators_draw_equal_batches_and_others_do_not(name, dummy_2d):
    one, same, other = (drawn(AUGMENTATIONS[name], seed, dummy_2d=dummy_2d) for seed in (1, 1, 2))
    assert one.read_size == same.read_size
    assert all(np.array_equal(value, same.arrays()[key]) for key, value in one.arrays().items())
    assert one.seed == same.seed != other.seed


def test_a_row_of_nothing_draws_what_changes_nothing():
    draws = drawn(AUGMENTATIONS["none"])
    assert draws.read_size == PATCH
    assert not draws.moved.any()
    assert not draws.mirrored.any()
    for name in ("noise", "blur", "added", "grid", "quarter_turns", "window"):
        assert not getattr(draws, name).any(), name
    assert not draws.inverted.any()
    assert (draws.colours == np.eye(3, 4)).all()
    for name in ("brightness", "contrast", "low_resolution", "gamma", "inverted_gamma", "last_contrast"):
        assert (getattr(draws, name) == 1).all(), name


def test_only_the_mirror_axes_are_mirrored_half_of_the_time():
    mirrored = drawn(AUGMENTATIONS["nnunet"], samples=2000).mirrored
    assert not mirrored[:, 1].any()
    assert mirrored[:, [0, 2]].mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.04)


def test_shares_and_ranges_are_the_rows():
    draws = drawn(AUGMENTATIONS["nnunet"], samples=4000, channels=2)
    assert draws.moved.mean() == pytest.approx(1 - 0.8 * 0.8, abs=0.03)
    assert (draws.gamma != 1).all(axis=1).mean() == pytest.approx(0.3, abs=0.03)
    assert (draws.blur > 0).mean() == pytest.approx(0.2 * 0.5, abs=0.02)
    assert (draws.noise[:, 0] == draws.noise[:, 1]).all()
    gammas = draws.gamma[draws.gamma != 1]
    assert 0.7 <= gammas.min() < 0.72 < 1.45 < gammas.max() <= 1.5
    assert (gammas < 1).mean() == pytest.approx(0.5, abs=0.05)


def test_exactly_one_of_three_intensities_changes():
    draws = drawn(AUGMENTATIONS["unet_sharp"], samples=3000, channels=3)
    contrast = (draws.last_contrast != 1).all(axis=1)
    brightness = ~contrast & (draws.added[:, :1] == draws.added).all(axis=1)
    assert not (contrast & draws.added.any(axis=1)).any()
    assert [contrast.mean(), brightness.mean()] == pytest.approx([1 / 3, 1 / 3], abs=0.04)


def test_a_rotation_keeps_lengths_and_one_angle_turns_the_plane_by_it():
    turn = rotation([0.3, -0.2, 0.5])
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotation([np.pi / 2]), [[0, 1], [-1, 0]], atol=1e-12)


def test_what_is_read_covers_the_moved_patches_and_never_more_than_the_row_asks_for():
    row = replace(AUGMENTATIONS["nnunet"], image_order=1)
    for seed in range(20):
        draws = drawn(row, seed)
        largest = read_size(row, PATCH, False)
        reach = np.abs(draws.matrices) @ (np.array(PATCH) - 1) + 1
        needed = np.minimum(reach.max(axis=0), largest)
        assert all(np.array(draws.read_size) >= np.floor(needed))
        assert all(a <= b for a, b in zip(draws.read_size, largest, strict=True))


def test_patches_that_are_only_cut_out_are_read_as_they_are():
    row = Augmentation(name="x", rotation=1e-12, noise=1.0)
    assert drawn(row).read_size == PATCH
