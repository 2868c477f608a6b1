"""The parts of networks as a tape sees them: what each one computes, by the sizes of its tensors.

The twins of `msseg.networks`' units, blocks, edges, gates, heads and renderers with PyTorch's own operators, those of a
GPU and of autocast. A test measures the originals and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from planning.tape import INT64_BYTES, Map, Tape, Weight

_RECURRENT_STEPS = 2
_SCHOOL_LEAST_HIDDEN = 2


@dataclass(frozen=True)
class Unit:
    """A convolution to `channels`, and what follows it; `activation` may be "none" as well."""

    channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    bias: bool
    norm: str
    activation: str
    padding: str = "zeros"

    @property
    def later(self) -> Unit:
        """The same unit without its stride."""
        return replace(self, stride=(1,) * len(self.stride))

    @property
    def pointwise(self) -> Unit:
        """The same unit with a kernel of one voxel and no stride."""
        return replace(self.later, kernel_size=(1,) * len(self.stride))


def unit(tape: Tape, name: str, x: Map, shape: Unit) -> Map:
    """Convolution, norm, activation."""
    return norm_activation(tape, name, convolution(tape, name, x, shape), shape)


def norm_activation(tape: Tape, name: str, x: Map, shape: Unit) -> Map:
    """Norm and activation; behind an instance norm, which returns a view, autograd copies the gradient twice."""
    is_view = shape.norm == "instance"
    return activation(tape, name, norm(tape, name, x, shape.norm), shape.activation, is_view)


def convolution(tape: Tape, name: str, x: Map, shape: Unit) -> Map:
    """Keeps its input."""
    if shape.padding == "mirrored":
        x = _mirrored(tape, x, shape.kernel_size)
    margins = [edge - 1 if shape.padding in ("valid", "mirrored") else 0 for edge in shape.kernel_size]
    size = [-(-(length - m) // step) for length, m, step in zip(x.shape, margins, shape.stride, strict=True)]
    weights = [tape.weight(f"{name}.weight", shape.channels, x.channels, *shape.kernel_size)]
    if shape.bias:
        weights.append(tape.weight(f"{name}.bias", shape.channels))
    return tape.apply([x], shape.channels, size, keeps=[x], weights=weights)


def _mirrored(tape: Tape, x: Map, kernel_size: Sequence[int]) -> Map:
    """Continued by its reflection, one axis after the other."""
    for axis, edge in enumerate(kernel_size):
        if edge > 1:
            size = [length + (edge - 1) * (axis == index) for index, length in enumerate(x.shape)]
            x = tape.apply([x], x.channels, size)
    return x


def norm(tape: Tape, name: str, x: Map, kind: str) -> Map:
    """Keeps its input."""
    if kind == "none":
        return x
    weights = [tape.weight(f"{name}.norm.{which}", x.channels) for which in ("weight", "bias")]
    return tape.apply([x], x.channels, x.shape, keeps=[x], weights=weights)


def activation(tape: Tape, name: str, x: Map, kind: str, is_view: bool = False) -> Map:
    """Keeps its result, which takes the place of its input; PReLU keeps both."""
    if kind == "none":
        return x
    size = tape.size(x.channels, x.shape)
    if kind == "prelu":
        slope = tape.weight(f"{name}.slope", x.channels)
        return tape.apply([x], x.channels, x.shape, keeps=[x], weights=[slope], scratch=size)
    scratch = 2 * size if is_view else 0
    return tape.apply([x], x.channels, x.shape, in_place=True, keeps_result=True, scratch=scratch)


def added(tape: Tape, x: Map, y: Map) -> Map:
    """The sum of two tensors; keeps neither."""
    return tape.apply([x, y], x.channels, x.shape, backward="same")


@dataclass(frozen=True)
class Block:
    """A block's first unit, how many convolutions (blocks) it has, whether it takes the image, and its dropout."""

    unit: Unit
    convolutions: int
    is_input: bool
    dropout: float


