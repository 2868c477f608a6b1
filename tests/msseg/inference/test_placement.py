from __future__ import annotations

import logging

import pytest
import torch

from msseg.errors import ResourceError
from msseg.inference import placement
from msseg.inference.placement import Placement, first_that_fits, is_out_of_memory, placements, score_type

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def heard(caplog):
    """What is said once is said anew in each test."""
    caplog.set_level(logging.WARNING, logger="msseg")  # a quiet command before may have raised it
    placement._say_once.cache_clear()


def ladder(ways: list[Placement]) -> list[tuple[str, str, int]]:
    return [(way.device.type, way.keep_on.type, way.batch_size) for way in ways]


def test_a_full_gpu_takes_smaller_batches_then_main_memory_and_at_last_the_cpu():
    assert ladder(placements(CUDA, 8)) == [
        ("cuda", "cuda", 8),
        ("cuda", "cuda", 2),
        ("cuda", "cuda", 1),
        ("cuda", "cpu", 8),
        ("cuda", "cpu", 2),
        ("cuda", "cpu", 1),
        ("cpu", "cpu", 8),
    ]
    assert ladder(placements(CUDA, 1)) == [("cuda", "cuda", 1), ("cuda", "cpu", 1), ("cpu", "cpu", 1)]
    assert ladder(placements(CPU, 4)) == [("cpu", "cpu", 4)]


def test_the_first_that_fits_answers_and_every_step_down_is_said_once(caplog, monkeypatch):
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    tried, released = [], []

    def attempt(way: Placement) -> str:
        tried.append(way)
        if way.keep_on.type == "cuda" or way.batch_size > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return "labels"

    for _ in range(2):
        assert first_that_fits(placements(CUDA, 8), attempt, lambda: released.append(None)) == "labels"
    assert len(tried) == 2 * 5 and len(released) == 2 * 4
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3 and len(set(said)) == 3
    assert "batches of 2 instead of 8" in said[0] and "main memory" in said[2]


def test_another_error_is_no_reason_to_try_again():
    def attempt(way: Placement) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        first_that_fits(placements(CUDA, 8), attempt)


def test_where_nothing_fits_the_error_says_so(monkeypatch):
    def attempt(way: Placement) -> None:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: not enough memory"
        )

    with pytest.raises(ResourceError, match="memory gave out"):
        first_that_fits(placements(CPU, 1), attempt)


def test_out_of_memory_is_told_from_other_errors():
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(RuntimeError("MPS backend out of memory"))
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("full"))
    assert not is_out_of_memory(RuntimeError("size mismatch")) and not is_out_of_memory(ValueError("out of memory"))


def test_scores_are_halved_where_single_precision_does_not_fit(caplog):
    def needs(value_bytes: int) -> int:
        return 1000 * value_bytes + 100

    assert score_type(needs, None, None) is torch.float32
    assert score_type(needs, 4100, 0) is torch.float32
    assert score_type(needs, None, 4100) is torch.float32 and not caplog.records
    assert score_type(needs, 4099, None) is torch.float16
    assert score_type(needs, None, 2100) is torch.float16
    assert len(caplog.records) == 1 and "half precision" in caplog.text
    with pytest.raises(ResourceError, match="half precision"):
        score_type(needs, 2099, 10**9)
