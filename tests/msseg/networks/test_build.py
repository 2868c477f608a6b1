from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from msseg.networks import build_network
from msseg.networks.names import node_name
from planning.errors import PlanError
from planning.grids import Node
from planning.plan import Configuration

ConfigurationMaker = Callable[..., Configuration]


@pytest.mark.parametrize("size", [(8, 8, 8), (9, 7, 13), (5, 6, 11)])
def test_any_size_gives_logits_of_the_same_size_and_rounded_up_below(
    size: tuple[int, ...], grid_configuration: ConfigurationMaker
) -> None:
    network = build_network(grid_configuration("mss_unet", 3, anisotropic=True), in_channels=1, num_classes=3)
    with torch.no_grad():
        full, half = network(torch.zeros(2, 1, *size)).logits
    assert full.shape == (2, 3, *size)
    assert half.shape == (2, 3, size[0], -(-size[1] // 2), -(-size[2] // 2))


@pytest.mark.parametrize("name", ["mss_unet", "unet_sharp"])
def test_main_output_is_the_first_level_and_runs_no_other_head(
    name: str, grid_configuration: ConfigurationMaker
) -> None:
    network = build_network(grid_configuration(name, 3), in_channels=1, num_classes=3).eval()
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    calls = []
    for head_name, head in network.heads.items():
        head.register_forward_hook(lambda *_, name=head_name: calls.append(name))
    with torch.no_grad():
        main = network.main_output(x)
        assert calls == ["0_2"]
        assert torch.equal(main, network(x).logits[0])


def test_a_branch_computes_only_the_nodes_that_lead_to_it(grid_configuration: ConfigurationMaker) -> None:
    network = build_network(grid_configuration("unet2p", 2), in_channels=1, num_classes=2).eval()
    x = torch.randn(1, 1, 9, 8, generator=torch.Generator().manual_seed(1))
    calls = []
    for name, node in network.nodes.items():
        node.register_forward_hook(lambda *_, name=name: calls.append(name))
    with torch.no_grad():
        branch = network.branch_outputs(x, (Node(0, 1),)).logits
        assert calls == ["0_0", "1_0", "0_1"]
        assert torch.equal(branch[0], network(x).logits[network.branches.index(Node(0, 1))])


def test_branches_are_the_supervised_nodes_of_full_resolution(grid_configuration: ConfigurationMaker) -> None:
    assert build_network(grid_configuration("unet_sharp", 2), 1, 2).branches == (Node(0, 2), Node(0, 1))
    assert build_network(grid_configuration("mss_unet", 2), 1, 2).branches == (Node(0, 2),)


def test_one_supervision_weight_gives_one_level_of_logits(grid_configuration: ConfigurationMaker) -> None:
    plan = replace(grid_configuration("plain_unet", 2), supervision_weights=(1.0,))
    network = build_network(plan, in_channels=1, num_classes=2)
    assert len(network(torch.zeros(1, 1, 8, 8)).logits) == 1


def test_columns_share_their_way_up_where_the_row_says_so(grid_configuration: ConfigurationMaker) -> None:
    network = build_network(grid_configuration("anu_net", 2), 1, 1)
    ups = [name for name in network.edges if "to" in name and name.count("_") == 2]
    assert ups == ["1_to_0", "2_to_1"]


@pytest.mark.parametrize(
    ("per", "names"),
    [
        ("node", ["0_1", "1_1", "0_2"]),
        ("source", ["0_0", "1_0", "0_1"]),
        ("skip", ["0_0_to_0_1", "1_0_to_1_1", "0_0_to_0_2", "0_1_to_0_2"]),
    ],
)
def test_gates_stand_one_a_node_a_source_or_a_skip(
    per: str, names: list[str], grid_configuration: ConfigurationMaker
) -> None:
    assert list(build_network(grid_configuration("anu_net", 2, gate_per=per), 1, 1).gates) == names


def test_a_network_of_fewer_levels_has_the_same_names(grid_configuration: ConfigurationMaker) -> None:
    for name in ("unet_sharp", "anu_net", "render_unet", "vnet_sharp"):
        small, large = (build_network(grid_configuration(name, 2, levels=levels), 1, 1) for levels in (2, 3))
        names = {key for key in small.state_dict() if not key.startswith("heads.1")}
        assert names <= set(large.state_dict())


def test_same_seed_gives_the_same_network_and_leaves_the_global_state_alone(
    grid_configuration: ConfigurationMaker,
) -> None:
    plan = grid_configuration("mss_unet", 2)
    before = torch.random.get_rng_state()
    networks = [build_network(plan, 1, 2, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(before, torch.random.get_rng_state())
    first, again, other = (torch.cat([p.flatten() for p in network.parameters()]) for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_unknown_network_is_refused_with_the_known_ones(grid_configuration: ConfigurationMaker) -> None:
    plan = replace(grid_configuration("mss_unet", 2), network="unet4")
    with pytest.raises(PlanError, match=r"'unet4'.*mss_unet"):
        build_network(plan, 1, 2)


def test_the_name_of_a_node_is_its_place() -> None:
    assert node_name(Node(0, 3)) == "0_3"
