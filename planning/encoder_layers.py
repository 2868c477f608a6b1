"""The layers of the stages of the literature's encoders, which stand at the nodes of column 0."""

from __future__ import annotations

from collections.abc import Callable

from planning.block_layers import Block, joined, plain_block
from planning.encoders import ENCODERS
from planning.layers import Layer, Shape, Unit, pooled, unit_layers
from planning.rules import KERNEL_EDGE

_STEM_EDGE = 7
_BOTTLENECK = 4
# The indices of a maximum's place, and the maximum.
_KEPT_BY_POOL = 5


def vgg16_stage(name: str, index: int, block: Block, shape: Shape) -> list[Layer]:
    """Two or three units with biases; the step to the level is the edge's max pooling."""
    ones = (1,) * len(shape)
    unit = block.unit.but(kernel=(KERNEL_EDGE,) * len(shape), stride=ones, bias=True)
    return plain_block(name, Block(unit, ENCODERS["vgg16"].convolutions[index], dropout=block.dropout), shape)


def resnet101_stage(name: str, index: int, block: Block, shape: Shape) -> list[Layer]:
    """The stem, a 7-kernel on the image; or bottleneck blocks, the first of them behind max pooling."""
    unit = block.unit.but(bias=False)
    if index == 0:
        stem = unit.but(kernel=(_STEM_EDGE,) * len(shape))
        return plain_block(name, Block(stem, 1, dropout=block.dropout), shape)
    unit, layers = unit.but(kernel=(KERNEL_EDGE,) * len(shape)), list[Layer]()
    if index == 1:
        layers = [Layer(f"{name}.pool", "pool", unit.in_channels, pooled(shape, unit.stride), kept=_KEPT_BY_POOL)]
        unit = unit.but(stride=(1,) * len(shape))
    units = [unit, *[unit.later] * (ENCODERS["resnet101"].convolutions[index] - 1)]
    for number, one in enumerate(units):
        layers += _bottleneck(f"{name}.{number}", one, layers[-1].shape if layers else shape)
    if block.dropout:
        layers.append(Layer(f"{name}.dropout", "product", unit.out_channels, layers[-1].shape, kept=1))
    return layers


def _bottleneck(name: str, unit: Unit, shape: Shape) -> list[Layer]:
    """A 1-kernel to a quarter of the width, a kernel that takes the stride, a 1-kernel back, and a way past them."""
    narrow = unit.out_channels // _BOTTLENECK
    layers = unit_layers(f"{name}.first", unit.pointwise.but(out_channels=narrow), shape)
    layers += unit_layers(f"{name}.second", unit.but(in_channels=narrow, out_channels=narrow), shape)
    written = layers[-1].shape
    layers += unit_layers(f"{name}.third", unit.pointwise.but(in_channels=narrow, activation="none"), written)
    if unit.in_channels != unit.out_channels or max(unit.stride) > 1:
        past = unit.but(kernel=(1,) * len(shape), activation="none")
        layers += unit_layers(f"{name}.past", past, shape)
    return layers + joined(name, unit, written)


STAGES: dict[str, Callable[[str, int, Block, Shape], list[Layer]]] = {
    "vgg16": vgg16_stage,
    "resnet101": resnet101_stage,
}
# How a stage is reached from the level above it.
DOWN_TO_STAGE: dict[str, str] = {"vgg16": "max_pool", "resnet101": "strided"}
