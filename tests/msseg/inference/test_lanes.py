from __future__ import annotations

import contextlib
import threading

import pytest
import torch

from msseg.inference.answers import Answer
from msseg.inference.lanes import Lanes
from msseg.inference.memory import cpu_batch, lanes_for
from msseg.inference.passes import Passes

CPU = torch.device("cpu")


@pytest.fixture
def four_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_cores_are_divided_without_a_rest():
    assert [lanes_for(parts, 8) for parts in (0, 1, 2, 3, 7, 9)] == [1, 1, 2, 2, 4, 8]
    assert [lanes_for(parts, 6) for parts in (4, 5, 6)] == [3, 3, 6]


def test_each_lane_takes_a_patch_and_all_no_more_than_a_large_one():
    assert cpu_batch(40 * 56 * 40, cores=2) == 2
    assert cpu_batch(32**3, cores=2) == 2 * 4
    assert cpu_batch(40 * 56 * 40, cores=16) == 8  # eleven would fit, but do not divide the cores
    assert cpu_batch(128**3, cores=16) == 1


@pytest.mark.parametrize("size", [1, 3, 4, 6])
def test_answers_come_in_the_order_of_the_batch(four_cores, size):
    lanes, seen = Lanes(), []

    def forward(tiles):
        seen.append((threading.get_ident(), len(tiles), torch.get_num_threads()))
        return Answer(2 * tiles, tiles[:, :1])

    batch = torch.arange(3.0 * size).reshape(size, 3)
    with lanes.open(contextlib.nullcontext):
        answer = lanes.shared(forward)(batch)
    assert torch.equal(answer.logits, 2 * batch) and torch.equal(answer.presence, batch[:, :1])
    assert sum(length for _, length, _ in seen) == size
    assert all(cores == 4 // lanes_for(size, 4) for _, _, cores in seen)
    assert torch.get_num_threads() == 4


def test_where_no_lanes_are_open_the_caller_computes(four_cores):
    found = []
    Lanes().shared(lambda tiles: found.append(threading.get_ident()) or Answer(tiles))(torch.zeros(4, 1))
    assert found == [threading.get_ident()]


def test_what_a_lane_raises_reaches_the_caller_and_the_lanes_end(four_cores):
    def forward(tiles):
        raise RuntimeError("not enough memory")

    lanes, before = Lanes(), threading.active_count()
    with pytest.raises(RuntimeError, match="not enough memory"), lanes.open(contextlib.nullcontext):
        lanes.shared(forward)(torch.zeros(4, 1))
    assert threading.active_count() == before


def test_lanes_of_a_session_compute_without_gradients(four_cores):
    modes = []
    network = torch.nn.Conv2d(1, 1, 1)
    network.register_forward_hook(lambda *_: modes.append(torch.is_inference_mode_enabled()))
    passes = Passes([network])
    with passes.session(CPU):
        assert passes.on(CPU)(torch.zeros(4, 1, 2, 2)).logits.is_inference()
    assert modes == [True] * 4 and not torch.is_inference_mode_enabled()
