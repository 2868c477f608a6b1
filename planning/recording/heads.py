"""What turns features into logits, as a tape sees it; the twins of `msseg.networks.heads`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from planning.part_rules import SCHOOL_LEAST_HIDDEN
from planning.recording.tape import Map, Tape
from planning.recording.units import Unit, convolution, unit


def linear_head(tape: Tape, name: str, x: Map, shape: Unit, _level_kernel: tuple[int, ...]) -> Map:
    """One convolution."""
    return convolution(tape, name, x, shape)


def school_head(tape: Tape, name: str, x: Map, shape: Unit, level_kernel: tuple[int, ...]) -> Map:
    """A convolution to at least two channels, ReLU, and a 1-kernel."""
    hidden = max(SCHOOL_LEAST_HIDDEN, shape.channels)
    first = unit(tape, f"{name}.first", x, replace(shape, channels=hidden, kernel_size=level_kernel))
    return convolution(tape, name, first, shape.pointwise)


HEADS: Final[dict[str, Callable[[Tape, str, Map, Unit, tuple[int, ...]], Map]]] = {
    "linear": linear_head,
    "school": school_head,
}
