from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from msseg.networks import build_network
from msseg.networks.grid_network import GridNetwork
from msseg.networks.pruning import prunable_levels, pruned_configuration, pruned_weights
from planning.errors import PlanError
from planning.grids import Node
from planning.networks import NETWORKS
from planning.plan import Configuration

ConfigurationMaker = Callable[..., Configuration]
LEVELS = 4


@pytest.fixture
def nested(make_configuration: ConfigurationMaker) -> ConfigurationMaker:
    """Makes four narrow levels of a network with a loss at every branch of full resolution."""

    def make(network: str, dimensions: int = 2, anisotropic: bool = False, **changes: object) -> Configuration:
        first = (1,) + (2,) * (dimensions - 1) if anisotropic else (2,) * dimensions
        kernel = (1,) + (3,) * (dimensions - 1) if anisotropic else (3,) * dimensions
        features = (4, 6, 8, 10)
        settings = {
            "network": network,
            "features": features,
            "strides": (first, *((2,) * dimensions,) * 2),
            "kernel_sizes": (kernel, *((3,) * dimensions,) * 3),
            "supervision_weights": (0.4, 0.3, 0.3),
        }
        return make_configuration(**{"patch_size": (8,) * dimensions, **settings, **changes})

    return make


def used(configuration: Configuration) -> GridNetwork:
    """The network after a step in training mode, so that its running statistics are not those of the start."""
    network = build_network(configuration, in_channels=2, num_classes=3)
    torch.manual_seed(0)
    with torch.no_grad():
        network.train()(torch.randn(2, 2, *configuration.patch_size) + 1)
    return network.eval()


@pytest.mark.parametrize("anisotropic", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(
    "name", ["unet2p", "unet_sharp", "anu_net", "render_unet", "point_unet2p", "vnet2p", "vnet_sharp"]
)
def test_a_pruned_network_answers_to_the_bit_as_the_branch_of_the_whole_one(
    name: str, dimensions: int, anisotropic: bool, nested: ConfigurationMaker
) -> None:
    assert_levels_answer_as_branches(nested(name, dimensions, anisotropic))


@pytest.mark.parametrize(
    "options",
    [
        {"encoder": "vgg16"},
        {"guidance": "branches"},
        {"guidance": "bottleneck"},
        {"padding": "valid"},
        {"dropout": 0.5},
        {"gate": "attention", "gate_per": "source"},
        {"points": "upsampled"},
    ],
)
def test_so_it_does_with_other_parts(options: dict[str, object], nested: ConfigurationMaker) -> None:
    assert_levels_answer_as_branches(nested("unet_sharp", patch_size=(16, 16), network_options=options))


def assert_levels_answer_as_branches(configuration: Configuration) -> None:
    """Every level's network gives the logits of the whole network's branch, to the bit, with fewer weights."""
    whole = used(configuration)
    x = torch.randn(2, 2, *configuration.patch_size, generator=torch.Generator().manual_seed(1))
    sizes = []
    for level in range(1, LEVELS):
        small = pruned_configuration(configuration, level)
        network = build_network(small, in_channels=2, num_classes=3)
        network.load_state_dict(pruned_weights(whole.state_dict(), small))
        with torch.no_grad():
            found = network.eval().main_output(x)
            assert torch.equal(found, whole.branch_outputs(x, [Node(0, level)]).logits[0])
        sizes.append(len(network.state_dict()))
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("name", "channels", "counts"),
    [
        ("unet2p", 3, (103_041, 519_138, 2_236_227, 9_163_428)),
        ("unet_sharp", 3, (103_041, 556_002, 2_531_139, 10_748_580)),
        ("anu_net", 1, (103_812, 513_387, 2_191_829, 8_950_594)),
        ("render_unet", 1, (127_721, 669_869, 2_914_383, 11_969_554)),
    ],
)
def test_the_levels_have_the_printed_numbers_of_parameters(
    name: str, channels: int, counts: tuple[int, ...], make_configuration: ConfigurationMaker
) -> None:
    # The papers count one head in UNet++ and UNet#; here level d has d of them, 33 parameters each.
    configuration = make_configuration(
        (32, 32),
        network=name,
        features=NETWORKS[name].features(5, 2),
        strides=((2, 2),) * 4,
        kernel_sizes=((3, 3),) * 5,
        supervision_weights=(0.25,) * 4,
    )
    for level, count in enumerate(counts, start=1):
        with torch.device("meta"):
            network = GridNetwork(pruned_configuration(configuration, level), channels, 1)
        assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_the_cut_configuration_has_its_first_levels_and_the_weights_of_its_heads(nested: ConfigurationMaker) -> None:
    small = pruned_configuration(nested("unet2p", anisotropic=True), 2)
    assert small.features == (4, 6, 8)
    assert small.strides == ((1, 2), (2, 2))
    assert small.kernel_sizes == ((1, 3), (3, 3), (3, 3))
    assert (len(small.encoder_convolutions), len(small.decoder_convolutions)) == (3, 2)
    assert small.supervision_weights == (0.5, 0.5)  # of .4, .3, .3 the deepest branch's is gone


def test_the_deepest_level_of_a_sharp_network_leaves_out_its_coarse_heads_alone(nested: ConfigurationMaker) -> None:
    configuration = nested("unet_sharp", supervision_weights=(1 / 6,) * 6)
    whole = used(configuration).state_dict()
    small = pruned_weights(whole, pruned_configuration(configuration, 3))
    assert {name.split(".")[1] for name in set(whole) - set(small)} == {"1_2", "2_1", "3_0"}
    assert {name.split(".")[0] for name in set(whole) - set(small)} == {"heads"}


def test_pruned_weights_are_copies(nested: ConfigurationMaker) -> None:
    configuration = nested("unet2p")
    whole = used(configuration).state_dict()
    for tensor in pruned_weights(whole, pruned_configuration(configuration, 1)).values():
        tensor.fill_(7)
    assert not any((tensor == 7).all() for tensor in whole.values())


def test_branches_that_no_loss_reached_are_no_levels(nested: ConfigurationMaker) -> None:
    assert prunable_levels(nested("unet2p")) == (1, 2, 3)
    assert prunable_levels(nested("unet2p", supervision_weights=(0.5, 0.5))) == (2, 3)


def test_a_grid_that_holds_no_smaller_one_is_refused_with_the_networks_that_can(nested: ConfigurationMaker) -> None:
    with pytest.raises(PlanError, match=r"plain_unet: its grid \(plain\) cannot be pruned; those of unet2p"):
        pruned_configuration(nested("plain_unet"), 1)


def test_a_network_without_deep_supervision_is_refused_with_what_to_do(nested: ConfigurationMaker) -> None:
    configuration = nested("unet2p", supervision_weights=(1.0,))
    with pytest.raises(PlanError, match=r"X\[0,3\] alone has learnt to answer.*most_levels"):
        pruned_configuration(configuration, 1)


@pytest.mark.parametrize("level", [0, 4])
def test_a_level_that_does_not_exist_is_refused_with_those_that_do(level: int, nested: ConfigurationMaker) -> None:
    with pytest.raises(PlanError, match=f"found level {level} to prune to, expected one of 1, 2, 3"):
        pruned_configuration(nested("unet2p"), level)
