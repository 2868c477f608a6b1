from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from msseg.data.store import open_case, write_case
from msseg.errors import DatasetError
from msseg.training.augmentation import augmentation_named
from msseg.training.batches import BatchSource, make_batch, padded_patch


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
