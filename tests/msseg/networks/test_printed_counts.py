"""The parameters that papers and public code print, or that follow from their text, to the digit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from msseg.networks.grid_network import GridNetwork
from planning.networks import network_row
from planning.plan import Configuration

ConfigurationMaker = Callable[..., Configuration]

# Without deep supervision, three channels and one class, as the school's papers count their 2D networks.
COUNTS_2D = [
    ("unet", 5, 7_852_545, {}),
    ("wunet", 5, 9_392_916, {}),
    ("unet2p", 2, 103_041, {}),
    ("unet2p", 3, 519_105, {}),
    ("unet2p", 4, 2_236_161, {}),
    ("unet2p", 5, 9_163_329, {}),
    ("unet3p", 5, 9_787_905, {"head_kernel": 1}),
    ("unet3p_unified", 5, 26_971_777, {"guidance": "none"}),
    ("unet_sharp", 2, 103_041, {}),
    ("unet_sharp", 3, 555_969, {}),
    ("unet_sharp", 4, 2_531_073, {}),
    ("unet_sharp", 5, 10_748_481, {}),
    ("unet_sharp", 5, 9_716_289, {"grid": "sharp_count2d"}),
    ("unet_sharp", 5, 9_712_641, {"grid": "sharp_count2d", "convolution_bias": False}),
]
# The V-Nets of UNet#'s paper, one channel and one class, without deep supervision; the second is printed as 28.37 M.
COUNTS_3D = [
    ("vnet", 26_388_385, {}),
    ("wvnet", 33_396_373, {}),
    ("vnet2p", 27_370_945, {}),
    ("vnet3p", 27_839_905, {}),
    ("vnet_sharp", 28_559_809, {}),
    ("vnet_sharp", 28_366_273, {"grid": "sharp_count3d"}),
]
# One channel, one class, every head: ANU-Net's and Render U-Net's papers, and the public code of the others.
COUNTS_OF_ONE_CHANNEL = [
    ("anu_net", 2, 103_812, {}),
    ("anu_net", 3, 513_387, {}),
    ("anu_net", 4, 2_191_829, {}),
    ("anu_net", 5, 8_950_594, {}),
    ("render_unet", 2, 127_721, {}),
    ("render_unet", 3, 669_869, {}),
    ("render_unet", 4, 2_914_383, {}),
    ("render_unet", 5, 11_969_554, {}),
    ("r2unet", 5, 39_091_265, {}),
    ("attention_unet", 5, 34_877_421, {}),
    ("attention_unet", 5, 34_525_889, {"gate": "none"}),
    ("attention_r2unet", 5, 39_442_797, {}),
    ("unet_school", 5, 31_031_685, {}),
]
# A plain block of 3³ on the widths of the V-Net and on the school's, one channel, one class.
COUNTS_OF_PLAIN_BLOCKS = [
    ("unet", 5_886_977, 23_538_177),
    ("unet2p", 6_869_537, 27_466_305),
    ("unet3p", 7_338_497, 29_344_257),
    ("unet_sharp", 8_058_401, 32_221_761),
]


def count(configuration: Configuration, in_channels: int = 1, num_classes: int = 1) -> int:
    """The parameters of a network that is never filled with numbers."""
    with torch.device("meta"):
        network = GridNetwork(configuration, in_channels, num_classes)
    return sum(parameter.numel() for parameter in network.parameters())


def one_head(configuration: Configuration) -> Configuration:
    return replace(configuration, supervision_weights=(1.0,))


@pytest.fixture
def own_widths(grid_configuration: ConfigurationMaker) -> ConfigurationMaker:
    """Makes a configuration of a row's own widths."""

    def make(name: str, dimensions: int, levels: int = 5, **options: object) -> Configuration:
        features = network_row(name).features(levels, dimensions)
        return grid_configuration(name, dimensions, features=features, **options)

    return make


@pytest.mark.parametrize(("name", "levels", "printed", "options"), COUNTS_2D)
def test_2d_networks_of_the_school_have_the_printed_parameters(
    name: str, levels: int, printed: int, options: dict[str, object], own_widths: ConfigurationMaker
) -> None:
    assert count(one_head(own_widths(name, 2, levels, **options)), in_channels=3) == printed


