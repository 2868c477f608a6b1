"""The stages of the literature's 2D encoders as blocks of the grid; their weights are read by `encoder_weights`.

Norm, activation and padding are the row's; kernels, biases, widths and depths the encoder's; strides the plan's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from msseg.networks.blocks import BlockShape, PlainBlock
from msseg.networks.units import ACTIVATIONS, ConvolutionUnit, UnitShape
from planning.encoders import ENCODERS
from planning.part_rules import BOTTLENECK, STEM_EDGE

_EDGE = 3


@dataclass(frozen=True)
class StageShape:
    """A stage: its number, and the unit that its convolutions are like, with the plan's stride to its level."""

    index: int
    unit: UnitShape
    dropout: float


class Bottleneck(nn.Module):
    """ResNet's block: a 1-kernel to a quarter of the width, a 3-kernel that takes the stride, a 1-kernel back.

    The way past it is a strided 1-kernel where stride or width change.
    """

    def __init__(self, shape: UnitShape):
        super().__init__()
        narrow, ones = shape.out_channels // BOTTLENECK, (1,) * shape.dimensions
        middle = shape.but(in_channels=narrow, out_channels=narrow)
        self.first = ConvolutionUnit(shape.pointwise.but(out_channels=narrow))
        self.second = ConvolutionUnit(middle)
        self.third = ConvolutionUnit(shape.pointwise.but(in_channels=narrow, activation="none"))
        changes = shape.in_channels != shape.out_channels or max(shape.stride) > 1
        past = shape.but(kernel_size=ones, activation="none")
        self.past = ConvolutionUnit(past) if changes else nn.Identity()
        self.activation = ACTIVATIONS[shape.activation](shape.out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.activation(self.third(self.second(self.first(x))) + self.past(x))
        return result


class ResNetStage(nn.Sequential):
    """Bottleneck blocks, max pooling before them where the plan's step is not theirs, dropout behind them."""

    def __init__(self, shape: StageShape, pool: tuple[int, ...]):
        first = shape.unit
        later = first.but(in_channels=first.out_channels, stride=(1,) * first.dimensions)
        super().__init__(
            *(Bottleneck(unit) for unit in (first, *[later] * (ENCODERS["resnet101"].convolutions[shape.index] - 1)))
        )
        self.pool, self.dropout = pool, shape.dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pool:
            x = F.max_pool2d(x, _EDGE, stride=self.pool, padding=_EDGE // 2)
        result: torch.Tensor = super().forward(x)
        return F.dropout(result, self.dropout, self.training) if self.dropout else result


def vgg16_stage(shape: StageShape) -> nn.Module:
    """Two or three convolution units; the step to its level is the edge's max pooling."""
    ones = (1,) * shape.unit.dimensions
    unit = shape.unit.but(kernel_size=(_EDGE,) * len(ones), stride=ones, bias=True)
    return PlainBlock(BlockShape(unit, ENCODERS["vgg16"].convolutions[shape.index], dropout=shape.dropout))


def resnet101_stage(shape: StageShape) -> nn.Module:
    """The stem, a 7-kernel on the image; or bottleneck blocks, the first of them behind max pooling."""
    unit = shape.unit.but(bias=False)
    if shape.index == 0:
        stem = unit.but(kernel_size=(STEM_EDGE,) * unit.dimensions)
        return PlainBlock(BlockShape(stem, 1, dropout=shape.dropout))
    unit = unit.but(kernel_size=(_EDGE,) * unit.dimensions)
    if shape.index > 1:
        return ResNetStage(StageShape(shape.index, unit, shape.dropout), pool=())
    whole = unit.but(stride=(1,) * unit.dimensions)
    return ResNetStage(StageShape(shape.index, whole, shape.dropout), pool=unit.stride)


STAGES: dict[str, Callable[[StageShape], nn.Module]] = {"vgg16": vgg16_stage, "resnet101": resnet101_stage}
