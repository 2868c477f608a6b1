from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from msseg.networks import build_network
from msseg.networks.grid_network import GridNetwork
from planning.errors import PlanError
from planning.networks import NETWORKS
from planning.plan import Configuration

ConfigurationMaker = Callable[..., Configuration]


@pytest.fixture
def configuration(make_configuration: ConfigurationMaker) -> ConfigurationMaker:
    """Makes a configuration that supervises every decoder level alike."""

    def make(
        network: str,
        features: tuple[int, ...],
        strides: tuple[tuple[int, ...], ...],
        kernel_sizes: tuple[tuple[int, ...], ...],
        patch_size: tuple[int, ...],
    ) -> Configuration:
        return make_configuration(
            patch_size,
            network=network,
            features=features,
            strides=strides,
            kernel_sizes=kernel_sizes,
            supervision_weights=(1 / len(strides),) * len(strides),
        )

    return make


@pytest.fixture
def small(configuration: ConfigurationMaker) -> ConfigurationMaker:
    """Makes three levels of the row's own widths on a small patch."""

    def make(network: str, dimensions: int, anisotropic: bool = False) -> Configuration:
        first = (1,) + (2,) * (dimensions - 1) if anisotropic else (2,) * dimensions
        kernel = (1,) + (3,) * (dimensions - 1) if anisotropic else (3,) * dimensions
        return configuration(
            network,
            NETWORKS[network].features(3, dimensions),
            (first, (2,) * dimensions),
            (kernel, (3,) * dimensions, (3,) * dimensions),
            (8,) * dimensions,
        )

    return make


@pytest.fixture
def kits19(configuration: ConfigurationMaker) -> ConfigurationMaker:
    """Makes the full-resolution plan of the MSS U-Net's authors, axes (z, y, x), from its first kernel."""
    return lambda first_kernel: configuration(
        "mss_unet",
        (30, 60, 120, 240, 320, 320),
        ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
        (first_kernel, *((3, 3, 3),) * 5),
        (48, 192, 192),
    )


def on_meta(row_changes: dict[str, int], plan: Configuration) -> GridNetwork:
    with torch.device("meta"):
        return GridNetwork(replace(NETWORKS[plan.network], **row_changes), plan, in_channels=1, num_classes=3)


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_mss_unet_has_the_parameters_of_its_public_code_on_kits19(kits19: ConfigurationMaker) -> None:
    plan = kits19(first_kernel=(1, 3, 3))
    assert count(on_meta({}, plan)) == 29_642_540
    assert count(on_meta({"decoder_kernel_level": 0}, plan)) == 29_593_940
    assert count(on_meta({}, kits19(first_kernel=(3, 3, 3)))) == 29_659_280


def test_mss_unet_without_side_heads_has_2220_parameters_less(kits19: ConfigurationMaker) -> None:
    plan = replace(kits19(first_kernel=(1, 3, 3)), supervision_weights=(1.0,))
    assert count(on_meta({}, plan)) == 29_640_320


def test_plain_unet_of_the_hippocampus_plan_has_as_many_parameters_as_nnu_net(
    configuration: ConfigurationMaker,
) -> None:
    plan = configuration("plain_unet", (32, 64, 128, 256), ((2,) * 3,) * 3, ((3,) * 3,) * 4, (40, 56, 40))
    assert count(on_meta({}, plan)) == 5_603_177


@pytest.mark.parametrize("size", [(8, 8, 8), (9, 7, 13), (5, 6, 11)])
def test_any_size_gives_logits_of_the_same_size_and_rounded_up_below(
    size: tuple[int, ...], small: ConfigurationMaker
) -> None:
    network = build_network(small("mss_unet", 3, anisotropic=True), in_channels=1, num_classes=3)
    with torch.no_grad():
        full, half = network(torch.zeros(2, 1, *size)).logits
    assert full.shape == (2, 3, *size)
    assert half.shape == (2, 3, size[0], -(-size[1] // 2), -(-size[2] // 2))


def test_any_size_works_in_2d_too(small: ConfigurationMaker) -> None:
    network = build_network(small("plain_unet", 2), in_channels=3, num_classes=2)
    with torch.no_grad():
        full, half = network(torch.zeros(1, 3, 17, 10)).logits
    assert (full.shape, half.shape) == ((1, 2, 17, 10), (1, 2, 9, 5))


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_parameter_gets_a_gradient(name: str, dimensions: int, small: ConfigurationMaker) -> None:
    network = build_network(small(name, dimensions), in_channels=1, num_classes=3)
    x = torch.randn(1, 1, *(12,) * dimensions, generator=torch.Generator().manual_seed(1))
    sum(level.square().mean() for level in network(x).logits).backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


def test_main_output_is_the_first_level_and_runs_no_other_head(small: ConfigurationMaker) -> None:
    network = build_network(small("mss_unet", 3), in_channels=1, num_classes=3).eval()
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    calls = []
    for name, head in network.heads.items():
        head.register_forward_hook(lambda *_, name=name: calls.append(name))
    with torch.no_grad():
        main = network.main_output(x)
        assert calls == ["0_2"]
        assert torch.equal(main, network(x).logits[0])


def test_one_supervision_weight_gives_one_level_of_logits(small: ConfigurationMaker) -> None:
    plan = replace(small("plain_unet", 2), supervision_weights=(1.0,))
    network = build_network(plan, in_channels=1, num_classes=2)
    assert len(network(torch.zeros(1, 1, 8, 8)).logits) == 1


def test_same_seed_gives_the_same_network_and_leaves_the_global_state_alone(small: ConfigurationMaker) -> None:
    plan = small("mss_unet", 2)
    before = torch.random.get_rng_state()
    networks = [build_network(plan, 1, 2, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(before, torch.random.get_rng_state())
    first, again, other = (torch.cat([p.flatten() for p in network.parameters()]) for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_first_weights_have_the_spread_of_kaiming_with_slope_one_hundredth(kits19: ConfigurationMaker) -> None:
    network = build_network(kits19((1, 3, 3)), in_channels=1, num_classes=3)
    weight = network.nodes["3_0"][1].convolution.weight
    assert weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / (240 * 27)) ** 0.5, rel=0.01)
    assert network.nodes["3_0"][1].convolution.bias.abs().max() == 0
    assert torch.equal(network.nodes["3_0"][1].norm_activation.weight, torch.ones(240))


def test_state_dict_makes_a_round_trip(small: ConfigurationMaker) -> None:
    plan = small("mss_unet", 3)
    source = build_network(plan, 1, 3, torch.Generator().manual_seed(1))
    target = build_network(plan, 1, 3, torch.Generator().manual_seed(2))
    target.load_state_dict(source.state_dict())
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(source.main_output(x), target.main_output(x))


def test_unknown_network_is_refused_with_the_known_ones(small: ConfigurationMaker) -> None:
    plan = replace(small("mss_unet", 2), network="unet4")
    with pytest.raises(PlanError, match=r"'unet4'.*mss_unet"):
        build_network(plan, 1, 2)