def plain_block(tape: Tape, name: str, x: Map, block: Block) -> Map:
    """Units one after another, then dropout, which keeps its mask."""
    for index in range(block.convolutions):
        x = unit(tape, f"{name}.{index}", x, block.unit.later if index else block.unit)
    if block.dropout:
        x = tape.apply([x], x.channels, x.shape, keeps_bytes=tape.size(x.channels, x.shape))
    return x


def residual_block(tape: Tape, name: str, x: Map, block: Block) -> Map:
    """Residual units one after another, a unit before them where the image enters."""
    if block.is_input:
        x = unit(tape, f"{name}.stem", x, block.unit)
    for index in range(block.convolutions):
        first = index == 0 and not block.is_input
        x = _residual_unit(tape, f"{name}.{index}", x, block.unit if first else block.unit.later)
    return x


def _residual_unit(tape: Tape, name: str, x: Map, shape: Unit) -> Map:
    past = x
    if max(shape.stride) > 1:
        past = pooled(tape, x, shape.stride, keeps_places=False)
    result = unit(tape, f"{name}.first", x, shape)
    result = unit(tape, f"{name}.second", result, replace(shape.later, activation="none"))
    if x.channels != shape.channels:
        past = unit(tape, f"{name}.past", past, replace(shape.pointwise, bias=False, activation="none"))
    return activation(tape, name, added(tape, result, past), shape.activation)


def recurrent_block(tape: Tape, name: str, x: Map, block: Block) -> Map:
    """A 1-kernel, then recurrent units beside a way past them."""
    entry = result = convolution(tape, f"{name}.entry", x, replace(block.unit, kernel_size=(1,) * len(x.shape)))
    for index in range(block.convolutions):
        image, own = result, f"{name}.{index}"
        result = unit(tape, own, image, block.unit.later)
        for _ in range(_RECURRENT_STEPS):
            result = unit(tape, own, added(tape, image, result), block.unit.later)
    return added(tape, entry, result)


def vnet_block(tape: Tape, name: str, x: Map, block: Block) -> Map:
    """Units beside a way past them: the image where it enters, else a convolution whose kernel is its stride."""
    later = block.unit.later
    last = replace(later, activation="none")
    if block.is_input:
        result = x
        for index in range(block.convolutions):
            shape = last if index == block.convolutions - 1 else later
            result = unit(tape, f"{name}.{index}", result, shape)
        past = tape.leaf(later.channels, x.shape)
        return activation(tape, name, added(tape, result, past), later.activation)
    stride = block.unit.stride
    down = unit(tape, f"{name}.down", x, replace(block.unit, kernel_size=stride, padding="valid"))
    result = down
    if block.dropout:
        result = tape.apply([down], down.channels, down.shape)
    for index in range(block.convolutions):
        result = unit(tape, f"{name}.{index}", result, later)
    return activation(tape, name, added(tape, result, down), later.activation)


BLOCKS: Final[dict[str, Callable[[Tape, str, Map, Block], Map]]] = {
    "plain": plain_block,
    "residual": residual_block,
    "recurrent": recurrent_block,
    "vnet": vnet_block,
}


@dataclass(frozen=True)
class Edge:
    """From a level to another: the factor on each axis, the unit of the target's level, the size of its grid."""

    unit: Unit
    factor: tuple[int, ...]
    size: tuple[int, ...]


def transposed(tape: Tape, name: str, x: Map, edge: Edge) -> Map:
    """Up by a transposed convolution; keeps its input."""
    channels = edge.unit.channels
    weights = [tape.weight(f"{name}.weight", x.channels, channels, *edge.factor)]
    if edge.unit.bias:
        weights.append(tape.weight(f"{name}.bias", channels))
    return tape.apply([x], channels, edge.size, keeps=[x], weights=weights)


def transposed_norm(tape: Tape, name: str, x: Map, edge: Edge) -> Map:
    """Up by a transposed convolution, then norm and activation."""
    return norm_activation(tape, name, transposed(tape, name, x, edge), edge.unit)


