"""The ways up to a finer level as a tape sees them; the twins of `msseg.networks.edges`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from planning.recording.tape import Map, Tape
from planning.recording.units import Unit, norm_activation, unit


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
    # Its kernel is its stride: each value has one voxel of the input behind it.
    return tape.apply([x], channels, edge.size, keeps=[x], weights=weights, kind="transposed", products=x.channels)


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


UPS: Final[dict[str, Callable[[Tape, str, Map, Edge], Map]]] = {
    "transposed": transposed,
    "transposed_norm": transposed_norm,
    "linear": interpolated,
    "nearest_convolution": nearest_convolution,
    "nearest_convolution_pair": nearest_convolution_pair,
}
