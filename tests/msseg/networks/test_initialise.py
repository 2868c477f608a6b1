from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from msseg.networks import build_network
from msseg.networks.initialise import initialise
from planning.networks import NETWORKS
from planning.plan import Configuration

ConfigurationMaker = Callable[..., Configuration]


def test_first_weights_have_the_spread_of_kaiming_with_slope_one_hundredth(
    grid_configuration: ConfigurationMaker,
) -> None:
    network = build_network(grid_configuration("mss_unet", 3, features=(30, 60, 60)), 1, 3)
    unit = network.nodes["2_0"][1]
    assert unit.convolution.weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / (60 * 27)) ** 0.5, rel=0.01)
    assert unit.convolution.bias.abs().max() == 0
    assert torch.equal(unit.norm_activation.weight, torch.ones(60))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_everything_that_empty_memory_held_is_set(name: str, grid_configuration: ConfigurationMaker) -> None:
    network = build_network(grid_configuration(name, 2), 1, 2)
    for value in [*network.parameters(), *network.buffers()]:
        value.data.fill_(77)
    initialise(network, torch.Generator().manual_seed(0))
    again = build_network(grid_configuration(name, 2), 1, 2)
    for (key, value), expected in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(value, expected), key


def test_batch_norms_start_as_the_identity_and_prelus_with_a_quarter(grid_configuration: ConfigurationMaker) -> None:
    state = build_network(grid_configuration("vnet", 2), 1, 2).state_dict()
    norm = "nodes.1_0.down.norm_activation"
    assert state[f"{norm}.0.running_mean"].tolist() == [0.0] * 4
    assert state[f"{norm}.0.running_var"].tolist() == [1.0] * 4
    assert state[f"{norm}.0.weight"].tolist() == [1.0] * 4
    assert state[f"{norm}.1.weight"].tolist() == [0.25] * 4


def test_a_residual_unit_starts_as_the_way_past_it(grid_configuration: ConfigurationMaker) -> None:
    unit = build_network(grid_configuration("resenc_m", 2), 1, 2).nodes["0_0"][1]
    x = torch.rand(1, 2, 6, 5)
    assert torch.equal(unit(x), x)


def test_a_parameter_without_a_rule_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.zeros(2, 2))

    with pytest.raises(TypeError, match=r"Odd.*matrix"):
        initialise(Odd(), torch.Generator())
