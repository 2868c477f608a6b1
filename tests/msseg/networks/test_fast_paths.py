"""Each fast path against PyTorch's own operator with the same parameters, in float64 where rounding would blur it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from msseg.networks import norm_activation, unfolded
from msseg.networks.blocks import BlockShape, plain_block
from msseg.networks.build import build_network
from msseg.networks.channels_last import channels_last, serves
from msseg.networks.convolutions import (
    Convolution2d,
    Convolution3d,
    TransposedConvolution2d,
    TransposedConvolution3d,
)
from msseg.networks.norm_activation import InstanceNormActivation
from msseg.networks.units import UnitShape
from msseg.networks.winograd import tile_length


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same(ours: nn.Module, reference: nn.Module, x: torch.Tensor) -> None:
    """Equal results and gradients of input and parameters, in float64, to 1e-9 of the largest value."""
    for seed, (mine, its) in enumerate(zip(ours.parameters(), reference.parameters(), strict=True)):
        value = random(*its.shape, seed=seed + 1)
        mine.data, its.data = value.clone(), value.clone()
    compared = []
    for module in (ours, reference):
        leaf = x.clone().requires_grad_()
        y = module(leaf)
        gradients = torch.autograd.grad(y, (leaf, *module.parameters()), random(*y.shape, seed=99))
        compared.append((y, *gradients))
    for mine, its in zip(*compared, strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-9 * its.abs().max().item())


def test_tiles_take_the_fewest_products_for_a_depth() -> None:
    assert [tile_length(depth) for depth in (4, 5, 6, 8, 10, 12, 20, 40)] == [4, 5, 6, 4, 5, 6, 5, 5]


@pytest.mark.parametrize("depth", [3, 4, 5, 6, 7, 8, 12, 13])
def test_winograd_convolution_equals_the_direct_one_at_any_depth(depth: int) -> None:
    assert_same(Convolution3d(8, 9, 3, padding=1), nn.Conv3d(8, 9, 3, padding=1), random(2, 8, depth, 3, 5))


@pytest.mark.parametrize("depth", [8, 10, 12])
def test_winograd_convolution_keeps_single_precision(depth: int) -> None:
    x = random(1, 32, depth, 6, 6)
    ours = Convolution3d(32, 32, 3, padding=1)
    exact = torch.nn.functional.conv3d(x, ours.weight.double(), ours.bias.double(), padding=1)
    assert (ours(x.float()) - exact).abs().max() < 1e-5 * exact.abs().max()


def test_without_gradients_the_transformed_weight_follows_every_change_of_the_weight() -> None:
    ours = Convolution3d(8, 8, 3, padding=1).double()
    reference = nn.Conv3d(8, 8, 3, padding=1).double()
    x = random(1, 8, 5, 4, 6)
    for seed in (1, 1, 2):
        with torch.no_grad():
            for mine, its in zip(ours.parameters(), reference.parameters(), strict=True):
                value = random(*its.shape, seed=seed)
                mine.copy_(value)
                its.copy_(value)
            torch.testing.assert_close(ours(x), reference(x), rtol=0, atol=1e-9)
    reference.load_state_dict({name: 2 * value for name, value in reference.state_dict().items()})
    ours.load_state_dict(reference.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), reference(x), rtol=0, atol=1e-9)


def test_without_gradients_a_bias_before_a_norm_changes_nothing() -> None:
    unit = UnitShape(3, 8, 8, (3, 3, 3), (1, 1, 1), bias=True, norm="instance", activation="leaky_relu")
    block = plain_block(BlockShape(unit, convolutions=2)).double()
    x = random(1, 8, 5, 4, 6)
    with torch.no_grad():
        fast = block(x)
    torch.testing.assert_close(fast, block(x).detach(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding"),
    [(8, 1, 1, 0), (8, 3, 2, 1), (8, (1, 3, 3), 1, (0, 1, 1)), (1, 3, 1, 1)],
)
def test_other_3d_convolutions_equal_the_stock_ones(channels: int, kernel: int, stride: int, padding: int) -> None:
    assert_same(
        Convolution3d(channels, 9, kernel, stride, padding),
        nn.Conv3d(channels, 9, kernel, stride, padding),
        random(2, channels, 5, 4, 6),
    )


@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_2d_convolution_equals_the_stock_one(bias: bool) -> None:
    assert_same(Convolution2d(4, 3, 1, bias=bias), nn.Conv2d(4, 3, 1, bias=bias), random(2, 4, 5, 6))


@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolutions_equal_the_stock_ones(bias: bool) -> None:
    factor = (1, 2, 3)
    assert_same(
        TransposedConvolution3d(4, 5, factor, stride=factor, bias=bias),
        nn.ConvTranspose3d(4, 5, factor, stride=factor, bias=bias),
        random(2, 4, 3, 2, 4),
    )
    assert_same(
        TransposedConvolution2d(4, 5, (2, 1), stride=(2, 1), bias=bias),
        nn.ConvTranspose2d(4, 5, (2, 1), stride=(2, 1), bias=bias),
        random(2, 4, 3, 2),
    )


@pytest.mark.parametrize("spatial", [(5, 6), (3, 5, 6)])
def test_norm_with_activation_equals_the_two_stock_modules(spatial: tuple[int, ...]) -> None:
    norm = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[len(spatial)]
    reference = nn.Sequential(norm(4, eps=1e-5, affine=True), nn.LeakyReLU(0.01)).double()
    assert_same(InstanceNormActivation(4, 0.01), reference, random(2, 4, *spatial) + 3)


def test_norm_keeps_its_digits_where_the_mean_is_far_from_zero() -> None:
    x = random(1, 2, 40, 40, 40) + 1000
    exact = torch.nn.functional.leaky_relu(torch.nn.functional.instance_norm(x, eps=1e-5), 0.01)
    assert (InstanceNormActivation(2, 0.01)(x.float()) - exact).abs().max() < 1e-3


@pytest.mark.parametrize(("channels", "stride"), [(1, 1), (1, (1, 2, 2)), (6, 2), (6, (2, 1, 3))])
@pytest.mark.parametrize("bias", [True, False])
def test_without_gradients_a_single_small_sample_is_unfolded(
    monkeypatch: pytest.MonkeyPatch, channels: int, stride: int, bias: bool
) -> None:
    monkeypatch.setattr(unfolded, "_VALUES_AT_ONCE", 1)  # row by row
    convolution = Convolution3d(channels, 7, (3, 1, 3), stride, (1, 0, 1), bias=bias).double()
    x = random(1, channels, 6, 7, 5)
    with torch.no_grad():
        ours = convolution(x)
    torch.testing.assert_close(ours, nn.Conv3d.forward(convolution, x).detach(), rtol=0, atol=1e-12)
    assert ours.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
def test_norm_without_gradients_gives_the_same_in_its_inputs_memory(
    monkeypatch: pytest.MonkeyPatch, slope: float
) -> None:
    monkeypatch.setattr(norm_activation, "_SQUARES_AT_ONCE", 100)
    norm = InstanceNormActivation(4, slope).double()
    norm.weight.data, norm.bias.data = random(4), random(4, seed=1)
    x = channels_last(random(2, 4, 3, 5, 6) + 3)
    expected, kept = norm(x).detach(), x.clone()
    with torch.no_grad():
        assert torch.equal(norm(x), expected) and torch.equal(x, kept)
        norm.overwrites = True
        ours = norm(x)
    assert ours.data_ptr() == x.data_ptr()
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_fast_paths_stand_aside_for_autocast_and_half_precision() -> None:
    x = torch.zeros(1, 8, 4, 4, 4)
    assert serves(x)
    assert not serves(x.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not serves(x)
        assert Convolution3d(8, 8, 3, padding=1)(x).dtype == torch.bfloat16


def test_an_activation_in_place_may_follow_a_convolution_without_bias(make_configuration):
    """Nothing between them copies where there is no norm either."""
    configuration = make_configuration(
        network="unet",
        features=(8, 16),
        network_options={"norm": "none", "convolution_bias": False},
    )
    network = build_network(configuration, 1, 2).train()
    network(torch.randn(1, 1, 8, 8, 8)).logits[0].square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
