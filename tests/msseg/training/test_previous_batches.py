"""Batches of a cascade's second network: the first one's classes are moved as the label is and become planes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.data.store import open_case, write_case
from msseg.errors import DatasetError
from msseg.planes import class_planes, previous_labels, with_planes
from msseg.training.augmentation import augmentation_named
from msseg.training.batches import BatchSource, make_batch, read_batch
from msseg.training.device_batches import DeviceBatch, finished
from planning.label_pairs import Sides

CPU = torch.device("cpu")
PLANES = ((1,), (2,))


@pytest.fixture
def source(store: Path, tmp_path: Path) -> BatchSource:
    """What was predicted is the label itself, so that any patch tells whether both were moved alike."""
    names = tuple(f"case_{number}" for number in range(6))
    (tmp_path / "previous").mkdir()
    for name in names:
        np.save(tmp_path / "previous" / f"{name}.npy", np.asarray(open_case(store, name).label))
    return BatchSource(
        store=store,
        case_names=names,
        patch_size=(8, 8, 8),
        batch_size=3,
        seed=7,
        augmentation=replace(augmentation_named("nnunet"), plane_change=0.0, plane_loss=0.0),
        mirror_axes=(0, 1, 2),
        previous=tmp_path / "previous",
        planes=PLANES,
    )


def both(source: BatchSource, index: int) -> list[DeviceBatch]:
    """The batch of the worker's way and of the device's."""
    return [finished(make_batch(source, index), CPU), finished(read_batch(source, index), CPU)]


def expected_planes(label: torch.Tensor) -> torch.Tensor:
    return torch.stack([(label == index).float() for index in (1, 2)], dim=1)


@pytest.mark.parametrize("patch", [(8, 8, 8), (14, 16, 15)])
def test_planes_are_the_stored_classes_at_the_place_of_the_patch_and_0_around(source, patch):
    plain = replace(source, augmentation=None, patch_size=patch, foreground_share=1.0)
    for batch in both(plain, 0):
        assert batch.image.shape == (3, 3, *patch)
        assert torch.equal(batch.image[:, 1:], expected_planes(batch.label))
        assert batch.image[:, 1:].any()


@pytest.mark.parametrize("dummy_2d", [False, True])
def test_planes_are_moved_with_the_label_in_both_ways_of_augmenting(source, dummy_2d):
    row = replace(source.augmentation, rotation=1.0, scaling=1.0)
    for index in range(3):
        for batch in both(replace(source, augmentation=row, dummy_2d=dummy_2d), index):
            assert torch.equal(batch.image[:, 1:], expected_planes(batch.label))


def test_images_and_labels_are_those_of_a_network_that_sees_no_planes(source):
    alone = replace(source, previous=None, planes=())
    for with_them, without in zip(both(source, 4), both(alone, 4), strict=True):
        assert torch.equal(with_them.image[:, :1], without.image)
        assert torch.equal(with_them.label, without.label)
    assert make_batch(alone, 4).previous is None


def test_batch_k_shows_the_same_planes_at_every_call_and_the_same_draws_in_both_ways(source):
    row = replace(augmentation_named("none"), plane_change=1.0, plane_loss=1.0)
    loud = replace(source, augmentation=row)
    worker, device = both(loud, 2)
    again = both(loud, 2)
    assert torch.equal(worker.image, device.image)
    assert torch.equal(worker.image, again[0].image) and torch.equal(device.image, again[1].image)
    assert not torch.equal(worker.image[:, 1:], expected_planes(worker.label)), "planes are spoiled"
    assert set(worker.image[:, 1:].unique().tolist()) == {0.0, 1.0}


def test_a_part_of_a_batch_shows_what_it_would_among_all(source):
    loud = replace(source, augmentation=replace(augmentation_named("nnunet"), plane_change=1.0, plane_loss=1.0))
    whole = both(loud, 1)
    for rows in ((0, 2), (2, 3)):
        for part, all_of_it in zip(both(replace(loud, rows=rows), 1), whole, strict=True):
            torch.testing.assert_close(part.image, all_of_it.image[slice(*rows)])


def test_a_mirror_from_side_to_side_swaps_the_planes_of_left_and_right(tmp_path):
    label = np.ones((4, 6, 8), np.uint8)
    label[..., 4:] = 2
    places = {index: np.argwhere(label == index).astype(np.int32) for index in (1, 2)}
    write_case(tmp_path / "store", "a", label[None].astype(np.float32), label, places, {}, key="k")
    np.save(tmp_path / "a.npy", label)
    source = BatchSource(
        tmp_path / "store",
        ("a",),
        (4, 6, 8),
        16,
        0,
        augmentation=replace(augmentation_named("none"), mirror=True),
        mirror_axes=(2,),
        sides=Sides(2, (0, 2, 1)),
        previous=tmp_path,
        planes=PLANES,
    )
    left = torch.arange(8) < 4
    for batch in both(source, 0):
        assert {1.0, 2.0} == set(batch.image[:, 0, ..., 0].unique().tolist()), "some are mirrored, some are not"
        assert (batch.image[:, 1] == left.float()).all() and (batch.image[:, 2] == (~left).float()).all()


def test_a_prediction_that_is_gone_is_named(source, tmp_path):
    with pytest.raises(DatasetError, match=r"case_0\.npy: no prediction of the first stage there"):
        previous_labels(tmp_path / "nowhere", "case_0")


def test_an_image_is_shown_whole_with_the_same_planes(source, store):
    stored = open_case(store, "case_0")
    classes = previous_labels(source.previous, "case_0")
    shown = with_planes(stored.image, classes, PLANES)
    assert shown.shape == (3, *stored.image.shape[1:]) and shown.dtype == np.float32
    np.testing.assert_array_equal(shown[1:], class_planes(np.asarray(stored.label), PLANES))
