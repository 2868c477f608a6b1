from __future__ import annotations

import math

import numpy as np
import pytest

from msseg.training.validation import Overlap, mean_dice, no_overlap, overlap, whole_volume_overlaps, zero_streaks


def test_overlap_counts_by_hand():
    prediction = np.array([[0, 1, 1], [2, 2, 0]])
    reference = np.array([[0, 1, 2], [2, -1, 1]])
    counts = overlap(prediction, reference, 3)
    assert counts.both == (1, 1)
    assert counts.predicted == (2, 1)
    assert counts.reference == (2, 2)
    assert counts.dice() == pytest.approx((2 * 1 / 4, 2 * 1 / 3))


def test_padding_does_not_count():
    reference = np.full((2, 2), -1)
    assert overlap(np.ones((2, 2), int), reference, 2) == no_overlap(2)


def test_a_class_that_nobody_has_seen_has_no_dice():
    assert math.isnan(no_overlap(2).dice()[0])


def test_overlaps_add_up():
    one = overlap(np.array([1, 1]), np.array([1, 0]), 2)
    assert (one + one).both == (2,)
    assert (one + no_overlap(2)) == one


def test_whole_volume_dice_is_the_mean_over_cases_that_have_the_class():
    image = np.zeros((1, 2, 2))
    cases = [(image, np.array([[1, 1], [0, 0]])), (image, np.array([[1, 0], [0, 0]]))]
    perfect_then_half = iter([np.array([[1, 1], [0, 0]]), np.array([[0, 1], [0, 0]])])
    dice = mean_dice(whole_volume_overlaps(cases, lambda _: next(perfect_then_half), 3), 3)
    assert dice[0] == pytest.approx(0.5)
    assert math.isnan(dice[1])


def test_no_cases_have_no_dice():
    assert all(math.isnan(value) for value in mean_dice([], 3))


def test_streaks_of_missed_classes_grow_end_and_wait():
    total = Overlap(both=(0, 5, 0), predicted=(4, 9, 7), reference=(8, 6, 0))
    assert zero_streaks((3, 3, 3), total) == (4, 0, 3)


def test_regions_are_counted_as_unions_of_their_classes():
    reference = np.array([[0, 1, 2, 3], [1, 1, -1, 3]])
    prediction = np.array([[1, 1, 3, 2], [0, 2, 3, 3]])
    counts = overlap(prediction, reference, 4, [(1, 2, 3), (2, 3), (3,)])
    assert counts == Overlap(both=(5, 3, 1), predicted=(6, 4, 2), reference=(6, 3, 2))
    assert overlap(prediction, reference, 4, [(1,), (2,), (3,)]) == overlap(prediction, reference, 4)
