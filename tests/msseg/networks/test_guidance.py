from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from msseg.networks import build_network
from msseg.networks.grid_network import GridNetwork
from msseg.networks.guidance import GUIDES, BatchNorm, BottleneckGuide, BranchGuide, GuideShape
from planning.network_row import CHOICES
from planning.networks import NETWORKS
from planning.plan import Configuration
from planning.weights import uniform_weights

ConfigurationMaker = Callable[..., Configuration]


@pytest.fixture
def guided(make_configuration: ConfigurationMaker) -> ConfigurationMaker:
    """Makes a tiny configuration of a network with guidance; all its heads are supervised."""

    def make(network: str, guidance: str = "branches", dimensions: int = 2, levels: int = 3) -> Configuration:
        row = NETWORKS[network]
        encoder, decoder = row.depths(levels)
        return make_configuration(
            (8,) * dimensions,
            network=network,
            features=tuple(4 * 2**level for level in range(levels)),
            strides=((2,) * dimensions,) * (levels - 1),
            kernel_sizes=((3,) * dimensions,) * levels,
            encoder_convolutions=encoder,
            decoder_convolutions=decoder,
            supervision_weights=uniform_weights(len(row.supervised(levels))),
            network_options={"guidance": guidance},
        )

    return make


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def set_linear(guide: BranchGuide, weight: list[list[float]]) -> None:
    """A shallow guide's one linear layer, without bias."""
    linear = guide.layers[-1]
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weight))
        linear.bias.zero_()


def test_every_kind_that_a_row_may_name_has_its_module():
    assert {"none", *GUIDES} == set(CHOICES["guidance"])


def test_a_branch_is_judged_by_the_mean_and_the_largest_value_of_each_channel():
    guide = BranchGuide(GuideShape(2, in_channels=2, num_foreground=2, is_deep=False)).eval()
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, -4.0]]]])
    # Means 3 and -1, largest values 6 and 0; a batch norm that has seen nothing divides by √(1 + 1e-5).
    set_linear(guide, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]])
    torch.testing.assert_close(guide(features), torch.tensor([[[3.0, -1.0], [6.0, 6.0]]]), rtol=1e-4, atol=1e-4)


def test_the_bottleneck_is_judged_by_the_largest_value_of_its_convolution():
    guide = BottleneckGuide(GuideShape(2, in_channels=1, num_foreground=1, is_deep=True)).eval()
    with torch.no_grad():
        guide.convolution.weight.copy_(torch.tensor([2.0, -1.0]).reshape(2, 1, 1, 1))
        guide.convolution.bias.copy_(torch.tensor([0.0, 1.0]))
    features = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]]]])
    assert guide(features).tolist() == [[[6.0, 3.0]]]  # 2 · 3, and 1 - (-2)


@pytest.mark.parametrize(
    ("kind", "is_deep", "expected"),
    [
        ("branches", False, 4 * 6 + 4 * (2 * 6 + 1)),
        ("branches", True, 4 * 6 + 3 * (2 * 6 + 1) + 2 * 3 + 4 * (3 + 1)),
        ("bottleneck", True, 4 * (6 + 1)),
    ],
)
def test_parameters_are_those_of_the_specification(kind, is_deep, expected):
    assert parameters(GUIDES[kind](GuideShape(3, in_channels=6, num_foreground=2, is_deep=is_deep))) == expected


def test_a_batch_of_one_is_normalised_by_the_running_statistics():
    norm = BatchNorm(2).train()
    norm(torch.tensor([[0.0, 2.0], [4.0, 2.0]]))
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    vector = torch.tensor([[1.0, 3.0]])
    expected = (vector - mean) / torch.sqrt(variance + norm.eps)
    torch.testing.assert_close(norm(vector), expected)
    torch.testing.assert_close(norm.running_mean, mean)


@pytest.mark.parametrize("kind", sorted(GUIDES))
@pytest.mark.parametrize("batch", [1, 2])
def test_every_parameter_has_a_finite_gradient_whatever_the_batch(kind, batch):
    torch.manual_seed(0)
    guide = GUIDES[kind](GuideShape(3, in_channels=4, num_foreground=2, is_deep=True)).train()
    guide(torch.randn(batch, 4, 2, 3, 1)).square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in guide.parameters())


def test_eight_branches_of_unet_sharp_are_guided_and_the_two_deepest_by_two_layers(guided):
    network = build_network(guided("unet_sharp", levels=5), 1, 2)
    assert set(network.guides) == {"0_1", "0_2", "0_3", "0_4", "1_3", "2_2", "3_1", "4_0"}
    deep = {name for name, guide in network.guides.items() if len(guide.layers) > 3}
    assert deep == {"3_1", "4_0"}


def test_unet_3p_is_guided_at_the_bottleneck_by_default(guided):
    configuration = replace(guided("unet3p_unified"), network_options={})
    assert list(build_network(configuration, 1, 2).guides) == ["2_0"]


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("guidance", sorted(GUIDES))
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_any_network_can_be_guided(name, guidance, dimensions, guided):
    configuration = guided(name, guidance, dimensions, levels=2)
    with torch.device("meta"):
        network = GridNetwork(configuration, 1, 3)
        outputs = network(torch.zeros(2, 1, *configuration.patch_size))
    expected = len(configuration.supervision_weights) if guidance == "branches" else 1
    assert [tuple(presence.shape) for presence in outputs.presence] == [(2, 2, 2)] * expected


def test_logits_do_not_depend_on_the_guides(guided):
    """In training too the loss sees the ungated outputs."""
    network = build_network(guided("unet_sharp"), 1, 3).eval()
    image = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    before = network(image).logits
    for parameter in network.guides.parameters():
        torch.nn.init.constant_(parameter, -7.0)
    for expected, found in zip(before, network(image).logits, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_one_branch_asks_only_the_guides_on_its_way(guided):
    network = build_network(guided("unet_sharp"), 1, 2).eval()
    shallow = network.branch_outputs(torch.zeros(1, 1, 8, 8), network.branches[1:])
    assert len(shallow.logits) == 1 and len(shallow.presence) == 1
