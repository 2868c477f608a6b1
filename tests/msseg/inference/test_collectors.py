from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from msseg.inference.collectors import SHARE_STEPS, Foreground, LargestClass, Probabilities, log_odds
from msseg.inference.score_stream import ScoreStream

SHAPE = (5, 7, 9)


def logits(classes: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> torch.Tensor:
    """Scores that are multiples of 1/64, so that their differences are exact."""
    drawn = np.random.default_rng(seed).normal(scale=3, size=(classes, *shape))
    return torch.from_numpy((np.round(drawn * 64) / 64).astype(np.float32))


def stream_of(scores: torch.Tensor, collectors, new_shape=SHAPE, axis: int = 0, rows: int = 2) -> None:
    stream = ScoreStream(collectors, tuple(scores.shape[1:]), new_shape, 1, axis=axis)
    by_rows = scores.movedim(1 + axis, 1)
    for start in range(0, by_rows.shape[1], rows):
        stream.push(by_rows[:, start : start + rows])
    assert stream.is_done


@pytest.mark.parametrize("threshold", [0.01, 0.2, 1 / 3, 0.5, 0.77, 0.99])
def test_a_bias_on_the_background_is_a_threshold_on_the_probability_of_two_classes(threshold):
    scores = logits(2)
    probability = 1 / (1 + np.exp(-(scores[1] - scores[0]).double().numpy()))
    mask = Foreground(SHAPE, threshold=threshold)
    stream_of(scores, [mask])
    np.testing.assert_array_equal(mask.labels(), probability > threshold)
    biased = torch.stack((scores[0] + log_odds(threshold), scores[1]))
    largest = LargestClass(2, SHAPE)
    stream_of(biased, [largest])
    np.testing.assert_array_equal(mask.labels(), largest.labels())


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("new_shape", [SHAPE, (9, 4, 13)])
def test_at_a_half_it_is_the_class_of_the_larger_score_to_the_bit(axis, new_shape):
    scores = torch.randn((2, *SHAPE), generator=torch.Generator().manual_seed(axis))
    scores[:, 2] = 1.25  # ties go to the background
    mask, largest = Foreground(new_shape, axis), LargestClass(2, new_shape, axis)
    stream_of(scores, [mask, largest], new_shape, axis)
    np.testing.assert_array_equal(mask.labels(), largest.labels())


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_several_foreground_classes_count_together(threshold):
    scores = logits(4)
    probability = 1 - scores.double().softmax(0)[0].numpy()
    mask = Foreground(SHAPE, threshold=threshold)
    stream_of(scores, [mask])
    assert np.abs(probability - threshold).min() > 1e-6
    np.testing.assert_array_equal(mask.labels(), probability > threshold)


@pytest.mark.parametrize("classes", [2, 4])
def test_shares_say_for_every_step_whether_the_probability_exceeds_it(classes):
    scores = logits(classes)
    scores[:, 0, 0] = 0  # of two classes exactly ½, which ½ does not exceed
    shares = Foreground(SHAPE, keep_shares=True)
    stream_of(scores, [shares])
    for step in range(1, SHARE_STEPS):
        mask = Foreground(SHAPE, threshold=step / SHARE_STEPS)
        stream_of(scores, [mask])
        np.testing.assert_array_equal(shares.shares() >= step, mask.labels() == 1)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("new_shape", [SHAPE, (12, 7, 5)])
def test_probabilities_are_the_softmax_of_the_interpolated_scores(axis, new_shape):
    scores = torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(1)) * 4
    room = np.zeros((*new_shape[::-1], 3), np.float32).transpose()
    kept, largest = Probabilities(room, axis), LargestClass(3, new_shape, axis)
    stream_of(scores, [kept, largest], new_shape, axis)
    expected = torch.nn.functional.interpolate(scores[None].double(), size=new_shape, mode="trilinear")[0].softmax(0)
    np.testing.assert_allclose(room, expected, atol=2e-6)
    np.testing.assert_array_equal(room.argmax(0), largest.labels())


def test_scores_that_rule_a_class_out_give_it_no_probability():
    scores = logits(3)
    scores[1] = -1e30
    room = np.zeros((3, *SHAPE), np.float32)
    stream_of(scores, [Probabilities(room)])
    assert not room[1].any() and np.isfinite(room).all()


def test_odds_of_no_probability_are_refused():
    assert log_odds(0.5) == 0 and math.isclose(log_odds(0.75), math.log(3), rel_tol=1e-7)
    for probability in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="more than 0 and less than 1"):
            log_odds(probability)
