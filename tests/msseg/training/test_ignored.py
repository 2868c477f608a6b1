"""Training on labels of which a part is ignored: where patches lie, what becomes of -1 on the way, what is learned."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from msseg.data.store import ANNOTATED, open_case, write_case
from msseg.preprocessing.locations import sample_locations
from msseg.training.augmentation import AUGMENTATIONS, augmentation_named
from msseg.training.batches import BatchSource, make_batch, read_batch
from msseg.training.device_batches import finished
from msseg.training.loop import train_fold
from msseg.training.run import start_run
from msseg.training.sampling import choose_lower
from msseg.training.validation import overlap
from planning.label_pairs import Sides

SHAPE = (20, 24, 22)


def bright_boxes():
    label = np.zeros(SHAPE, np.int8)
    label[4:16, 4:20, 4:11] = 1
    label[4:16, 4:20, 11:18] = 2
    return label


@pytest.fixture
def sparse_source(tmp_path):
    """Batches of one volume with two annotated slices; the image says where: it is 1 + class there, else 0."""
    label = np.full(SHAPE, -1, np.int8)
    label[[6, 12]] = bright_boxes()[[6, 12]]
    image = (label + 1).astype(np.float32)[None]
    write_case(tmp_path / "store", "a", image, label, sample_locations(label), {}, key="k")
    return BatchSource(tmp_path / "store", ("a",), (8, 12, 10), batch_size=4, seed=3, mirror_axes=(0, 1, 2))


def test_unforced_patches_lie_on_any_annotated_voxel():
    locations = {ANNOTATED: np.array([[5, 6, 7]]), 1: np.array([[15, 6, 7]])}
    generator = np.random.default_rng(0)
    assert choose_lower(generator, (20, 20, 20), (4, 4, 6), locations, foreground=False) == (3, 4, 4)
    assert choose_lower(generator, (20, 20, 20), (4, 4, 6), locations, foreground=True) == (13, 4, 4)


def test_forced_patches_lie_on_annotated_voxels_too_where_there_is_no_foreground():
    locations = {ANNOTATED: np.array([[5, 6, 7]])}
    assert choose_lower(np.random.default_rng(0), (20, 20, 20), (4, 4, 6), locations, foreground=True) == (3, 4, 4)


def test_every_patch_shows_something_annotated(sparse_source):
    for index in range(6):
        assert (make_batch(sparse_source, index).label >= 0).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_most_augmented_patches_show_something_annotated(sparse_source, name):
    source = replace(sparse_source, augmentation=augmentation_named(name))
    shown = [(make_batch(source, index).label >= 0).any(axis=(1, 2, 3)) for index in range(10)]
    assert np.mean(shown) > 0.75  # a slice of one voxel may fall between those of a patch that is drawn smaller


def test_slices_are_the_annotated_ones(sparse_source):
    source = replace(sparse_source, patch_size=(12, 10), mirror_axes=(0, 1))
    for index in range(4):
        assert (make_batch(source, index).label >= 0).all()


def spatial_alone(name):
    """A row without anything that changes intensities, so that image and label can be held against each other."""
    row = augmentation_named(name)
    intensities = ("noise", "blur", "brightness", "contrast", "low_resolution", "inverted_gamma", "gamma")
    others = ("one_intensity", "inversion", "hue", "saturation", "stain")
    return replace(row, **dict.fromkeys((*intensities, *others), 0.0))


@pytest.mark.parametrize("by_device", [False, True])
@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_moved_labels_hold_no_class_where_nobody_annotated(tmp_path, name, by_device):
    # Half of the volume is annotated; the other half's image is far off any class's.
    label = bright_boxes()
    label[:, 12:] = -1
    image = np.where(label < 0, 50.0, label).astype(np.float32)[None]
    write_case(tmp_path / "store", "a", image, label, sample_locations(label), {}, key="k")
    row = replace(spatial_alone(name), image_order=1)
    source = BatchSource(
        tmp_path / "store", ("a",), (12, 16, 14), batch_size=4, seed=3, augmentation=row, mirror_axes=(0, 1, 2)
    )
    seen = set()
    for index in range(4):
        batch = finished(read_batch(source, index), torch.device("cpu")) if by_device else make_batch(source, index)
        moved, shown = np.asarray(batch.label), np.asarray(batch.image)[:, 0]
        seen |= set(np.unique(moved).tolist())
        assert (moved[shown > 40] == -1).all()
        assert (moved[(shown < 10) & (shown > 0.9)] != -1).mean() > 0.9
    assert seen == {-1, 0, 1, 2}


@pytest.mark.parametrize("by_device", [False, True])
def test_a_mirror_from_side_to_side_swaps_classes_and_leaves_ignored_voxels(sparse_source, by_device):
    row = replace(augmentation_named("none"), mirror=True)
    source = replace(sparse_source, patch_size=SHAPE, augmentation=row, sides=Sides(2, (0, 2, 1)), mirror_axes=(2,))
    batch = finished(read_batch(source, 0), torch.device("cpu")) if by_device else make_batch(source, 0)
    expected = np.full(SHAPE, -1)
    expected[[6, 12]] = bright_boxes()[[6, 12]]
    for label in np.asarray(batch.label):
        np.testing.assert_array_equal(label, expected)


def test_dice_on_the_way_counts_annotated_voxels_alone():
    reference = np.array([[1, 1, -1, -1, 0]])
    first, second = (overlap(np.array([[1, 0, *middle, 1]]), reference, 2) for middle in ((0, 1), (1, 0)))
    assert first == second
    assert first.dice() == (0.5,)


@pytest.mark.parametrize(
    ("ignore", "level_targets", "expected"),
    [
        (None, "max_pool", "max_pool"),
        (9, "max_pool", "max_pool_known"),
        (9, "nearest", "nearest"),
        (9, "upsampled_logits", "upsampled_logits"),
    ],
)
def test_sparse_labels_are_pooled_where_they_are_known(make_job, plan, ignore, level_targets, expected):
    configuration = replace(plan.configurations["3d"], network_options={"level_targets": level_targets})
    job = make_job(plan=replace(plan, configurations={"3d": configuration}, ignore=ignore))
    run = start_run(job, lambda: 0.0, lambda _line: None)
    assert run.loss.level_targets == expected


def test_a_training_on_sparse_labels_learns(make_job, store, plan):
    for path in sorted(store.glob("*.safetensors")):
        stored = open_case(store, path.stem)
        label = np.array(stored.label).astype(np.int8)
        label[::2] = -1
        write_case(store, path.stem, np.array(stored.image), label, sample_locations(label), {}, key="k")
    job = make_job(plan=replace(plan, ignore=9))
    train_fold(job, None, report=lambda _line: None)
    epochs = [json.loads(line) for line in (job.folder / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in epochs if entry["event"] == "epoch"]
    assert losses[-1] < losses[0]
    assert all(entry["skipped"] == 0 for entry in epochs if entry["event"] == "epoch")
