from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.checkpoint import LATEST, load_checkpoint
from msseg.errors import CheckpointError, DatasetError, ResourceError
from msseg.training.augmentation import augmentation_named
from msseg.training.batches import BatchSource, ReadBatch, make_batch, read_batch
from msseg.training.device_batches import default_augment, device_batches, finished, read_in_order
from msseg.training.log import read_log
from msseg.training.loop import train_fold
from msseg.training.prefetch import BatchRequest

CPU = torch.device("cpu")


@pytest.fixture
def source(store: Path) -> BatchSource:
    return BatchSource(
        store=store,
        case_names=tuple(f"case_{number}" for number in range(6)),
        patch_size=(8, 8, 8),
        batch_size=2,
        seed=3,
        augmentation=augmentation_named("budget"),
        mirror_axes=(0, 1, 2),
    )


def requests(count: int):
    return iter([BatchRequest("training", number) for number in range(count)])


def silent(_line: str) -> None:
    pass


def test_a_batch_read_is_of_the_same_places_as_the_workers(source):
    plain = replace(source, augmentation=None)
    for number in range(5):
        read, made = read_batch(plain, number), make_batch(plain, number)
        np.testing.assert_array_equal(read.image, made.image)
        np.testing.assert_array_equal(read.label, made.label)
        # What is cut out of the middle of a region around a patch is the patch, also where it leaves the case.
        around = read_batch(replace(source, augmentation=augmentation_named("unet_school")), number)
        size = around.image.shape[2:]
        middle = tuple(slice((edge - 8) // 2, (edge - 8) // 2 + 8) for edge in size)
        np.testing.assert_array_equal(around.image[(..., *middle)], made.image)
        np.testing.assert_array_equal(around.label[(slice(None), *middle)], made.label)


@pytest.mark.parametrize("where", ["device", "workers"])
def test_batches_come_in_order_and_do_not_depend_on_who_makes_them(source, where):
    def images(workers: int) -> list[torch.Tensor]:
        made = device_batches({"training": source}, requests(4), workers, CPU, where, silent)
        return [batch.image for batch in made]

    alone, helped = images(0), images(1)
    assert len(alone) == 4
    assert all(torch.equal(one, other) for one, other in zip(alone, helped, strict=True))
    assert not torch.equal(alone[0], alone[1])


@pytest.mark.parametrize("name", ["budget", "nnunet", "unet_school", "none"])
@pytest.mark.parametrize("where", ["device", "workers"])
def test_parts_of_a_batch_are_what_they_are_among_all(source, where, name):
    source = replace(source, augmentation=augmentation_named(name) if name != "none" else None, batch_size=5)

    def batches(rows: tuple[int, int] | None) -> list:
        part = {"training": replace(source, rows=rows)}
        return list(device_batches(part, requests(4), 0, CPU, where, silent))

    parts = zip(*(batches(rows) for rows in ((0, 2), (2, 3), (3, 5))), strict=True)
    for whole, (first, second, third) in zip(batches(None), parts, strict=True):
        torch.testing.assert_close(torch.cat([first.image, second.image, third.image]), whole.image, rtol=0, atol=0)
        torch.testing.assert_close(torch.cat([first.label, second.label, third.label]), whole.label, rtol=0, atol=0)


def test_more_readers_give_the_same_batches(source):
    one, three = (list(read_in_order({"training": source}, requests(7), readers)) for readers in (1, 3))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, three, strict=True))


def test_patches_as_stored_reach_the_device_as_they_are(source):
    read = read_batch(replace(source, augmentation=None), 0)
    batch = finished(read, CPU)
    assert torch.equal(batch.image, torch.from_numpy(read.image))
    assert batch.label.dtype == torch.int16


@pytest.mark.parametrize("readers", [0, 2])
def test_an_error_while_reading_is_named_and_ours_come_as_they_are(source, readers):
    def broken(_source: BatchSource, number: int, _empty: object) -> ReadBatch:
        raise OSError("disk is gone")

    def contradictory(_source: BatchSource, number: int, _empty: object) -> ReadBatch:
        raise DatasetError("case a: broken")

    with pytest.raises(ResourceError, match="training batch 0: OSError: disk is gone"):
        list(read_in_order({"training": source}, requests(2), readers, read=broken))
    with pytest.raises(DatasetError, match="case a"):
        list(read_in_order({"training": source}, requests(2), readers, read=contradictory))


def test_a_reader_that_is_left_early_ends(source):
    batches = read_in_order({"training": source}, requests(50), 2)
    next(batches)
    batches.close()


def test_training_augments_on_the_device_by_default_and_says_how_long_it_waited(make_job):
    lines: list[str] = []
    job = make_job(epochs=1)
    assert default_augment(CPU) == "device"
    train_fold(job, report=lines.append)
    log = read_log(job.folder / "log.jsonl")
    assert log[0]["augment"] == "device"
    assert log[-1]["event"] == "end" and log[-1]["waited_s"] >= 0
    assert "waited for batches" in lines[-1]


def test_a_training_goes_on_augmenting_as_it_began(make_job):
    train_fold(make_job(epochs=1, augment="workers"), report=silent)
    with pytest.raises(CheckpointError, match="augment"):
        train_fold(make_job(epochs=2, augment="device"), report=silent)
    job = make_job(epochs=2)
    train_fold(job, report=silent)
    assert load_checkpoint(job.folder / LATEST).metadata["augment"] == "workers"
