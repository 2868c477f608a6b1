"""The operations of a network as records: what each writes, learns, multiplies and keeps. Nothing is built."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

Shape = tuple[int, ...]

CONVOLUTIONS = ("convolution", "transposed")


@dataclass(frozen=True)
class Layer:
    """One operation on one sample: it writes `channels` values at each position of `shape`.

    Layers of one `name` share their `parameters`. `products` counts the multiply-adds behind one written value, `kept`
    the values that stay in memory for the way back for each written one. `kind` is convolution, transposed, linear,
    norm, activation, pool, skip (a way past a block that is pooled and nothing else), interpolation, concatenation,
    sum, product or points.
    """

    name: str
    kind: str
    channels: int
    shape: Shape
    parameters: int = 0
    products: int = 0
    kept: int = 0

    @property
    def values(self) -> int:
        """How many values it writes."""
        return self.channels * math.prod(self.shape)

    def keeping(self, kept: int) -> Layer:
        """This layer with another number of kept values."""
        return replace(self, kept=kept)


@dataclass(frozen=True)
class Unit:
    """Convolution, norm, activation: names of `CHOICES`, the activation also "none"."""

    in_channels: int
    out_channels: int
    kernel: Shape
    stride: Shape
    bias: bool
    norm: str
    activation: str
    padding: str = "zeros"

    def but(self, **changes: Any) -> Unit:
        """This unit with some values replaced."""
        return replace(self, **changes)

    @property
    def pointwise(self) -> Unit:
        """This unit with a kernel of one voxel and no stride."""
        ones = (1,) * len(self.kernel)
        return self.but(kernel=ones, stride=ones)

    @property
    def later(self) -> Unit:
        """This unit behind itself."""
        return self.but(in_channels=self.out_channels, stride=(1,) * len(self.kernel))


def unit_layers(name: str, unit: Unit, shape: Shape) -> list[Layer]:
    """The layers of a unit that sees a grid of `shape`."""
    convolution = convolution_layer(name, unit, shape)
    behind = [
        *norm_layers(name, unit.norm, unit.out_channels, convolution.shape),
        *activation_layers(name, unit.activation, unit.out_channels, convolution.shape),
    ]
    return with_kept_inputs([convolution, *behind])


def convolution_layer(name: str, unit: Unit, shape: Shape) -> Layer:
    """The convolution of a unit."""
    padding = [0 if unit.padding == "valid" else edge // 2 * 2 for edge in unit.kernel]
    axes = zip(shape, padding, unit.kernel, unit.stride, strict=True)
    written = tuple((length + added - edge) // step + 1 for length, added, edge, step in axes)
    products = unit.in_channels * math.prod(unit.kernel)
    parameters = unit.out_channels * (products + unit.bias)
    return Layer(f"{name}.convolution", "convolution", unit.out_channels, written, parameters, products)


def norm_layers(name: str, norm: str, channels: int, shape: Shape) -> list[Layer]:
    """A norm with its scale and shift, or nothing."""
    return [] if norm == "none" else [Layer(f"{name}.norm", "norm", channels, shape, parameters=2 * channels)]


def activation_layers(name: str, activation: str, channels: int, shape: Shape) -> list[Layer]:
    """An activation, which keeps its result; PReLU has a slope a channel and keeps its input as well."""
    if activation == "none":
        return []
    slopes = channels if activation == "prelu" else 0
    return [Layer(f"{name}.{activation}", "activation", channels, shape, parameters=slopes, kept=1)]


def with_kept_inputs(layers: Iterable[Layer]) -> list[Layer]:
    """The layers one behind the other, where a norm, a PReLU or a convolution keeps what the one before it wrote."""
    result: list[Layer] = []
    for layer in layers:
        keeps = layer.kind in (*CONVOLUTIONS, "norm") or layer.name.endswith(".prelu")
        if keeps and result:
            result[-1] = result[-1].keeping(max(1, result[-1].kept))
        result.append(layer)
    return result


def pooled(shape: Shape, factor: Shape) -> Shape:
    """The grid after pooling or a strided convolution; borders that are cut count as well."""
    return tuple(-(-length // step) for length, step in zip(shape, factor, strict=True))
