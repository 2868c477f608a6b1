"""The stages of the literature's encoders as a tape sees them; the twins of `msseg.networks.encoders`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from planning.encoders import ENCODERS
from planning.part_rules import BOTTLENECK, STEM_EDGE
from planning.recording.blocks import Block, plain_block
from planning.recording.tape import Map, Tape
from planning.recording.units import Unit, activation, added, dropped, pooled, unit

_EDGE: Final = 3


@dataclass(frozen=True)
class Stage:
    """A stage: its number, the unit of its level with the stride that leads there, and its dropout."""

    index: int
    unit: Unit
    dropout: float


def vgg16_stage(tape: Tape, name: str, x: Map, shape: Stage) -> Map:
    """Two or three units; the edge has pooled already."""
    own = replace(shape.unit.later, kernel_size=(_EDGE,) * len(x.shape), bias=True)
    return plain_block(tape, name, x, Block(own, ENCODERS["vgg16"].convolutions[shape.index], False, shape.dropout))


def resnet101_stage(tape: Tape, name: str, x: Map, shape: Stage) -> Map:
    """The stem, or bottleneck blocks, the first of them behind max pooling; then dropout."""
    own = replace(shape.unit, bias=False)
    if shape.index == 0:
        stem = replace(own, kernel_size=(STEM_EDGE,) * len(x.shape))
        return plain_block(tape, name, x, Block(stem, 1, False, shape.dropout))
    own = replace(own, kernel_size=(_EDGE,) * len(x.shape))
    if shape.index == 1:
        x, own = pooled(tape, x, own.stride, keeps_places=True), own.later
    for index in range(ENCODERS["resnet101"].convolutions[shape.index]):
        x = _bottleneck(tape, f"{name}.{index}", x, own.later if index else own)
    return dropped(tape, x, shape.dropout)


def _bottleneck(tape: Tape, name: str, x: Map, shape: Unit) -> Map:
    narrow = shape.channels // BOTTLENECK
    result = unit(tape, f"{name}.first", x, replace(shape.pointwise, channels=narrow))
    result = unit(tape, f"{name}.second", result, replace(shape, channels=narrow))
    result = unit(tape, f"{name}.third", result, replace(shape.pointwise, activation="none"))
    past = x
    if x.channels != shape.channels or max(shape.stride) > 1:
        past = unit(tape, f"{name}.past", x, replace(shape, kernel_size=shape.pointwise.kernel_size, activation="none"))
    return activation(tape, name, added(tape, result, past), shape.activation)


STAGES: Final[dict[str, Callable[[Tape, str, Map, Stage], Map]]] = {"vgg16": vgg16_stage, "resnet101": resnet101_stage}
