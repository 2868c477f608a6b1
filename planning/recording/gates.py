"""The attention gate as a tape sees it; the twin of `msseg.networks.gates`."""

from __future__ import annotations

from dataclasses import replace

from planning.recording.tape import Map, Tape
from planning.recording.units import Unit, added, unit


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