def test_deep_supervision_adds_its_heads(own_widths: ConfigurationMaker) -> None:
    guided_none = {"guidance": "none"}
    assert count(own_widths("unet2p", 2), in_channels=3) == 9_163_428
    assert count(own_widths("unet3p", 2, head_kernel=1), in_channels=3) == 9_796_549
    assert count(own_widths("unet3p", 2), in_channels=3) == 9_796_805
    assert count(own_widths("unet_sharp", 2, **guided_none), in_channels=3) == 10_757_224


@pytest.mark.parametrize(("name", "printed", "options"), COUNTS_3D)
def test_v_nets_have_the_printed_parameters(
    name: str, printed: int, options: dict[str, object], own_widths: ConfigurationMaker
) -> None:
    assert count(one_head(own_widths(name, 3, **options))) == printed


@pytest.mark.parametrize(("name", "levels", "printed", "options"), COUNTS_OF_ONE_CHANNEL)
def test_networks_for_one_channel_have_the_printed_parameters(
    name: str, levels: int, printed: int, options: dict[str, object], own_widths: ConfigurationMaker
) -> None:
    assert count(own_widths(name, 2, levels, **options)) == printed


@pytest.mark.parametrize(("name", "narrow", "wide"), COUNTS_OF_PLAIN_BLOCKS)
def test_plain_blocks_in_3d_have_the_parameters_of_the_specification(
    name: str, narrow: int, wide: int, grid_configuration: ConfigurationMaker
) -> None:
    for features, expected in (((16, 32, 64, 128, 256), narrow), ((32, 64, 128, 256, 512), wide)):
        assert count(one_head(grid_configuration(name, 3, features=features, head_kernel=1))) == expected


def kits19(make_configuration: ConfigurationMaker, first_kernel: tuple[int, ...], **options: int) -> Configuration:
    """The full-resolution plan of the MSS U-Net's authors, axes (z, y, x)."""
    return make_configuration(
        (48, 192, 192),
        network="mss_unet",
        features=(30, 60, 120, 240, 320, 320),
        strides=((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
        kernel_sizes=(first_kernel, *((3, 3, 3),) * 5),
        supervision_weights=(0.2,) * 5,
        network_options=options,
    )


def test_mss_unet_has_the_parameters_of_its_public_code_on_kits19(make_configuration: ConfigurationMaker) -> None:
    plan = kits19(make_configuration, (1, 3, 3))
    assert count(plan, num_classes=3) == 29_642_540
    assert count(one_head(plan), num_classes=3) == 29_640_320
    assert count(kits19(make_configuration, (1, 3, 3), decoder_kernel_level=0), num_classes=3) == 29_593_940
    assert count(kits19(make_configuration, (3, 3, 3)), num_classes=3) == 29_659_280


def test_unet3d_is_the_mss_unet_with_one_head(make_configuration: ConfigurationMaker) -> None:
    plan = kits19(make_configuration, (1, 3, 3))
    assert count(replace(one_head(plan), network="unet3d"), num_classes=3) == 29_640_320


def test_plain_unet_of_the_hippocampus_plan_has_as_many_parameters_as_nnu_net(
    grid_configuration: ConfigurationMaker,
) -> None:
    assert count(grid_configuration("plain_unet", 3, features=(32, 64, 128, 256)), num_classes=3) == 5_603_177


# Counted on ResidualEncoderUNet of dynamic_network_architectures, whose outputs are equal with the same weights.
@pytest.mark.parametrize("name", ["resenc_m", "resenc_l", "resenc_xl"])
def test_residual_encoder_unets_have_as_many_parameters_as_nnu_net(
    name: str, grid_configuration: ConfigurationMaker
) -> None:
    small = grid_configuration(name, 3, features=(32, 64, 128, 256))
    planar = grid_configuration(name, 2, features=(32, 64, 128, 256, 512, 512, 512))
    deep = grid_configuration(name, 3, True, features=(32, 64, 128, 256, 320, 320))
    deep = replace(deep, strides=((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)))
    assert [count(one, 2, 3) for one in (small, deep, planar)] == [25_896_457, 101_858_767, 105_918_610]
