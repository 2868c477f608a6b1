from __future__ import annotations

import pytest

from planning.fingerprint import IntensityStatistics
from planning.normalisation import colour_channels, plan_channel, plan_channels

STATISTICS = IntensityStatistics(94.5, 70.5, 93.7, -707.0, 3165.0, -68.3, 285.9)


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("CT", "ct"),
        ("ct", "ct"),
        ("noNorm", "nonorm"),
        ("zscore", "zscore"),
        ("rescale_to_0_1", "rescale_to_0_1"),
        ("rgb_to_0_1", "rgb_to_0_1"),
        ("T2", "zscore"),
        ("CT angiography", "zscore"),
    ],
)
def test_the_name_of_the_channel_decides_the_scheme(name, scheme):
    assert plan_channel(name, STATISTICS, 1.0).normalisation == scheme


def test_the_statistics_of_the_fingerprint_go_into_the_plan():
    channel = plan_channel("CT", STATISTICS, 1.0)
    assert (channel.lower, channel.upper, channel.mean, channel.std) == (-68.3, 285.9, 94.5, 70.5)


@pytest.mark.parametrize(
    ("name", "kept", "inside"), [("T1", 0.74, True), ("T1", 0.75, False), ("CT", 0.2, False), ("nonorm", 0.2, False)]
)
def test_only_z_scores_of_images_with_an_empty_margin_stay_inside_the_mask(name, kept, inside):
    assert plan_channel(name, STATISTICS, kept).inside_nonzero_mask == inside


def test_red_green_and_blue_together_are_a_colour_image():
    names = ("Blue", "depth", "red", "green")
    channels = plan_channels(names, [STATISTICS] * 4, 0.5)
    assert [channel.normalisation for channel in channels] == ["colour", "zscore", "colour", "colour"]
    assert [channel.inside_nonzero_mask for channel in channels] == [False, True, False, False]
    assert colour_channels(names) == (2, 3, 0)


def test_two_of_three_colours_are_channels_like_any_other():
    channels = plan_channels(("red", "green"), [STATISTICS] * 2, 1.0)
    assert [channel.normalisation for channel in channels] == ["zscore", "zscore"]
    assert colour_channels(("red", "green")) == ()
