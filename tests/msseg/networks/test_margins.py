from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from msseg.networks import build_network
from msseg.networks.convolutions import mirrored
from msseg.networks.grid_network import GridNetwork
from planning.errors import PlanError
from planning.grids import Node
from planning.plan import Configuration

ConfigurationMaker = Callable[..., Configuration]

WIDER = 32


def unpadded(configuration: Configuration) -> GridNetwork:
    return build_network(configuration, 1, 2, torch.Generator().manual_seed(1)).double().eval()


@pytest.mark.parametrize("anisotropic", [False, True])
@pytest.mark.parametrize(
    "name", ["unet_school", "unet2p", "unet_sharp", "unet3p", "unet3p_unified", "attention_unet", "anu_net"]
)
def test_without_padding_the_answer_is_that_on_an_image_mirrored_by_hand(
    name: str, anisotropic: bool, grid_configuration: ConfigurationMaker
) -> None:
    network = unpadded(grid_configuration(name, 2, anisotropic, padding="valid", guidance="none"))
    image = torch.randn(1, 1, 13, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    scales = [(1, 1), (1, 2), (2, 4)] if anisotropic else [(1, 1), (2, 2), (4, 4)]
    with torch.no_grad():
        small = network(image).logits
        large = network(mirrored(image, [(WIDER, WIDER)] * 2)).logits
    for node, logits, wider in zip(network.supervised, small, large, strict=True):
        for axis, scale in enumerate(scales[node.level]):
            wider = wider.narrow(axis + 2, WIDER // scale, -(-image.shape[axis + 2] // scale))
        torch.testing.assert_close(logits, wider, rtol=0, atol=1e-12)


def test_without_padding_nothing_is_seen_beyond_the_reach(grid_configuration: ConfigurationMaker) -> None:
    network = unpadded(grid_configuration("unet_school", 2, padding="valid"))
    first = torch.randn(1, 1, 64, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    second = first.clone()
    second[:, :, 40:] += 1
    with torch.no_grad():
        difference = (network.main_output(first) - network.main_output(second)).abs().amax((0, 1, 3))
    # Two convolutions on level 0, of level 1 two, of level 2 two; going up one for the pair and two, twice; the head's.
    reach = network._margins.logits[Node(0, 2)][0]
    assert reach == 26
    assert difference[: 40 - reach].max() == 0
    assert difference[40:].min() > 0


def test_margins_of_two_levels_by_hand(grid_configuration: ConfigurationMaker) -> None:
    network = unpadded(grid_configuration("unet", 2, features=(2, 2), padding="valid", up="transposed"))
    # Level 0 loses 2; below, ceil(2 / 2) + 2 = 3; back up 6, and 2 in the decoder.
    assert network._margins.logits == {Node(0, 1): (8, 8)}
    assert network._margins.after[Node(0, 0), Node(0, 1)] == (4, 4)


def test_a_network_that_cannot_go_without_padding_says_what_would(grid_configuration: ConfigurationMaker) -> None:
    with pytest.raises(PlanError, match=r"down=strided, encoder_block=vnet, expected down=max_pool"):
        unpadded(grid_configuration("vnet", 2, padding="valid"))
