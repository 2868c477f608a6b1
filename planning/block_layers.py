"""The layers of each kind of block in `CHOICES`: what stands at a node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from planning.layers import Layer, Shape, Unit, activation_layers, convolution_layer, pooled, unit_layers

_RECURRENT_STEPS = 2


@dataclass(frozen=True)
class Block:
    """Where a block stands: its first unit, which takes the stride, and how many convolutions (blocks) it has."""

    unit: Unit
    convolutions: int
    is_input: bool = False
    dropout: bool = False


def plain_block(name: str, block: Block, shape: Shape) -> list[Layer]:
    """Units one behind the other, then dropout."""
    layers = _chain(name, [block.unit, *[block.unit.later] * (block.convolutions - 1)], shape)
    return layers + _dropout(name, block, layers[-1])


def residual_block(name: str, block: Block, shape: Shape) -> list[Layer]:
    """Residual units; a unit before them where the image enters."""
    layers = unit_layers(f"{name}.stem", block.unit, shape) if block.is_input else []
    units = [block.unit.later if block.is_input else block.unit, *[block.unit.later] * (block.convolutions - 1)]
    for index, unit in enumerate(units):
        layers += _residual_unit(f"{name}.{index}", unit, layers[-1].shape if layers else shape)
    return layers


def _residual_unit(name: str, unit: Unit, shape: Shape) -> list[Layer]:
    """Two convolutions and a way past them: average pooling where they are strided, a 1-kernel where widths differ."""
    layers = unit_layers(f"{name}.first", unit, shape)
    written = layers[-1].shape
    layers += unit_layers(f"{name}.second", unit.later.but(activation="none"), written)
    widens = unit.in_channels != unit.out_channels
    if max(unit.stride) > 1:
        kind = "pool" if widens else "skip"
        layers.append(Layer(f"{name}.pool", kind, unit.in_channels, pooled(shape, unit.stride), kept=int(widens)))
    if widens:
        layers += unit_layers(f"{name}.past", unit.pointwise.but(bias=False, activation="none"), written)
    return layers + joined(name, unit, written)


def recurrent_block(name: str, block: Block, shape: Shape) -> list[Layer]:
    """A 1-kernel, then recurrent units beside a way past them; each applies one unit three times."""
    entry = convolution_layer(f"{name}.entry", block.unit.but(kernel=(1,) * len(shape)), shape).keeping(1)
    layers, summed = [entry], Layer(f"{name}.sum", "sum", entry.channels, entry.shape, kept=1)
    for index in range(block.convolutions):
        unit = unit_layers(f"{name}.{index}", block.unit.later, entry.shape)
        layers += unit + [summed, *unit] * _RECURRENT_STEPS
    return [*layers, summed]


def vnet_block(name: str, block: Block, shape: Shape) -> list[Layer]:
    """Units beside a way past them: the image, or a convolution whose kernel is its stride."""
    unit, layers = block.unit, list[Layer]()
    if block.is_input:
        units = [unit, *[unit.later] * (block.convolutions - 1)]
    else:
        whole = pooled(shape, unit.stride)
        filled = tuple(length * step for length, step in zip(whole, unit.stride, strict=True))
        layers = unit_layers(f"{name}.down", unit.but(kernel=unit.stride, padding="valid"), filled)
        layers += _dropout(name, block, layers[-1])
        units = [unit.later] * block.convolutions
    if block.is_input:
        units[-1] = units[-1].but(activation="none")
    layers += _chain(f"{name}.units", units, layers[-1].shape if layers else shape)
    return layers + joined(name, unit, layers[-1].shape)


def _chain(name: str, units: list[Unit], shape: Shape) -> list[Layer]:
    layers: list[Layer] = []
    for index, unit in enumerate(units):
        layers += unit_layers(f"{name}.{index}", unit, layers[-1].shape if layers else shape)
    return layers


def joined(name: str, unit: Unit, shape: Shape) -> list[Layer]:
    """Two ways joined, and the activation behind."""
    joined = Layer(f"{name}.sum", "sum", unit.out_channels, shape, kept=int(unit.activation == "prelu"))
    return [joined, *activation_layers(name, unit.activation, unit.out_channels, shape)]


def _dropout(name: str, block: Block, last: Layer) -> list[Layer]:
    return [Layer(f"{name}.dropout", "product", last.channels, last.shape, kept=1)] if block.dropout else []


BLOCKS: dict[str, Callable[[str, Block, Shape], list[Layer]]] = {
    "plain": plain_block,
    "residual": residual_block,
    "recurrent": recurrent_block,
    "vnet": vnet_block,
}
