from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.data.store import open_case, write_case
from msseg.errors import DatasetError
from msseg.training.augmentation import augmentation_named
from msseg.training.batches import BatchSource, make_batch, padded_patch, read_batch
from msseg.training.device_batches import finished
from planning.label_pairs import Sides


@pytest.fixture
def source(store: Path) -> BatchSource:
    return BatchSource(
        store=store,
        case_names=tuple(f"case_{number}" for number in range(6)),
        patch_size=(8, 8, 8),
        batch_size=3,
        seed=7,
        augmentation=augmentation_named("nnunet"),
        mirror_axes=(0, 1, 2),
    )


def test_a_batch_has_the_promised_shapes_and_types(source):
    batch = make_batch(source, 0)
    assert batch.image.shape == (3, 1, 8, 8, 8)
    assert batch.image.dtype == np.float32
    assert batch.label.shape == (3, 8, 8, 8)
    assert batch.label.dtype == np.int16
    assert set(np.unique(batch.label)) <= {-1, 0, 1, 2}


def test_batch_k_depends_on_seed_and_k_alone(source):
    np.random.seed(1)
    first = make_batch(source, 5)
    make_batch(source, 6)
    np.random.seed(2)
    random.seed(2)
    again = make_batch(source, 5)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.label, again.label)
    assert not np.array_equal(first.image, make_batch(source, 6).image)
    assert not np.array_equal(first.image, make_batch(replace(source, seed=8), 5).image)
    assert not np.array_equal(first.image, make_batch(replace(source, stream=1), 5).image)


def test_making_a_batch_leaves_the_global_generators_alone(source):
    np.random.seed(3)
    random.seed(3)
    expected = np.random.random(), random.random()
    np.random.seed(3)
    random.seed(3)
    make_batch(source, 0)
    assert (np.random.random(), random.random()) == expected


def test_forced_samples_show_foreground(source):
    plain = replace(source, augmentation=None, patch_size=(2, 2, 2))
    assert all((make_batch(plain, index).label[-1] > 0).any() for index in range(20))


def test_patches_of_two_axes_are_slices(source):
    flat = replace(source, patch_size=(8, 8), mirror_axes=(0, 1))
    batch = make_batch(flat, 0)
    assert batch.image.shape == (3, 1, 8, 8)
    assert batch.label.shape == (3, 8, 8)


def test_a_patch_over_the_edge_is_padded_with_zero_and_minus_one(tmp_path):
    image = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2) + 1
    label = np.ones((2, 2, 2), np.uint8)
    write_case(tmp_path, "a", image, label, {}, {}, key="k")
    patch, known = padded_patch(open_case(tmp_path, "a"), (-1, 0, 0), (1, 2, 3))
    assert patch[0].tolist() == [[[0, 0, 0], [0, 0, 0]], [[1, 2, 0], [3, 4, 0]]]
    assert known.tolist() == [[[-1, -1, -1], [-1, -1, -1]], [[1, 1, -1], [1, 1, -1]]]


def test_a_case_without_label_cannot_be_trained_on(tmp_path):
    write_case(tmp_path, "a", np.zeros((1, 2, 2, 2), np.float32), None, {}, {}, key="k")
    with pytest.raises(DatasetError, match="without a label"):
        padded_patch(open_case(tmp_path, "a"), (0, 0, 0), (1, 1, 1))


@pytest.fixture
def ramps(tmp_path) -> Path:
    """A case of two channels, 4 slices of 3 × 5: channel 1 is 100 more, a slice 10 more; the label is 1 in slice 3."""
    plane = np.arange(15, dtype=np.float32).reshape(3, 5) / 10
    volume = plane + 10 * np.arange(4, dtype=np.float32)[:, None, None]
    label = np.zeros((4, 3, 5), np.uint8)
    label[3] = 1
    places = np.argwhere(label == 1).astype(np.int32)
    write_case(tmp_path, "a", np.stack([volume, volume + 100]), label, {1: places}, {}, key="k")
    return tmp_path


def test_a_patch_over_the_edge_goes_on_as_the_mirror_image_where_it_is_asked_for(ramps):
    source = BatchSource(ramps, ("a",), (5, 9), 1, seed=0, padding="mirror", foreground_share=1.0)
    batch = make_batch(source, 0)
    plane = np.arange(15, dtype=np.float32).reshape(3, 5) / 10
    expected = np.pad(plane, ((1, 1), (2, 2)), "reflect") + 30
    np.testing.assert_allclose(batch.image[0], np.stack([expected, expected + 100]))
    known = np.full((5, 9), -1)
    known[1:4, 2:7] = 1
    np.testing.assert_array_equal(batch.label[0], known)


