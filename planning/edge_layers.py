"""The layers of each kind of edge in `CHOICES`: what brings features to another level."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from planning.layers import (
    Layer,
    Shape,
    Unit,
    activation_layers,
    norm_layers,
    pooled,
    unit_layers,
    with_kept_inputs,
)

# Max pooling keeps the place of each maximum, an integer as large as this many half-precision values.
_VALUES_OF_A_PLACE = 4


def transposed(name: str, unit: Unit, factor: Shape, shape: Shape) -> list[Layer]:
    """A transposed convolution whose kernel is its stride, to a grid of `shape`."""
    parameters = unit.out_channels * (unit.in_channels * math.prod(factor) + unit.bias)
    return [Layer(f"{name}.convolution", "transposed", unit.out_channels, shape, parameters, unit.in_channels)]


def transposed_norm(name: str, unit: Unit, factor: Shape, shape: Shape) -> list[Layer]:
    """A transposed convolution, then norm and activation."""
    return with_kept_inputs(
        [
            *transposed(name, unit, factor, shape),
            *norm_layers(name, unit.norm, unit.out_channels, shape),
            *activation_layers(name, unit.activation, unit.out_channels, shape),
        ]
    )


def linear(name: str, unit: Unit, factor: Shape, shape: Shape) -> list[Layer]:
    """Interpolation: no parameters, the source's channels."""
    return [Layer(f"{name}.interpolation", "interpolation", unit.in_channels, shape)]


def nearest_convolution(name: str, unit: Unit, factor: Shape, shape: Shape) -> list[Layer]:
    """The nearest neighbour, then a unit of the target's kernel."""
    return _convolved(name, unit, shape)


def nearest_convolution_pair(name: str, unit: Unit, factor: Shape, shape: Shape) -> list[Layer]:
    """The nearest neighbour, then a convolution over each voxel and the next on the axes that go up, no norm."""
    kernel = tuple(2 if step > 1 else 1 for step in factor)
    return _convolved(name, unit.but(kernel=kernel, norm="none"), shape)


def _convolved(name: str, unit: Unit, shape: Shape) -> list[Layer]:
    # An even kernel is padded behind alone, which the unit, padded on both sides, would make one voxel longer.
    behind = [replace(layer, shape=shape) for layer in unit_layers(name, unit, shape)]
    return with_kept_inputs([*linear(name, unit, (), shape), *behind])


def max_pool(name: str, channels: int, factor: Shape, shape: Shape) -> list[Layer]:
    """The maximum over windows of the factor, from a grid of `shape`."""
    return [Layer(f"{name}.max_pool", "pool", channels, pooled(shape, factor), kept=_VALUES_OF_A_PLACE)]


UPS: dict[str, Callable[[str, Unit, Shape, Shape], list[Layer]]] = {
    "transposed": transposed,
    "transposed_norm": transposed_norm,
    "linear": linear,
    "nearest_convolution": nearest_convolution,
    "nearest_convolution_pair": nearest_convolution_pair,
}
