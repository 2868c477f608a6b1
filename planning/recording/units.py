"""Convolution units and the other single operators of networks, as a tape sees them.

Like all parts beside this file they are twins of `msseg.networks`' modules with PyTorch's own operators, those of a GPU
and of autocast. Tests measure and count the originals and compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from planning.recording.tape import INT64_BYTES, Kind, Map, Tape


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
    products = x.channels * math.prod(shape.kernel_size)
    return tape.apply([x], shape.channels, size, keeps=[x], weights=weights, kind="convolution", products=products)


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


def dropped(tape: Tape, x: Map, probability: float) -> Map:
    """Dropout, which keeps its mask; nothing where it never acts."""
    if not probability:
        return x
    return tape.apply([x], x.channels, x.shape, keeps_bytes=tape.size(x.channels, x.shape))


def pooled(tape: Tape, x: Map, factor: Sequence[int], keeps_places: bool, kind: Kind = "other") -> Map:
    """Down by the mean or, with the place of each maximum kept, by the maximum; keeps its input."""
    size = [-(-length // step) for length, step in zip(x.shape, factor, strict=True)]
    places = tape.size(x.channels, size) // tape.value_bytes * INT64_BYTES
    return tape.apply([x], x.channels, size, keeps=[x], keeps_bytes=places if keeps_places else 0, kind=kind)


def linear(tape: Tape, name: str, x: Map, channels: int) -> Map:
    """A matrix product over channels; keeps its input."""
    weights = [tape.weight(f"{name}.weight", channels, x.channels), tape.weight(f"{name}.bias", channels)]
    return tape.apply([x], channels, x.shape, keeps=[x], weights=weights, kind="linear", products=x.channels)
