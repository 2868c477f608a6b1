"""What a node computes: blocks of convolution units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from msseg.networks.operators import OPERATORS
from msseg.networks.units import ACTIVATIONS, ConvolutionUnit, UnitShape, convolution
from planning.part_rules import RECURRENT_STEPS


@dataclass(frozen=True)
class BlockShape:
    """Where a block stands: its first unit, which takes the stride, and how many convolutions (blocks) it has.

    `is_input`: it takes the image. `dropout` is the probability that dropout acts with.
    """

    unit: UnitShape
    convolutions: int
    is_input: bool = False
    dropout: float = 0.0

    @property
    def later(self) -> UnitShape:
        """The unit of every convolution but the first."""
        return self.unit.but(in_channels=self.unit.out_channels, stride=(1,) * self.unit.dimensions)


class PlainBlock(nn.Sequential):
    """Convolution units one after another, the first one strided, then dropout."""

    def __init__(self, shape: BlockShape):
        units = [shape.unit, *[shape.later] * (shape.convolutions - 1)]
        super().__init__(*(ConvolutionUnit(unit) for unit in units))
        self.dropout = shape.dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = super().forward(x)
        return F.dropout(result, self.dropout, self.training) if self.dropout else result


class ResidualUnit(nn.Module):
    """Two convolutions and a way past them: average pooling where they are strided, a 1-kernel where widths differ.

    The last norm starts at 0, so that the unit starts as the way past (nnU-Net 2.8.1's basic block, after ResNet-D).
    """

    def __init__(self, shape: UnitShape):
        super().__init__()
        later = shape.but(in_channels=shape.out_channels, stride=(1,) * shape.dimensions, activation="none")
        self.first, self.second = ConvolutionUnit(shape), ConvolutionUnit(later)
        self.second.starts_at_zero = True
        self.stride = shape.stride
        self.average_pool = OPERATORS[shape.dimensions].average_pool
        widens = shape.in_channels != shape.out_channels
        projection = shape.pointwise.but(bias=False, activation="none")
        self.past = ConvolutionUnit(projection) if widens else nn.Identity()
        self.activation = ACTIVATIONS[shape.activation](shape.out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        past = self.average_pool(x, self.stride, ceil_mode=True) if max(self.stride) > 1 else x
        result: torch.Tensor = self.activation(self.second(self.first(x)) + self.past(past))
        return result


class RecurrentUnit(nn.Module):
    """One convolution unit, applied to its own result added to its input, twice after the first time."""

    def __init__(self, shape: UnitShape):
        super().__init__()
        self.unit = ConvolutionUnit(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.unit(x)
        for _ in range(RECURRENT_STEPS):
            result = self.unit(x + result)
        return result


class RecurrentBlock(nn.Module):
    """A 1-kernel to the block's width, then recurrent units beside a way past them: R2U-Net's block."""

    def __init__(self, shape: BlockShape):
        super().__init__()
        self.entry = convolution(shape.unit.but(kernel_size=(1,) * shape.unit.dimensions))
        self.units = nn.Sequential(*(RecurrentUnit(shape.later) for _ in range(shape.convolutions)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        result: torch.Tensor = x + self.units(x)
        return result


class VNetInput(nn.Module):
    """Convolution units to which the image, its channels repeated to their width, is added before the activation."""

    def __init__(self, shape: BlockShape):
        super().__init__()
        units = [shape.unit, *[shape.later] * (shape.convolutions - 1)]
        units[-1] = units[-1].but(activation="none")
        self.units = nn.Sequential(*(ConvolutionUnit(unit) for unit in units))
        self.activation = ACTIVATIONS[shape.unit.activation](shape.unit.out_channels)
        self.copies = -(-shape.unit.out_channels // shape.unit.in_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        units = self.units(x)
        image = torch.cat([x] * self.copies, dim=1)[:, : units.shape[1]]
        result: torch.Tensor = self.activation(units + image)
        return result


class VNetBlock(nn.Module):
    """A convolution whose kernel is its stride, then units beside a way past them, dropout of channels before these.

    A grid that the stride does not divide is continued by zeros.
    """

    def __init__(self, shape: BlockShape):
        super().__init__()
        stride = shape.unit.stride
        self.stride = stride
        self.down = ConvolutionUnit(shape.unit.but(kernel_size=stride, padding="valid"))
        self.units = nn.Sequential(*(ConvolutionUnit(shape.later) for _ in range(shape.convolutions)))
        self.activation = ACTIVATIONS[shape.unit.activation](shape.unit.out_channels)
        self.dropout = {2: F.dropout2d, 3: F.dropout3d}[shape.unit.dimensions]
        self.probability = shape.dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        down: torch.Tensor = self.down(_filled(x, self.stride))
        kept = self.dropout(down, self.probability, self.training) if self.probability else down
        result: torch.Tensor = self.activation(self.units(kept) + down)
        return result


def _filled(x: torch.Tensor, stride: tuple[int, ...]) -> torch.Tensor:
    """`x` (b, c, *spatial) with zeros behind it to multiples of the stride."""
    missing = [-length % step for length, step in zip(x.shape[2:], stride, strict=True)]
    return F.pad(x, [edge for axis in reversed(missing) for edge in (0, axis)]) if any(missing) else x


def plain_block(shape: BlockShape) -> nn.Module:
    """Convolution units one after another, the first one strided."""
    return PlainBlock(shape)


def residual_block(shape: BlockShape) -> nn.Module:
    """Residual units one after another, the first one strided; the image goes through a convolution unit first."""
    stem = [ConvolutionUnit(shape.unit)] if shape.is_input else []
    first = shape.later if shape.is_input else shape.unit
    units = [first, *[shape.later] * (shape.convolutions - 1)]
    return nn.Sequential(*stem, *(ResidualUnit(unit) for unit in units))


def recurrent_block(shape: BlockShape) -> nn.Module:
    """R2U-Net's block."""
    return RecurrentBlock(shape)


def vnet_block(shape: BlockShape) -> nn.Module:
    """V-Net's block of the encoder."""
    return VNetInput(shape) if shape.is_input else VNetBlock(shape)


BLOCKS: dict[str, Callable[[BlockShape], nn.Module]] = {
    "plain": plain_block,
    "residual": residual_block,
    "recurrent": recurrent_block,
    "vnet": vnet_block,
}
