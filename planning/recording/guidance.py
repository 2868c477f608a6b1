"""Classification-guided modules as a tape sees them; the twins of `msseg.networks.guidance`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from planning.recording.tape import Map, Tape
from planning.recording.units import Unit, convolution, dropped, linear

_DROPOUT: Final = 0.5
_ANSWERS: Final = 2


def branch_guide(tape: Tape, name: str, x: Map, num_foreground: int, is_deep: bool) -> Map:
    """Linear layers on the mean and the largest value of each channel; keeps its input."""
    full = tape.size(x.channels, x.shape)
    mean = tape.apply([x], x.channels, (1,))
    largest = tape.apply([x], x.channels, (1,), keeps=[x], scratch=full)
    pooled = tape.apply([mean, largest], 2 * x.channels, (1,), backward="slices")
    widths = [max(1, x.channels // 2)] if is_deep else []
    for index, width in enumerate([*widths, _ANSWERS * num_foreground]):
        weights = [tape.weight(f"{name}.{index}.norm.{which}", pooled.channels) for which in ("weight", "bias")]
        pooled = tape.apply([pooled], pooled.channels, (1,), weights=weights)
        pooled = linear(tape, f"{name}.{index}", pooled, width)
    return pooled


def bottleneck_guide(tape: Tape, name: str, x: Map, num_foreground: int, _is_deep: bool) -> Map:
    """A 1-kernel behind dropout, and the largest of its answers."""
    ones = (1,) * len(x.shape)
    shape = Unit(_ANSWERS * num_foreground, ones, ones, True, "none", "none")
    answers = convolution(tape, name, dropped(tape, x, _DROPOUT), shape)
    return tape.apply([answers], answers.channels, (1,), keeps=[answers])


GUIDES: Final[dict[str, Callable[[Tape, str, Map, int, bool], Map]]] = {
    "branches": branch_guide,
    "bottleneck": bottleneck_guide,
}
