from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from msseg.networks.blocks import BLOCKS, BlockShape
from msseg.networks.units import ConvolutionUnit, UnitShape, norm_activation


def unit_shape(channels: int, width: int, kernel: int = 3, stride: int = 1, **changes: object) -> UnitShape:
    shape = UnitShape(2, channels, width, (kernel,) * 2, (stride,) * 2, True, "none", "relu")
    return shape.but(**changes)


def constant(module: nn.Module, weight: float) -> nn.Module:
    """The module with every weight set to one value, biases to 0."""
    for parameter in module.parameters():
        parameter.data.fill_(weight if parameter.ndim > 1 else 0)
    return module


def test_a_plain_block_strides_in_its_first_convolution_alone() -> None:
    block = BLOCKS["plain"](BlockShape(unit_shape(1, 4, stride=2), convolutions=3))
    assert [unit.convolution.stride for unit in block] == [(2, 2), (1, 1), (1, 1)]
    assert block(torch.zeros(1, 1, 7, 8)).shape == (1, 4, 4, 4)


def test_dropout_acts_in_training_and_has_no_place_in_the_state() -> None:
    shape = BlockShape(unit_shape(1, 8), convolutions=1)
    plain, dropped = BLOCKS["plain"](shape), BLOCKS["plain"](BlockShape(shape.unit, 1, dropout=0.5))
    assert list(plain.state_dict()) == list(dropped.state_dict())
    dropped.load_state_dict(plain.state_dict())
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(1)
    there, here = plain(x) > 0, dropped(x) > 0
    assert 0.4 < here.sum() / there.sum() < 0.6
    assert torch.equal(dropped.eval()(x), plain(x))


def test_a_recurrent_unit_convolves_three_times_with_one_kernel() -> None:
    block = BLOCKS["recurrent"](BlockShape(unit_shape(1, 1), convolutions=1))
    constant(block, 0.0)
    block.entry.weight.data.fill_(2.0)
    block.units[0].unit.convolution.weight.data[0, 0, 1, 1] = 0.5
    # x = 2 · 4 = 8; y0 = 4, y1 = (8 + 4) / 2 = 6, y2 = (8 + 6) / 2 = 7; the block adds x.
    assert block(torch.full((1, 1, 3, 3), 4.0)).unique().tolist() == [15.0]


def test_the_v_nets_input_block_adds_the_image_to_every_channel() -> None:
    shape = BlockShape(unit_shape(2, 5, kernel=5), convolutions=1, is_input=True)
    block = constant(BLOCKS["vnet"](shape), 0.0)
    x = torch.rand(1, 2, 4, 3)
    assert torch.equal(block(x), x[:, [0, 1, 0, 1, 0]])


def test_the_v_nets_block_goes_down_by_its_stride_and_adds_what_came() -> None:
    block = constant(BLOCKS["vnet"](BlockShape(unit_shape(1, 1, kernel=5, stride=2), convolutions=2)), 0.0)
    block.down.convolution.weight.data.fill_(1.0)
    x = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    # Windows of 2 × 2, those at the border filled with zeros: 1+2+4+5, 3+6, 7+8, 9.
    assert block(x).tolist() == [[[[12.0, 9.0], [15.0, 9.0]]]]
    assert block.down.convolution.kernel_size == (2, 2)
    assert [unit.convolution.kernel_size for unit in block.units] == [(5, 5), (5, 5)]


def test_the_v_nets_dropout_takes_whole_channels() -> None:
    shape = BlockShape(unit_shape(1, 64, kernel=5, stride=2), convolutions=1, dropout=0.5)
    block = BLOCKS["vnet"](shape)
    seen = []
    block.units.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    torch.manual_seed(1)
    block(torch.rand(1, 1, 6, 6))
    alive = seen[0].flatten(2).abs().amax(2).count_nonzero()
    block.eval()(torch.rand(1, 1, 6, 6))
    assert 0.2 < alive / seen[1].flatten(2).abs().amax(2).count_nonzero() < 0.8


def test_a_residual_unit_averages_what_it_strides_over_and_widens_it_without_a_bias() -> None:
    block = BLOCKS["residual"](BlockShape(unit_shape(1, 2, stride=2), convolutions=1))
    unit = constant(block, 0.0)[0]
    unit.past.convolution.weight.data.copy_(torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1))
    assert unit.past.convolution.bias is None
    x = torch.tensor([[1.0, 3.0, 5.0], [3.0, 5.0, 7.0], [1.0, 1.0, 4.0]])[None, None]
    averages = [[3.0, 6.0], [1.0, 4.0]]
    assert block(x)[0].tolist() == [averages, [[3 * value for value in row] for row in averages]]


def test_a_residual_block_that_sees_the_image_has_a_stem_before_its_units() -> None:
    shape = BlockShape(unit_shape(3, 4), convolutions=2, is_input=True)
    assert [type(part).__name__ for part in BLOCKS["residual"](shape)] == [
        "ConvolutionUnit",
        "ResidualUnit",
        "ResidualUnit",
    ]
    assert len(BLOCKS["residual"](BlockShape(unit_shape(3, 4), convolutions=2))) == 2


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "none"])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_norm_and_activation_equal_the_stock_ones(norm: str, kind: str, dimensions: int) -> None:
    shape = UnitShape(dimensions, 3, 3, (1,) * dimensions, (1,) * dimensions, True, norm, kind)
    x = 3 + torch.randn(2, 3, *(4,) * dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    stock = {"instance": F.instance_norm, "batch": _batch_norm, "none": lambda y: y}[norm](x)
    stock = {"relu": F.relu, "leaky_relu": F.leaky_relu, "none": lambda y: y}[kind](stock)
    torch.testing.assert_close(norm_activation(shape).double()(x.clone()), stock, rtol=0, atol=1e-12)


def _batch_norm(x: torch.Tensor) -> torch.Tensor:
    return F.batch_norm(x, None, None, training=True)


@pytest.mark.parametrize("size", [(5, 6), (2, 3), (1, 1), (1, 7)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_mirrored_convolution_reflects_at_any_size(size: tuple[int, int], stride: int) -> None:
    unit = ConvolutionUnit(unit_shape(1, 2, kernel=5, stride=stride, padding="mirrored"))
    x = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(1))
    continued = x
    for axis in (2, 3):
        mirror = list(range(size[axis - 2])) + list(range(size[axis - 2] - 2, 0, -1))
        positions = [mirror[i % len(mirror)] for i in range(-2, size[axis - 2] + 2)]
        continued = continued.index_select(axis, torch.tensor(positions))
    expected = F.conv2d(continued, unit.convolution.weight, unit.convolution.bias, stride).relu()
    torch.testing.assert_close(unit(x), expected)
