from __future__ import annotations

import dataclasses

import pytest

from planning.encoders import ENCODERS
from planning.errors import PlanError
from planning.grids import Node
from planning.network_row import CHOICES, option_names, with_options
from planning.networks import NETWORKS, network_row


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_name_known_parts_and_heads_that_their_grid_has(name):
    row = network_row(name)
    assert row.name == name
    assert all(getattr(row, field) in known for field, known in CHOICES.items())
    for levels in range(2, 7):
        assert set(row.build_grid(levels).sources).issuperset(row.supervised(levels))


def test_features_double_up_to_the_cap():
    assert network_row("mss_unet").features(6, 3) == (30, 60, 120, 240, 320, 320)
    assert network_row("plain_unet").features(6, 2) == (32, 64, 128, 256, 512, 512)
    assert network_row("wunet").features(5, 2) == (35, 70, 140, 280, 560)


def test_depths_repeat_the_last_entry_for_all_deeper_levels():
    assert network_row("resenc_m").depths(6) == ((1, 3, 4, 6, 6, 6), (1, 1, 1, 1, 1))
    assert network_row("vnet").depths(3) == ((1, 1, 2), (2, 2))


def test_a_unified_decoder_node_is_as_wide_as_all_its_sources_together():
    row = network_row("unet3p_unified")
    features = row.features(5, 2)
    assert row.node_features(features, Node(2, 2)) == 320
    assert row.node_features(features, Node(2, 0)) == 256


def test_an_encoder_of_the_literature_has_its_own_widths_and_as_many_levels_as_stages():
    row = network_row("unet_sharp", {"encoder": "resnet101"})
    features = row.features(5, 2)
    assert [row.node_features(features, Node(level, 0)) for level in range(5)] == [32, 64, 256, 512, 1024]
    assert row.node_features(features, Node(1, 1)) == 64
    assert row.level_limit == 5
    assert network_row("plain_unet", {"encoder": "resnet101"}).level_limit == ENCODERS["resnet101"].levels == 6
    assert network_row("plain_unet").level_limit is None


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(PlanError, match=r"'vgg', expected one of unet, wunet, .*resenc_xl"):
        network_row("vgg")


def test_options_replace_single_values():
    row = network_row("unet_sharp", {"heads": "last", "dropout": 0, "most_levels": None, "up_shared": True})
    assert (row.heads, row.dropout, row.most_levels, row.up_shared) == ("last", 0, None, True)
    assert dataclasses.replace(row, heads="sharp", dropout=0.0, most_levels=5, up_shared=False) == network_row(
        "unet_sharp"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 3}, "found 'levels', expected one of base_features, grid, heads"),
        ({"name": "mine"}, "found 'name', expected one of"),
        ({"feature_cap": 3}, "found 'feature_cap', expected one of"),
        ({"norm": "layer"}, "norm: found 'layer', expected one of none, instance, batch"),
        ({"norm": None}, "norm: found None, expected one of"),
        ({"dropout": 1}, "dropout: found 1, expected a number of at least 0 and below 1"),
        ({"dropout": True}, "dropout: found True, expected a number"),
        ({"unified": 1}, "unified: found 1, expected true or false"),
        ({"head_kernel": 1.0}, "head_kernel: found 1.0, expected an odd whole number"),
        ({"most_levels": 0}, "most_levels: found 0, expected null or a whole number of at least 1"),
        ({"base_features": 0}, "base_features: found 0, expected a whole number of at least 1"),
        ({"head_kernel": 2}, "head_kernel: found 2, expected an odd whole number"),
        ({"encoder_kernel_edge": 4}, "encoder_kernel_edge: found 4, expected an odd whole number"),
        ({"decoder_kernel_level": 2}, "decoder_kernel_level: found 2, expected 0 or 1"),
        ({"batch_share": 0}, "batch_share: found 0, expected a number above 0 and at most 1"),
        ({"reference_memory_bytes": 0}, "reference_memory_bytes: found 0, expected a whole number of at least 1"),
        ({"up_shared": True, "encoder": "vgg16"}, "encoder: found 'vgg16' with up_shared=true, but"),
        ({"up_shared": True, "unified": True}, "unified: found true with up_shared=true, but"),
        ({"gate": "attention", "gate_per": "node", "encoder": "vgg16"}, "'vgg16' with gate_per=node, but"),
        ({"encoder_block": "residual", "dropout": 0.5}, "dropout: found 0.5 in residual blocks, expected 0, or"),
        ({"grid": "plain"}, "heads: found 'sharp' on the grid 'plain', expected last, decoder, full_scale"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(options, message):
    with pytest.raises(PlanError, match=message):
        with_options(network_row("unet_sharp"), options)


def test_what_describes_a_row_cannot_be_replaced():
    assert set(option_names()).isdisjoint(("name", "title", "source", "year", "feature_cap", "reference_voxels"))
    assert set(CHOICES) < set(option_names())


def test_what_columns_share_gives_way_to_an_encoder_of_the_literature():
    row = network_row("anu_net", {"encoder": "vgg16", "up_shared": False, "gate_per": "skip"})
    assert (row.encoder, row.gate) == ("vgg16", "attention")
