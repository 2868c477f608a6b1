from __future__ import annotations

import pytest

from planning.errors import PlanError
from planning.grids import GRIDS
from planning.networks import NETWORKS, network_row
from planning.weights import SUPERVISION


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_name_known_grids_and_supervisions(name):
    row = network_row(name)
    assert row.name == name
    assert row.grid in GRIDS and row.supervision in SUPERVISION


def test_features_double_up_to_the_cap():
    assert network_row("mss_unet").features(6, 3) == (30, 60, 120, 240, 320, 320)
    assert network_row("plain_unet").features(6, 2) == (32, 64, 128, 256, 512, 512)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(PlanError, match="'vgg', expected one of mss_unet, plain_unet"):
        network_row("vgg")
