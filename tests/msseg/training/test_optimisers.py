from __future__ import annotations

import pytest
import torch
from torch import nn

from msseg.errors import MssegError
from msseg.training.optimisers import (
    build_optimiser,
    learning_rate_of,
    load_optimiser_tensors,
    optimiser_tensors,
    put_back,
    running_statistics,
    set_learning_rate,
    update_average,
)

ROWS = [("adam", {"amsgrad": True}), ("adamw", {}), ("muon", {}), ("sgd", {"momentum": 0.99, "nesterov": True})]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def descend(optimiser: torch.optim.Optimizer, net: nn.Module, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimiser.zero_grad()
        net(torch.randn(4, 3, generator=generator)).square().sum().backward()
        optimiser.step()


@pytest.mark.parametrize(("name", "options"), ROWS)
def test_the_state_put_back_goes_on_bit_for_bit(name, options):
    net = network()
    optimiser = build_optimiser(name, net, 0.01, 1e-3, options)
    descend(optimiser, net, 3, seed=1)
    other = network()
    other.load_state_dict(net.state_dict())
    again = build_optimiser(name, other, 0.01, 1e-3, options)
    load_optimiser_tensors(again, {key: value.clone() for key, value in optimiser_tensors(optimiser).items()})
    descend(optimiser, net, 3, seed=2)
    descend(again, other, 3, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_the_rate_is_set_for_all_parameters():
    optimiser = build_optimiser("adam", network(), 0.01, 0.0, {})
    set_learning_rate(optimiser, 0.5)
    assert learning_rate_of(optimiser) == 0.5


def test_an_unknown_optimiser_lists_the_known_ones():
    with pytest.raises(MssegError, match="adam, adamw, muon, sgd"):
        build_optimiser("lion", network(), 0.01, 0.0, {})


def test_the_average_starts_fast_and_then_moves_by_its_decay():
    average, net = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(average.weight)
    nn.init.ones_(net.weight)
    update_average(average, net, decay=0.99, updates=0)  # decay (1 + 0) / (10 + 0)
    assert average.weight.item() == pytest.approx(0.9)
    update_average(average, net, decay=0.5, updates=1000)
    assert average.weight.item() == pytest.approx(0.95)


def test_running_statistics_are_averaged_and_counters_copied():
    average, net = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    net.running_mean.fill_(1.0)
    net.num_batches_tracked.fill_(7)
    update_average(average, net, decay=0.5, updates=1000)
    assert average.running_mean.item() == pytest.approx(0.5)
    assert average.num_batches_tracked.item() == 7


def test_what_a_forward_pass_did_to_running_statistics_is_undone():
    net = nn.BatchNorm1d(1)
    before = running_statistics(net)
    net(torch.full((4, 1), float("nan")))
    assert net.running_mean.isnan().all()
    put_back(net, before)
    assert (net.running_mean.item(), net.running_var.item(), net.num_batches_tracked.item()) == (0.0, 1.0, 0)


def test_an_option_that_the_optimiser_does_not_have_is_an_error_that_names_it():
    with pytest.raises(MssegError, match=r"sgd: refuses .*amsgrad"):
        build_optimiser("sgd", nn.Linear(1, 1), 0.1, 0.0, {"amsgrad": True})
