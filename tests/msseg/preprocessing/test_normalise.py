from __future__ import annotations

import numpy as np
import pytest

from msseg.errors import DatasetError
from msseg.preprocessing.normalise import normalise
from planning.errors import PlanError
from planning.plan import ChannelPlan


def channel(scheme: str, inside: bool = False) -> ChannelPlan:
    return ChannelPlan("c", scheme, inside, lower=-10.0, upper=30.0, mean=10.0, std=5.0)


def test_ct_clips_and_uses_the_data_sets_statistics() -> None:
    image = np.array([-1000.0, -10.0, 10.0, 20.0, 3000.0]).reshape(1, 1, 1, 5)
    np.testing.assert_allclose(normalise(image, [channel("ct")], None).ravel(), [-4, -4, 0, 2, 4])


def test_zscore_has_mean_0_and_deviation_1_per_image() -> None:
    image = np.array([1.0, 3.0, 1.0, 3.0]).reshape(1, 1, 2, 2)
    np.testing.assert_allclose(normalise(image, [channel("zscore")], None).ravel(), [-1, 1, -1, 1])


def test_zscore_inside_the_mask_leaves_zero_outside() -> None:
    image = np.array([0.0, 4.0, 8.0, 0.0]).reshape(1, 1, 1, 4)
    mask = np.array([False, True, True, False]).reshape(1, 1, 4)
    np.testing.assert_allclose(normalise(image, [channel("zscore", inside=True)], mask).ravel(), [0, -1, 1, 0])


def test_a_constant_image_becomes_zero_and_not_infinite() -> None:
    assert not normalise(np.full((1, 2, 2, 2), 7.0), [channel("zscore")], None).any()


def test_large_offsets_keep_the_deviation_exact() -> None:
    image = np.random.default_rng(0).normal(30_000, 3, (1, 30, 40, 50)).astype(np.float32)
    normalised = normalise(image, [channel("zscore")], None)
    assert normalised.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)


def test_each_channel_takes_its_own_scheme() -> None:
    image = np.array([[0.0, 10.0], [5.0, 255.0], [2.0, 4.0]]).reshape(3, 1, 1, 2)
    channels = [channel("nonorm"), channel("rgb_to_0_1"), channel("rescale_to_0_1")]
    np.testing.assert_allclose(normalise(image, channels, None).reshape(3, 2), [[0, 10], [5 / 255, 1], [0, 1]])


def test_the_input_is_left_as_it_is() -> None:
    image = np.ones((1, 2, 2, 2), np.float32)
    normalise(image, [channel("ct")], None)
    assert (image == 1).all()


def test_colours_beyond_255_are_refused() -> None:
    with pytest.raises(DatasetError, match="0 to 255"):
        normalise(np.full((1, 1, 1, 1), 256.0), [channel("rgb_to_0_1")], None)


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(PlanError, match="ct, zscore, nonorm"):
        normalise(np.ones((1, 1, 1, 1)), [channel("magic")], None)


def test_a_missing_channel_is_named() -> None:
    with pytest.raises(DatasetError, match="1 channels, but the plan has 2"):
        normalise(np.ones((1, 1, 1, 1)), [channel("ct"), channel("ct")], None)


@pytest.mark.parametrize("scheme", ["ct", "zscore", "rescale_to_0_1"])
def test_an_image_that_may_be_changed_is_normalised_where_it_lies(scheme: str) -> None:
    image = np.random.default_rng(5).normal(50, 20, (1, 4, 5, 6)).astype(np.float32)
    plan = [ChannelPlan("a", scheme, False, lower=10.0, upper=90.0, mean=50.0, std=20.0)]
    expected = normalise(image, plan, None)
    turned = np.ascontiguousarray(image.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    assert normalise(turned, plan, None, overwrite=True) is turned
    np.testing.assert_allclose(turned, expected, atol=1e-6)
    whole = np.arange(6).reshape(1, 1, 2, 3)
    assert normalise(whole, plan, None, overwrite=True).dtype == np.float32
    np.testing.assert_array_equal(whole, np.arange(6).reshape(1, 1, 2, 3))


def test_colours_share_one_deviation_and_lose_each_its_own_mean() -> None:
    image = np.array([[0.0, 8.0], [3.0, 5.0], [7.0, 7.0]]).reshape(3, 1, 1, 2)
    # Variances 16, 1 and 0: one deviation of sqrt(17 / 3).
    expected = np.array([[-4, 4], [-1, 1], [0, 0]]) / np.sqrt(17 / 3)
    np.testing.assert_allclose(normalise(image, [channel("colour")] * 3, None).reshape(3, 2), expected, rtol=1e-6)


def test_a_grey_image_as_colours_gets_its_zscore() -> None:
    grey = np.random.default_rng(0).normal(100, 30, (1, 1, 6, 7)).astype(np.float32)
    colours = normalise(np.repeat(grey, 3, axis=0), [channel("colour")] * 3, None)
    np.testing.assert_allclose(colours, np.repeat(normalise(grey, [channel("zscore")], None), 3, axis=0), atol=1e-6)


def test_colours_leave_other_channels_to_their_own_scheme() -> None:
    image = np.random.default_rng(0).normal(100, 30, (4, 1, 6, 7)).astype(np.float32)
    channels = [channel("colour"), channel("nonorm"), channel("colour"), channel("colour")]
    normalised = normalise(image, channels, None)
    np.testing.assert_array_equal(normalised[1], image[1])
    np.testing.assert_array_equal(normalised[[0, 2, 3]], normalise(image[[0, 2, 3]], [channel("colour")] * 3, None))
    turned = image.transpose(0, 1, 3, 2)
    np.testing.assert_allclose(normalise(turned, channels, None, overwrite=True), normalised.transpose(0, 1, 3, 2))
