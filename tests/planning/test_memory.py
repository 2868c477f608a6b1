from __future__ import annotations

from dataclasses import replace

import pytest

from planning.memory import feature_voxels, level_shapes, reference_voxels, training_bytes
from planning.networks import MSS_UNET, PLAIN_UNET, RESENC_L, UNET, network_row
from planning.rules import GIGABYTE


def test_level_shapes_divide_by_the_strides():
    assert level_shapes((48, 192, 192), ((1, 2, 2), (2, 2, 2))) == [(48, 192, 192), (48, 96, 96), (24, 48, 48)]


def test_feature_voxels_of_a_two_level_net_by_hand():
    # Level 0 (64 voxels): 2 + 2 convolutions and one upsampling of 32 features; level 1 (8 voxels): 2 of 64.
    written = 64 * 5 * 32 + 8 * 2 * 64
    assert feature_voxels(PLAIN_UNET, (4, 4, 4), ((2, 2, 2),), 3) == written + 64 * 3


def test_a_way_past_that_is_pooled_alone_counts_as_in_nnu_net():
    # 320 features on both levels: the second level's first block pools its way past and convolves it no more.
    row = replace(RESENC_L, base_features=320, encoder_depths=(1,))
    level_0 = 8 * (3 + 1 + 1) * 320  # stem and one block (two convolutions), one upsampling, one convolution
    level_1 = 1 * (2 + 1) * 320
    assert feature_voxels(row, (2, 2, 2), ((2, 2, 2),), 3) == level_0 + level_1 + 8 * 3


def test_mss_unet_counts_the_scores_of_all_heads():
    strides = ((2, 2), (2, 2))
    alone = replace(MSS_UNET, counts_all_heads=False)
    assert feature_voxels(MSS_UNET, (8, 8), strides, 5) - feature_voxels(alone, (8, 8), strides, 5) == 5 * 16


def test_what_the_schools_u_net_keeps_by_hand():
    # Kept at level 0 (16 voxels): 4 convolutions and 4 activations of 32, the concatenation of 32 + 64, 3 scores,
    # and the image.
    # At level 1 (4 voxels): 2 of each of 64, and the pooled 32 with the places of the maxima, 4 half values each.
    kept = 16 * (8 * 32 + 96 + 3 + 1) + 4 * (4 * 64 + 5 * 32)
    assert feature_voxels(UNET, (4, 4), ((2, 2),), 3) == kept / 2


def test_what_pads_by_reflection_keeps_the_padded_maps_too():
    counts = {
        padding: feature_voxels(network_row("unet_school", {"padding": padding}), (32, 32), ((2, 2),), 2)
        for padding in ("zeros", "mirrored", "valid")
    }
    assert counts["mirrored"] > 1.2 * counts["zeros"]
    assert counts["valid"] == counts["zeros"]  # Counted on the patch itself, not on the enlarged one.


def test_denser_grids_keep_more():
    names = ("unet", "unet2p", "unet_sharp")
    counts = [feature_voxels(network_row(name), (64, 64), ((2, 2),) * 4, 2) for name in names]
    assert counts == sorted(counts)
    assert counts[2] > 3 * counts[0]


def test_a_gated_grid_keeps_more_than_one_without_gates():
    gated, plain = network_row("anu_net"), network_row("anu_net", {"gate": "none"})
    assert feature_voxels(gated, (64, 64), ((2, 2),) * 4, 2) > feature_voxels(plain, (64, 64), ((2, 2),) * 4, 2)


def test_the_reference_feature_maps_take_the_reference_memory():
    assert training_bytes(560_000_000, 2, 3) == 8 * GIGABYTE
    assert training_bytes(85_000_000, 24, 2) == 16 * GIGABYTE
    assert training_bytes(2_100_000_000, 2, 3, RESENC_L) == 24 * GIGABYTE


@pytest.mark.parametrize("row", [None, PLAIN_UNET, RESENC_L])
@pytest.mark.parametrize(("dimensions", "batch"), [(2, 12), (3, 2)])
def test_bytes_and_voxels_are_each_others_inverse(row, dimensions, batch):
    voxels = reference_voxels(10 * GIGABYTE, dimensions, row)
    assert training_bytes(round(voxels), batch, dimensions, row) == pytest.approx(10 * GIGABYTE)
