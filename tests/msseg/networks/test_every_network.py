"""What every network of the table does, in 2D and 3D, with isotropic and anisotropic strides."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from msseg.networks import build_network
from msseg.networks.grid_network import GridNetwork
from msseg.networks.outputs import Outputs
from planning.networks import NETWORKS
from planning.plan import Configuration

ConfigurationMaker = Callable[..., Configuration]

ODD = (11, 9, 10)
CHANNELS, CLASSES = 2, 3

every_network = pytest.mark.parametrize("name", sorted(NETWORKS))
every_grid = pytest.mark.parametrize(("dimensions", "anisotropic"), [(2, False), (2, True), (3, False), (3, True)])


def network_and_image(configuration: Configuration, size: tuple[int, ...] = ODD) -> tuple[GridNetwork, torch.Tensor]:
    network = build_network(configuration, CHANNELS, CLASSES, torch.Generator().manual_seed(1))
    dimensions = configuration.dimensions
    image = torch.randn(2, CHANNELS, *size[:dimensions], generator=torch.Generator().manual_seed(2))
    return network, image


def total(outputs: Outputs) -> torch.Tensor:
    points = [points.logits for points in outputs.points]
    answers = [*outputs.logits, *outputs.presence, *outputs.coarse, *points]
    return torch.stack([answer.square().mean() for answer in answers]).sum()


@every_grid
@every_network
def test_odd_sizes_give_logits_of_their_level_and_every_parameter_a_gradient(
    name: str, dimensions: int, anisotropic: bool, grid_configuration: ConfigurationMaker
) -> None:
    configuration = grid_configuration(name, dimensions, anisotropic)
    network, image = network_and_image(configuration)
    outputs = network(image)
    first = (1 if anisotropic else 2, 2, 2)
    scales = [(1, 1, 1), first, tuple(2 * factor for factor in first)]
    heads = configuration.row.supervised(3)
    assert len(outputs.logits) == len(heads)
    for node, logits in zip(heads, outputs.logits, strict=True):
        scale = scales[node.level]
        rounded_up = [-(-ODD[axis] // scale[axis]) for axis in range(dimensions)]
        assert logits.shape == (2, CLASSES, *rounded_up)
    total(outputs).backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@every_grid
@every_network
def test_in_evaluation_a_loaded_network_answers_the_same_and_main_output_is_the_first(
    name: str, dimensions: int, anisotropic: bool, grid_configuration: ConfigurationMaker
) -> None:
    configuration = grid_configuration(name, dimensions, anisotropic)
    network, image = network_and_image(configuration)
    network(image)  # running statistics that are not the first ones
    network.eval()
    again = build_network(configuration, CHANNELS, CLASSES, torch.Generator().manual_seed(9)).eval()
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        answer = network(image)
        for other in (network(image), again(image)):
            assert all(torch.equal(a, b) for a, b in zip(answer.logits, other.logits, strict=True))
            assert all(torch.equal(a, b) for a, b in zip(answer.presence, other.presence, strict=True))
        assert torch.equal(network.main_output(image), answer.logits[0])


@pytest.mark.parametrize("dimensions", [2, 3])
@every_network
def test_five_levels_reach_every_node_of_the_grid(
    name: str, dimensions: int, grid_configuration: ConfigurationMaker
) -> None:
    configuration = grid_configuration(name, dimensions, features=(2, 2, 2, 2, 2))
    network, image = network_and_image(configuration, size=(32, 32, 32))
    assert set(network.nodes) == {f"{node.level}_{node.column}" for node in network.grid.sources}
    with torch.no_grad():
        assert network(image).logits[0].isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 16)])
@every_network
def test_an_image_smaller_than_the_strides_has_logits_in_2d(
    name: str, size: tuple[int, ...], grid_configuration: ConfigurationMaker
) -> None:
    network, _ = network_and_image(grid_configuration(name, 2))
    with torch.no_grad():
        assert network.eval().main_output(torch.zeros(1, CHANNELS, *size)).shape == (1, CLASSES, *size)


@pytest.mark.parametrize("padding", ["mirrored", "valid"])
def test_the_schools_unet_keeps_the_size_with_every_padding(
    padding: str, grid_configuration: ConfigurationMaker
) -> None:
    for dimensions, anisotropic in [(2, False), (3, True)]:
        configuration = grid_configuration("unet_school", dimensions, anisotropic, padding=padding)
        network, image = network_and_image(configuration)
        outputs = network(image)
        assert outputs.logits[0].shape == (2, CLASSES, *ODD[:dimensions])
        total(outputs).backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
