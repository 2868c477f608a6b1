from __future__ import annotations

import pytest
import torch

from msseg.networks.build import build_network
from msseg.training import compiling
from msseg.training.compiling import compiled_if_faster


@pytest.fixture
def network(make_configuration):
    """UNet# of two levels: batch norm, and branches at two resolutions."""
    configuration = make_configuration(network="unet_sharp", supervision_weights=(0.5, 0.5))
    return build_network(configuration, 1, 2).train()


def probed(network, monkeypatch, compiler, seconds) -> tuple[object, list[str]]:
    """What is used where a step takes so many `seconds` without and with `compiler`, and the line about it."""
    lines: list[str] = []
    ticks = iter([0.0, seconds[0], 0.0, seconds[1]])
    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(compiling.time, "perf_counter", lambda: next(ticks))
    used = compiled_if_faster(network, (2, 1, 8, 8, 8), torch.device("cpu"), None, lines.append)
    return used, lines


@pytest.mark.parametrize(("seconds", "expected"), [((3.0, 1.5), "used"), ((3.0, 2.95), "not used")])
def test_the_faster_is_taken_and_the_probe_leaves_no_trace(network, monkeypatch, seconds, expected):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    used, lines = probed(network, monkeypatch, lambda module: lambda x: module(x), seconds)
    assert (used is not network) == (expected == "used")
    assert lines[0].endswith(f"; {expected}")
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_compiler_that_fails_is_done_without(network, monkeypatch):
    def broken(_module):
        raise RuntimeError("no compiler here")

    used, lines = probed(network, monkeypatch, broken, (3.0, 3.0))
    assert used is network
    assert "does not work here (RuntimeError)" in lines[0]
