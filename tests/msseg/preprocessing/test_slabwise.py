from __future__ import annotations

import numpy as np
import pytest

from msseg.preprocessing.resample import resample_image
from msseg.preprocessing.slabwise import chunks_of

REACH = 16


def air_and_body(background: float, seed: int = 0) -> np.ndarray:
    """A body of noise above -1 in the corner of a constant background."""
    volume = np.full((60, 44, 50), background, np.float32)
    volume[:20, :14, :18] = np.abs(np.random.default_rng(seed).normal(0, 1, (20, 14, 18))) - 1
    return volume


@pytest.mark.parametrize("background", [-988.0 / 240.7, 0.0, -1.0])
@pytest.mark.parametrize("new_shape", [(70, 51, 47), (41, 50, 60), (60, 50, 40)])
def test_a_constant_background_stays_that_constant_to_the_bit(background: float, new_shape: tuple[int, ...]) -> None:
    resampled = resample_image(air_and_body(background)[None], new_shape, 3)[0]
    far = tuple(
        slice(int(np.ceil((edge + REACH) * new / old)), None)
        for edge, old, new in zip((20, 14, 18), (60, 44, 50), new_shape, strict=True)
    )
    for axis, part in enumerate(far):
        assert (resampled[(slice(None),) * axis + (part,)] == np.float32(background)).all()


def test_a_background_apart_stays_exact_too() -> None:
    volume = air_and_body(-3.3)
    resampled = resample_image(volume[None], (75, 60, 44), 3, separate=0)[0]
    assert (resampled[26:] == np.float32(-3.3)).all()  # floor((i + 0.5) * 60 / 75) is 20 or more
    assert not (resampled[24] == np.float32(-3.3)).all()


def test_every_channel_has_its_own_background() -> None:
    image = np.stack([air_and_body(0.0), air_and_body(-5.0)])
    resampled = resample_image(image, (70, 51, 47), 3)
    assert resampled[0, -1, -1, -1] == 0 and resampled[1, -1, -1, -1] == -5


@pytest.mark.parametrize("new_shape", [(70, 51, 47), (41, 50, 60), (60, 50, 40), (61, 44, 50)])
def test_chunks_of_one_slice_give_what_the_whole_gives(new_shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).normal(size=(1, 60, 44, 50)).astype(np.float32)
    whole = resample_image(image, new_shape, 3)
    with chunks_of(1):
        np.testing.assert_allclose(resample_image(image, new_shape, 3), whole, atol=1e-5)
    np.testing.assert_array_equal(resample_image(image, new_shape, 3), whole)


def test_the_layout_in_memory_does_not_matter() -> None:
    image = np.random.default_rng(2).normal(size=(1, 12, 10, 9)).astype(np.float32)
    turned = np.ascontiguousarray(image.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    for separate in (None, 0, 1, 2):
        expected = resample_image(image, (15, 8, 11), 3, separate)
        np.testing.assert_array_equal(resample_image(turned, (15, 8, 11), 3, separate), expected)


@pytest.mark.parametrize("separate", [1, 2])
def test_any_axis_may_be_the_one_apart(separate: int) -> None:
    image = np.random.default_rng(3).normal(size=(1, 7, 8, 9)).astype(np.float32)
    new_shape = (9, 10, 11)
    order = [separate, *(axis for axis in range(3) if axis != separate)]
    turned = resample_image(
        np.moveaxis(image, separate + 1, 1), tuple(new_shape[axis] for axis in order), 3, separate=0
    )
    np.testing.assert_allclose(
        resample_image(image, new_shape, 3, separate), np.moveaxis(turned, 1, separate + 1), atol=1e-5
    )