def test_a_region_far_beyond_the_image_is_mirrored_more_than_once(ramps):
    source = BatchSource(ramps, ("a",), (15, 31), 1, seed=0, padding="mirror", foreground_share=1.0)
    plane = np.arange(15, dtype=np.float32).reshape(3, 5) / 10
    expected = np.pad(plane, ((6, 6), (13, 13)), "reflect") + 30
    np.testing.assert_allclose(make_batch(source, 0).image[0, 0], expected)


def test_a_slice_comes_with_its_neighbours_as_channels_and_its_own_label(ramps):
    source = BatchSource(ramps, ("a",), (3, 3, 5), 16, seed=0, foreground_share=0.5, slices_as_channels=True)
    batch = make_batch(source, 0)
    assert batch.image.shape == (16, 6, 3, 5)
    assert batch.label.shape == (16, 3, 5)
    neighbours = {0: (1, 0, 1), 10: (0, 1, 2), 20: (1, 2, 3), 30: (2, 3, 2)}
    seen = set()
    for image, label in zip(batch.image, batch.label, strict=True):
        middle = int(image[2, 0, 0])
        slices = [10 * index + channel for index in neighbours[middle] for channel in (0, 100)]
        assert image[:, 0, 0].tolist() == slices
        assert (label == int(middle == 30)).all()
        seen.add(middle)
    assert seen == {0, 10, 20, 30}
    assert all(image[2, 0, 0] == 30 for image in batch.image[8:]), "the forced half shows foreground in the middle"


@pytest.mark.parametrize("name", ["budget", "nnunet"])
def test_neighbouring_slices_move_alike_in_both_ways_of_augmenting(ramps, name):
    # Intensities stay, so that after any movement a slice still lies 10 below the one after it.
    quiet = dict.fromkeys(("noise", "blur", "brightness", "contrast", "low_resolution", "inverted_gamma", "gamma"), 0.0)
    row = replace(augmentation_named(name), **quiet, image_order=1, label_order=0)
    source = BatchSource(
        ramps,
        ("a",),
        (3, 3, 5),
        8,
        seed=0,
        foreground_share=0.0,
        augmentation=row,
        dummy_2d=True,
        mirror_axes=(1, 2),
        padding="mirror",
        slices_as_channels=True,
    )
    made = make_batch(source, 1).image, finished(read_batch(source, 1), torch.device("cpu")).image.numpy()
    for image in made:
        assert image.shape == (8, 6, 3, 5)
        np.testing.assert_allclose(image[:, 1] - image[:, 0], 100, atol=1e-2)
        steps = np.abs(image[:, [0, 4]] - image[:, [2]])
        np.testing.assert_allclose(steps, 10, atol=1e-2)


@pytest.mark.parametrize("stacked", [False, True])
def test_left_stays_on_the_left_of_the_batches_that_are_trained_on(tmp_path, stacked):
    label = np.ones((4, 6, 8), np.uint8)
    label[..., 4:] = 2
    places = {index: np.argwhere(label == index).astype(np.int32) for index in (1, 2)}
    write_case(tmp_path, "a", label[None].astype(np.float32), label, places, {}, key="k")
    row = replace(augmentation_named("none"), mirror=True)
    sides = Sides(2, (0, 2, 1))
    size = (3, 6, 8) if stacked else (4, 6, 8)
    plain = BatchSource(tmp_path, ("a",), size, 16, 0, foreground_share=0.0, augmentation=row, mirror_axes=(1, 2))
    source = replace(plain, sides=sides, slices_as_channels=stacked, dummy_2d=stacked)
    for batch in (make_batch(source, 0), finished(read_batch(source, 0), torch.device("cpu"))):
        image, found = np.asarray(batch.image), np.asarray(batch.label)
        assert {1, 2} <= set(image[..., 0].ravel()), "some are mirrored, some are not"
        inside = found != -1
        expected = np.broadcast_to(np.where(np.arange(8) < 4, 1, 2), found.shape)
        np.testing.assert_array_equal(found[inside], expected[inside])
