"""Networks under torch.compile and torch.export; the fast paths stand aside there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import pytest
import torch

from msseg.networks import build_network
from msseg.networks.grid_network import GridNetwork
from planning.plan import Configuration

ConfigurationMaker = Callable[..., Configuration]

# One of each kind of block, way up, gate and norm.
COMPILED = ["anu_net", "attention_r2unet", "plain_unet", "resenc_m", "unet3p_unified", "unet_school", "vnet_sharp"]
# Besides, supervision and rendered points; every structure of the table is exported for ONNX (pipeline/test_export.py).
EXPORTED = [*COMPILED, "mss_unet", "render_unet"]


@pytest.fixture(autouse=True)
def compiler_without_its_own_warnings() -> Iterator[None]:
    """Lets PyTorch's tracing warn about itself, and starts it afresh."""
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch._dynamo.reset()


def network_and_image(configuration: Configuration) -> tuple[GridNetwork, torch.Tensor]:
    network = build_network(configuration, 1, 2, torch.Generator().manual_seed(1))
    size = (8, 12, 8)[: configuration.dimensions]
    return network, torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_network_answers_and_learns_as_the_eager_one(
    name: str, grid_configuration: ConfigurationMaker
) -> None:
    network, image = network_and_image(grid_configuration(name, 2, levels=2, dropout=0.0, guidance="none"))
    expected = network(image).logits
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)(image).logits
    for one, other in zip(compiled, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * other.abs().max().item())
    torch.stack([logits.square().mean() for logits in compiled]).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_network_takes_any_batch_and_answers_as_the_eager_one(
    name: str, dimensions: int, grid_configuration: ConfigurationMaker
) -> None:
    network, image = network_and_image(
        grid_configuration(name, dimensions, anisotropic=True, levels=2 if dimensions == 3 else 3)
    )
    network.eval()
    with torch.no_grad():
        exported = torch.export.export(network, (image,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        answer, expected = exported.module()(image[:1]), network(image[:1])
    for one, other in zip(answer.logits, expected.logits, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * other.abs().max().item())


@pytest.mark.parametrize("padding", ["mirrored", "valid"])
def test_networks_that_mirror_can_be_exported(padding: str, grid_configuration: ConfigurationMaker) -> None:
    network, image = network_and_image(grid_configuration("unet_school", 2, padding=padding))
    network.eval()
    with torch.no_grad():
        exported = torch.export.export(network, (image,))
        torch.testing.assert_close(exported.module()(image).logits[0], network(image).logits[0])
