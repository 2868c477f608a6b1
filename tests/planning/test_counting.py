"""Every printed or recounted number of parameters of the school, to the digit; one class unless said otherwise.

"Printed" numbers are those of the papers: UNet# (Qian et al. 2022), ANU-Net and Render U-Net (Li et al. 2020), to the
digits that they print; the full ones were counted on modules built after the papers' and their authors' code.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from planning.counting import convolution_values, multiply_adds, parameters
from planning.networks import network_row
from planning.weights import uniform_weights

LAST = {"heads": "last"}
COUNT_2D = {"heads": "last", "grid": "sharp_count2d"}
COUNT_3D = {"heads": "last", "grid": "sharp_count3d"}


@pytest.fixture
def plan(make_configuration):
    """Makes a configuration of the row's own widths and depths, isotropic unless strides and kernels say otherwise."""

    def make(name, dimensions, levels, strides=None, kernel_sizes=None, **options):
        row = network_row(name, options)
        strides = strides or ((2,) * dimensions,) * (levels - 1)
        encoder, decoder = row.depths(levels)
        return make_configuration(
            tuple(math.prod(stride[axis] for stride in strides) for axis in range(dimensions)),
            network=name,
            features=row.features(levels, dimensions),
            strides=strides,
            kernel_sizes=kernel_sizes or ((3,) * dimensions,) * levels,
            encoder_convolutions=encoder,
            decoder_convolutions=decoder,
            supervision_weights=uniform_weights(len(row.supervised(levels))),
            network_options=options,
        )

    return make


@pytest.mark.parametrize(
    ("name", "options", "levels", "count", "printed"),
    [
        ("unet", {}, 5, 7_852_545, "7.85"),
        ("wunet", {}, 5, 9_392_916, "9.39"),
        ("unet2p", LAST, 5, 9_163_329, "9.16"),
        ("unet2p", LAST, 4, 2_236_161, ""),
        ("unet2p", LAST, 3, 519_105, ""),
        ("unet2p", LAST, 2, 103_041, ""),
        ("unet2p", {}, 5, 9_163_428, "9.16"),
        ("unet3p", {"heads": "last", "head_kernel": 1}, 5, 9_787_905, "9.79"),
        ("unet3p", {"head_kernel": 1}, 5, 9_796_549, ""),
        ("unet3p_unified", {"heads": "last", "guidance": "none"}, 5, 26_971_777, ""),
        ("unet3p_unified", {"heads": "last", "guidance": "none", "base_features": 32}, 5, 6_748_993, ""),
        ("unet_sharp", LAST, 2, 103_041, "0.1"),
        ("unet_sharp", LAST, 3, 555_969, "0.56"),
        ("unet_sharp", LAST, 4, 2_531_073, "2.53"),
        ("unet_sharp", LAST, 5, 10_748_481, ""),  # 9.71 in the paper, against its equation 1
        ("unet_sharp", {}, 5, 10_757_224, ""),
        ("unet_sharp", COUNT_2D, 5, 9_716_289, ""),
        ("unet_sharp", {**COUNT_2D, "convolution_bias": False}, 5, 9_712_641, "9.71"),
    ],
)
def test_2d_networks_of_the_unet_sharp_paper(name, options, levels, count, printed, plan):
    found = parameters(plan(name, 2, levels, **options), in_channels=3, num_classes=1)
    assert found == count
    assert f"{found / 1e6:.2f}".startswith(printed)


@pytest.mark.parametrize(
    ("name", "options", "count", "printed"),
    [
        ("vnet", {}, 26_388_385, "26.39"),
        ("wvnet", {}, 33_396_373, "33.40"),
        ("vnet2p", LAST, 27_370_945, "27.37"),
        ("vnet3p", LAST, 27_839_905, "27.84"),
        ("vnet_sharp", LAST, 28_559_809, ""),  # 28.37 in the paper, against its text
        ("vnet_sharp", COUNT_3D, 28_366_273, "28.37"),
    ],
)
def test_3d_networks_of_the_unet_sharp_paper(name, options, count, printed, plan):
    found = parameters(plan(name, 3, 5, **options), in_channels=1, num_classes=1)
    assert found == count
    assert f"{found / 1e6:.2f}".startswith(printed)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("anu_net", (103_812, 513_387, 2_191_829, 8_950_594)),
        ("render_unet", (127_721, 669_869, 2_914_383, 11_969_554)),
    ],
)
def test_pruned_levels_of_anu_net_and_render_u_net(name, counts, plan):
    found = tuple(parameters(plan(name, 2, level + 1), in_channels=1, num_classes=1) for level in (1, 2, 3, 4))
    assert found == counts


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("unet_school", {}, 31_031_685),
        ("attention_unet", {"gate": "none"}, 34_525_889),
        ("attention_unet", {}, 34_877_421),
        ("r2unet", {}, 39_091_265),
        ("attention_r2unet", {}, 39_442_797),
    ],
)
def test_networks_of_public_code(name, options, count, plan):
    assert parameters(plan(name, 2, 5, **options), in_channels=1, num_classes=1) == count


# Plain 3D encoders in place of V-Net's, from 16 and from 32 features.
@pytest.mark.parametrize(
    ("name", "narrow", "wide"),
    [
        ("unet", 5_886_977, 23_538_177),
        ("unet2p", 6_869_537, 27_466_305),
        ("unet3p", 7_338_497, 29_344_257),
        ("unet_sharp", 8_058_401, 32_221_761),
    ],
)
def test_the_same_grids_in_3d(name, narrow, wide, plan):
    configuration = plan(name, 3, 5, heads="last", head_kernel=1)
    assert parameters(configuration, 1, 1) == wide
    assert parameters(replace(configuration, features=(16, 32, 64, 128, 256)), 1, 1) == narrow


def test_mss_unet_has_the_authors_number_of_parameters(plan):
    """Counted on the authors' public module and plan; 29,593,940 where decoder kernels mirror the encoder's."""
    strides = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    kernels = ((1, 3, 3), *((3, 3, 3),) * 5)
    assert parameters(plan("mss_unet", 3, 6, strides, kernels), 1, 3) == 29_642_540
    assert parameters(plan("mss_unet", 3, 6, strides, kernels, decoder_kernel_level=0), 1, 3) == 29_593_940
    assert parameters(plan("mss_unet", 3, 6, strides), 1, 3) == 29_659_280
    assert parameters(plan("unet3d", 3, 6, strides, kernels), 1, 3) == 29_640_320


def test_the_plain_u_net_of_the_hippocampus_plan_is_nnu_nets(plan):
    assert parameters(plan("plain_unet", 3, 4), 1, 3) == 5_603_177


def test_multiply_adds_and_values_of_a_two_level_net_by_hand(plan):
    # A patch of 2 × 2, one voxel below: convolutions 1→32→32, 32→64→64, 96→32→32, and the 1-kernel head 32→2.
    configuration = plan("unet", 2, 2)
    level_0 = 4 * (9 * (1 * 32 + 32 * 32 + 96 * 32 + 32 * 32) + 32 * 2)
    level_1 = 1 * 9 * (32 * 64 + 64 * 64)
    assert multiply_adds(configuration, in_channels=1, num_classes=2) == level_0 + level_1
    assert convolution_values(configuration, 1, 2) == 4 * (4 * 32 + 2) + 1 * 2 * 64