def interpolated(tape: Tape, _name: str, x: Map, edge: Edge) -> Map:
    """Up by interpolation; keeps nothing."""
    return tape.apply([x], x.channels, edge.size)


def nearest_convolution(tape: Tape, name: str, x: Map, edge: Edge) -> Map:
    """Up to the nearest neighbour, then a unit."""
    return unit(tape, name, interpolated(tape, name, x, edge), edge.unit)


def nearest_convolution_pair(tape: Tape, name: str, x: Map, edge: Edge) -> Map:
    """Up to the nearest neighbour, one voxel more behind, then a unit without norm over each voxel and the next."""
    kernel = tuple(2 if factor > 1 else 1 for factor in edge.factor)
    x = interpolated(tape, name, x, edge)
    x = tape.apply([x], x.channels, [length + edge - 1 for length, edge in zip(x.shape, kernel, strict=True)])
    return unit(tape, name, x, replace(edge.unit, kernel_size=kernel, padding="valid", norm="none"))


def pooled(tape: Tape, x: Map, factor: Sequence[int], keeps_places: bool) -> Map:
    """Down by the mean or, with the place of each maximum kept, by the maximum; keeps its input."""
    size = [-(-length // step) for length, step in zip(x.shape, factor, strict=True)]
    places = tape.size(x.channels, size) // tape.value_bytes * INT64_BYTES
    return tape.apply([x], x.channels, size, keeps=[x], keeps_bytes=places if keeps_places else 0)


UPS: Final[dict[str, Callable[[Tape, str, Map, Edge], Map]]] = {
    "transposed": transposed,
    "transposed_norm": transposed_norm,
    "linear": interpolated,
    "nearest_convolution": nearest_convolution,
    "nearest_convolution_pair": nearest_convolution_pair,
}


def gated(tape: Tape, name: str, feature: Map, signal: Map, width: int, norm_kind: str) -> Map:
    """The feature times the attention that its own and the signal's 1-kernels give; keeps both factors."""
    ones = (1,) * len(feature.shape)
    shape = Unit(width, ones, ones, bias=True, norm=norm_kind, activation="none")
    of_signal = unit(tape, f"{name}.signal", signal, shape)
    joined = added(tape, of_signal, unit(tape, f"{name}.feature", feature, shape))
    joined = tape.apply([joined], width, joined.shape, keeps_result=True)
    attention = unit(tape, f"{name}.attention", joined, replace(shape, channels=1))
    attention = tape.apply([attention], 1, attention.shape, keeps_result=True)
    return tape.apply(
        [feature, attention],
        feature.channels,
        feature.shape,
        keeps=[feature, attention],
        scratch=tape.size(feature.channels, feature.shape),
    )


def linear_head(tape: Tape, name: str, x: Map, shape: Unit, _level_kernel: tuple[int, ...]) -> Map:
    """One convolution."""
    return convolution(tape, name, x, shape)


def school_head(tape: Tape, name: str, x: Map, shape: Unit, level_kernel: tuple[int, ...]) -> Map:
    """A convolution to at least two channels, ReLU, and a 1-kernel."""
    hidden = max(_SCHOOL_LEAST_HIDDEN, shape.channels)
    first = unit(tape, f"{name}.first", x, replace(shape, channels=hidden, kernel_size=level_kernel))
    return convolution(tape, name, first, shape.pointwise)


HEADS: Final[dict[str, Callable[[Tape, str, Map, Unit, tuple[int, ...]], Map]]] = {
    "linear": linear_head,
    "school": school_head,
}


def linear(tape: Tape, name: str, x: Map, channels: int) -> Map:
    """A matrix product over channels; keeps its input."""
    weights: list[Weight] = [tape.weight(f"{name}.weight", channels, x.channels), tape.weight(f"{name}.bias", channels)]
    return tape.apply([x], channels, x.shape, keeps=[x], weights=weights)
