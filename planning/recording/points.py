"""Point rendering as a tape sees it; the twin of `msseg.networks.points`' renderer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from planning.network_row import NetworkRow
from planning.point_counts import level_points
from planning.recording.tape import INT64_BYTES, SINGLE_BYTES, Map, Tape
from planning.recording.units import Unit, convolution, linear

_HIDDEN_LAYERS: Final = 3


@dataclass(frozen=True)
class Rendered:
    """The refined map, the logits of its points and the coarse logits that chose them."""

    features: Map
    logits: Map
    coarse: Map


@dataclass(frozen=True)
class RenderingPlace:
    """Where a renderer stands: its level's width, and how many cells of full resolution one of its cells has.

    Where it does not train it refines more points.
    """

    width: int
    num_classes: int
    cells_per_cell: int
    training: bool


def render(tape: Tape, row: NetworkRow, name: str, maps: tuple[Map, Map, Map], place: RenderingPlace) -> Rendered:
    """Features refined at points, from (the encoder's, those that came up, those below on their coarser grid)."""
    encoder, upsampled, deeper = maps
    ones = (1,) * len(encoder.shape)
    coarse = convolution(tape, f"{name}.coarse", deeper, Unit(place.num_classes, ones, ones, True, "none", "none"))
    coarse = tape.apply([coarse], place.num_classes, encoder.shape)
    cells, dimensions = math.prod(encoder.shape), len(encoder.shape)
    count = level_points(row.point_count, cells, place.cells_per_cell, dimensions, place.training)
    sampled = [_sampled(tape, one, count) for one in (encoder, upsampled, coarse)]
    hidden = tape.apply(sampled, sum(one.channels for one in sampled), (count,), backward="slices")
    for index in range(_HIDDEN_LAYERS):
        hidden = linear(tape, f"{name}.hidden.{index}", hidden, 2 * place.width)
        hidden = tape.apply([hidden], hidden.channels, hidden.shape, keeps_result=True)
    copied = upsampled if row.points == "upsampled" else encoder
    refined = linear(tape, f"{name}.features", hidden, copied.channels)
    logits = linear(tape, f"{name}.logits", hidden, place.num_classes)
    return Rendered(_replaced(tape, copied, refined, count), logits, coarse)


def _sampled(tape: Tape, x: Map, count: int) -> Map:
    """Values of a map at points; keeps the map and the places."""
    places = tape.batch * count * len(x.shape) * SINGLE_BYTES
    return tape.apply([x], x.channels, (count,), keeps=[x], keeps_bytes=places)


def _replaced(tape: Tape, copied: Map, refined: Map, count: int) -> Map:
    """The map with the points' values in their cells; keeps which cells these are."""
    cells = tape.batch * math.prod(copied.shape)
    shares = tape.apply([refined], refined.channels, (count,), keeps_bytes=tape.batch * count * SINGLE_BYTES)
    kept = tape.apply([copied], copied.channels, copied.shape, keeps_bytes=cells)
    return tape.apply(
        [kept, shares], copied.channels, copied.shape, in_place=True, keeps_bytes=tape.batch * count * INT64_BYTES
    )
