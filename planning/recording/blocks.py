"""Blocks as a tape sees them, what stands at a node; the twins of `msseg.networks.blocks`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from planning.part_rules import RECURRENT_STEPS
from planning.recording.tape import Map, Tape
from planning.recording.units import Unit, activation, added, convolution, dropped, pooled, unit


@dataclass(frozen=True)
class Block:
    """A block's first unit, how many convolutions (blocks) it has, whether it takes the image, and its dropout."""

    unit: Unit
    convolutions: int
    is_input: bool
    dropout: float


def plain_block(tape: Tape, name: str, x: Map, block: Block) -> Map:
    """Units one after another, then dropout."""
    for index in range(block.convolutions):
        x = unit(tape, f"{name}.{index}", x, block.unit.later if index else block.unit)
    return dropped(tape, x, block.dropout)


def residual_block(tape: Tape, name: str, x: Map, block: Block) -> Map:
    """Residual units one after another, a unit before them where the image enters."""
    if block.is_input:
        x = unit(tape, f"{name}.stem", x, block.unit)
    for index in range(block.convolutions):
        first = index == 0 and not block.is_input
        x = _residual_unit(tape, f"{name}.{index}", x, block.unit if first else block.unit.later)
    return x


def _residual_unit(tape: Tape, name: str, x: Map, shape: Unit) -> Map:
    past, widens = x, x.channels != shape.channels
    if max(shape.stride) > 1:
        past = pooled(tape, x, shape.stride, keeps_places=False, kind="other" if widens else "skip")
    result = unit(tape, f"{name}.first", x, shape)
    result = unit(tape, f"{name}.second", result, replace(shape.later, activation="none"))
    if widens:
        past = unit(tape, f"{name}.past", past, replace(shape.pointwise, bias=False, activation="none"))
    return activation(tape, name, added(tape, result, past), shape.activation)


def recurrent_block(tape: Tape, name: str, x: Map, block: Block) -> Map:
    """A 1-kernel, then recurrent units beside a way past them."""
    entry = result = convolution(tape, f"{name}.entry", x, replace(block.unit, kernel_size=(1,) * len(x.shape)))
    for index in range(block.convolutions):
        image, own = result, f"{name}.{index}"
        result = unit(tape, own, image, block.unit.later)
        for _ in range(RECURRENT_STEPS):
            result = unit(tape, own, added(tape, image, result), block.unit.later)
    return added(tape, entry, result)


def vnet_block(tape: Tape, name: str, x: Map, block: Block) -> Map:
    """Units beside a way past them: the image where it enters, else a convolution whose kernel is its stride."""
    if block.is_input:
        return _vnet_input(tape, name, x, block)
    stride, later = block.unit.stride, block.unit.later
    down = unit(
        tape, f"{name}.down", _filled(tape, x, stride), replace(block.unit, kernel_size=stride, padding="valid")
    )
    result = down
    if block.dropout:  # Of whole channels: its mask is small.
        result = tape.apply([down], down.channels, down.shape)
    for index in range(block.convolutions):
        result = unit(tape, f"{name}.{index}", result, later)
    return activation(tape, name, added(tape, result, down), later.activation)


def _vnet_input(tape: Tape, name: str, x: Map, block: Block) -> Map:
    """Units, and the image repeated to their width beside them."""
    later, result = block.unit.later, x
    for index in range(block.convolutions):
        is_last = index == block.convolutions - 1
        result = unit(tape, f"{name}.{index}", result, replace(later, activation="none") if is_last else later)
    image = tape.leaf(later.channels, x.shape)
    return activation(tape, name, added(tape, result, image), later.activation)


def _filled(tape: Tape, x: Map, stride: tuple[int, ...]) -> Map:
    """Continued by zeros to multiples of the stride."""
    size = tuple(-(-length // step) * step for length, step in zip(x.shape, stride, strict=True))
    return x if size == x.shape else tape.apply([x], x.channels, size)


BLOCKS: Final[dict[str, Callable[[Tape, str, Map, Block], Map]]] = {
    "plain": plain_block,
    "residual": residual_block,
    "recurrent": recurrent_block,
    "vnet": vnet_block,
}
