"""The tables of modules have a part for every name that a row may use, and no other."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from msseg.networks.blocks import BLOCKS
from msseg.networks.edges import DOWNS, UPS
from msseg.networks.encoder_weights import PLACES
from msseg.networks.encoders import STAGES
from msseg.networks.gates import GATES
from msseg.networks.guidance import GUIDES
from msseg.networks.heads import HEADS
from msseg.networks.points import RENDERERS
from msseg.networks.units import ACTIVATIONS, NORMS
from planning.encoders import ENCODERS
from planning.network_row import CHOICES
from planning.part_rules import DOWN_TO_STAGE, GATE_WIDTHS

TABLES: dict[str, Mapping[str, object]] = {
    "encoder_block": BLOCKS,
    "down": DOWNS,
    "up": UPS,
    "norm": NORMS,
    "activation": ACTIVATIONS,
    "encoder_activation": ACTIVATIONS,
    "gate": {"none": None, **GATES},
    "gate_width": GATE_WIDTHS,
    "head": HEADS,
    "encoder": {"blocks": None, **STAGES},
    "guidance": {"none": None, **GUIDES},
    "points": {"none": None, **RENDERERS},
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_names_of_its_choices(name: str) -> None:
    assert list(TABLES[name]) == list(CHOICES[name])


def test_decoder_blocks_are_blocks() -> None:
    assert set(CHOICES["decoder_block"]) <= set(BLOCKS)


@pytest.mark.parametrize("table", [STAGES, DOWN_TO_STAGE, PLACES])
def test_every_encoder_of_the_literature_has_stages_and_names_of_weights(table: Collection[str]) -> None:
    assert list(table) == list(ENCODERS)
