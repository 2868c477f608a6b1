from __future__ import annotations

import functools
import itertools
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from msseg.errors import DatasetError, ResourceError
from msseg.training.batches import Batch, BatchSource
from msseg.training.prefetch import BatchRequest, batches_in_order, death_cause, request_sequence

SOURCES = {"training": BatchSource(Path("nowhere"), ("a",), (2, 2, 2), 1, seed=0)}


def numbered(source: BatchSource, number: int) -> Batch:
    return Batch(np.full((1, 1, 1), number, np.float32), np.zeros((1, 1), np.int16))


def killed_once(marker: Path, source: BatchSource, number: int) -> Batch:
    if number == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return numbered(source, number)


def always_killed(source: BatchSource, number: int) -> Batch:
    os.kill(os.getpid(), signal.SIGKILL)
    return numbered(source, number)


def unreadable(source: BatchSource, number: int) -> Batch:
    if number == 1:
        raise OSError("disk is gone")
    return numbered(source, number)


def contradictory(source: BatchSource, number: int) -> Batch:
    raise DatasetError("case a: broken")


def numbers(count: int, workers: int, make, reports: list[str] | None = None) -> list[int]:
    requests = iter([BatchRequest("training", number) for number in range(count)])
    report = (reports if reports is not None else []).append
    return [int(batch.image[0, 0, 0]) for batch in batches_in_order(SOURCES, requests, workers, report, make)]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_come_in_order_whatever_the_number_of_workers(workers):
    assert numbers(12, workers, numbered) == list(range(12))


def test_a_killed_worker_is_named_with_its_signal_and_no_batch_is_lost(tmp_path):
    reports: list[str] = []
    made = numbers(9, 2, functools.partial(killed_once, tmp_path / "killed"), reports)
    assert made == list(range(9))
    assert len(reports) == 1
    assert "killed by signal 9: probably out of memory" in reports[0]
    assert "going on with 1 worker" in reports[0]


def test_a_worker_that_keeps_dying_ends_the_training_with_the_cause():
    with pytest.raises(ResourceError, match="killed by signal 9: probably out of memory"):
        numbers(3, 1, always_killed)


def test_an_error_in_a_worker_arrives_with_its_text_and_trace():
    with pytest.raises(ResourceError, match="training batch 1: OSError: disk is gone") as caught:
        numbers(3, 1, unreadable)
    assert "unreadable" in str(caught.value.__cause__.__cause__)  # type: ignore[union-attr]


def test_an_error_of_ours_arrives_as_it_is():
    with pytest.raises(DatasetError, match="case a: broken"):
        numbers(1, 1, contradictory)


def test_an_epochs_training_batches_are_followed_by_its_validation_batches():
    wanted = list(itertools.islice(request_sequence(1, steps_per_epoch=3, validation_batches=2), 8))
    assert wanted == [
        ("training", 1),
        ("training", 2),
        ("validation", 0),
        ("validation", 1),
        ("training", 3),
        ("training", 4),
        ("training", 5),
        ("validation", 2),
    ]


def test_the_cause_is_the_first_exit_that_the_pool_did_not_make_itself():
    assert death_cause([-15, -9]) == "killed by signal 9: probably out of memory"
    assert death_cause([-15, -11]).startswith("killed by signal 11")
    assert death_cause([0, 3]) == "it exited with code 3"
    assert death_cause([0, None]) == death_cause([255]) == "cause unknown"
