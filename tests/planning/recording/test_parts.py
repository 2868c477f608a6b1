"""The parts on a tape, each by itself; whole networks are held against built ones where they are counted."""

from __future__ import annotations

import pytest

from planning.encoders import ENCODERS
from planning.network_row import CHOICES
from planning.part_rules import DOWN_TO_STAGE, GATE_WIDTHS
from planning.recording.blocks import BLOCKS, Block
from planning.recording.edges import UPS, Edge
from planning.recording.encoders import STAGES
from planning.recording.guidance import GUIDES
from planning.recording.heads import HEADS
from planning.recording.tape import Tape
from planning.recording.units import Unit, convolution, pooled

UNIT = Unit(8, (3, 3), (2, 2), bias=True, norm="batch", activation="relu")


@pytest.mark.parametrize(
    ("field", "tables"),
    [
        ("encoder_block", [BLOCKS]),
        ("up", [UPS]),
        ("head", [HEADS]),
        ("gate_width", [GATE_WIDTHS]),
        ("guidance", [{"none", *GUIDES}]),
        ("encoder", [{"blocks", *STAGES}, {"blocks", *DOWN_TO_STAGE}, {"blocks", *ENCODERS}]),
    ],
)
def test_every_part_that_a_row_may_name_is_recorded(field, tables):
    assert all(set(table) == set(CHOICES[field]) for table in tables)


def test_a_convolution_by_hand():
    tape = Tape(batch=2)
    result = convolution(tape, "c", tape.leaf(4, (10, 7)), UNIT)
    assert (result.channels, result.shape) == (8, (5, 4))
    (operator,) = tape.operators
    assert (operator.kind, operator.values, operator.products) == ("convolution", 8 * 5 * 4, 4 * 9)
    assert sum(weight.count for weight in tape.weights.values()) == 8 * (4 * 9 + 1)


@pytest.mark.parametrize("up", UPS)
def test_every_way_up_ends_on_its_targets_grid(up):
    tape = Tape(batch=1)
    result = UPS[up](tape, "up", tape.leaf(4, (5, 4)), Edge(UNIT.later, (2, 2), (10, 7)))
    assert tuple(result.shape) == (10, 7)


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_block_takes_its_stride_once_and_rounds_up(kind):
    tape = Tape(batch=1)
    x = pooled(tape, tape.leaf(4, (18, 14)), (2, 2), keeps_places=False)
    result = BLOCKS[kind](tape, "b", x, Block(UNIT, 2, is_input=False, dropout=0.0))
    assert (result.channels, tuple(result.shape)) == (8, (5, 4))


@pytest.mark.parametrize(("channels", "values"), [(8, [8 * 16]), (4, [])])
def test_a_way_past_that_is_pooled_and_nothing_else_is_a_skip(channels, values):
    tape = Tape(batch=1)
    x = convolution(tape, "first", tape.leaf(1, (8, 8)), Unit(channels, (1, 1), (1, 1), True, "none", "none"))
    BLOCKS["residual"](tape, "b", x, Block(UNIT, 1, is_input=False, dropout=0.0))
    assert [operator.values for operator in tape.operators if operator.kind == "skip"] == values
