from __future__ import annotations

import numpy as np
import pytest

from msseg.evaluation.objects import object_counts
from msseg.postprocessing.thresholds import (
    OBJECT_METRICS,
    PIXEL_METRICS,
    ShareCounts,
    Tallies,
    choose,
    count_shares,
    share_tallies,
)

STEPS = 8


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    reference = rng.random((1, 9, 11)) < 0.4
    return rng.integers(0, STEPS, size=reference.shape).astype(np.uint8), reference


def by_hand(cases, metric: str, threshold: int) -> float:
    """The metric from masks, voxel by voxel."""
    counts = []
    for shares, reference in cases:
        mask = shares >= threshold
        counts.append([(mask & reference).sum(), (mask & ~reference).sum(), (~mask & reference).sum(), mask.size])
    each = np.array(counts, float)
    if metric == "mean_dice":
        return float(np.mean([2 * tp / (2 * tp + fp + fn) for tp, fp, fn, _ in each]))
    tp, fp, fn, size = each.sum(0)
    return {
        "dice": 2 * tp / (2 * tp + fp + fn),
        "iou": tp / (tp + fp + fn),
        "accuracy": (size - fp - fn) / size,
    }[metric]


@pytest.mark.parametrize("metric", sorted(PIXEL_METRICS))
def test_counts_of_shares_give_the_metric_of_every_threshold(metric):
    cases = [random_case(seed) for seed in range(3)]
    tallies = share_tallies([count_shares(*case, STEPS) for case in cases], metric)
    expected = [by_hand(cases, metric, threshold) for threshold in range(1, STEPS)]
    np.testing.assert_allclose(tallies.values(), expected, rtol=1e-12)


def test_the_counts_of_a_small_case_are_these():
    shares = np.array([[[0, 1, 1, 3]]], np.uint8)
    counts = count_shares(shares, np.array([[[False, True, False, True]]]), 4)
    assert counts.inside.tolist() == [0, 1, 0, 1] and counts.outside.tolist() == [1, 1, 0, 0]
    tallies = share_tallies([counts], "dice")
    assert tallies.part.tolist() == [[4, 2, 2]] and tallies.whole.tolist() == [[5, 3, 3]]


def test_a_case_without_foreground_on_either_side_is_in_no_mean():
    empty = ShareCounts(np.zeros(4, int), np.array([9, 1, 0, 0]))
    full = ShareCounts(np.array([0, 0, 4, 0]), np.array([4, 0, 0, 0]))
    tallies = share_tallies([empty, full], "mean_dice")
    assert tallies.values().tolist() == [0.5, 1.0, 0.0]  # at the first threshold the empty case has a voxel: Dice 0


def test_the_best_candidate_is_chosen_where_it_helps_cases_that_others_decide_for_too():
    part = np.array([[5, 6, 9], [5, 7, 9], [5, 6, 9]], float)
    choice = choose(Tallies(part, np.full((3, 3), 10.0)), default=0)
    assert (choice.index, choice.value, choice.undecided, choice.by_others) == (2, 0.9, 0.5, 0.9)
    assert choice.cases == 3


def test_what_helps_one_case_alone_is_not_chosen():
    part = np.array([[5, 9, 0], [5, 0, 4], [5, 4, 8]], float)  # each time the others point elsewhere
    choice = choose(Tallies(part, np.full((3, 3), 10.0)), default=0)
    assert choice.by_others is not None and choice.by_others <= choice.undecided
    assert (choice.index, choice.value) == (0, 0.5)


def test_a_single_case_decides_nothing_and_no_case_is_an_error():
    choice = choose(Tallies(np.array([[5.0, 9.0]]), np.array([[10.0, 10.0]])), default=0)
    assert (choice.index, choice.by_others, choice.cases) == (0, None, 1)
    with pytest.raises(ValueError, match="no cases"):
        choose(Tallies(np.zeros((0, 2)), np.zeros((0, 2))), default=0)


def test_of_equal_candidates_the_nearest_to_the_default_is_taken():
    part = np.array([[9, 9, 5, 8, 9, 9]] * 2, float)
    choice = choose(Tallies(part, np.full((2, 6), 10.0)), default=2)
    assert choice.index == 1


def test_object_metrics_are_pooled_or_a_mean_over_images():
    reference = np.zeros((1, 8, 12), int)
    reference[0, 1:5, 1:5], reference[0, 1:5, 7:11] = 1, 2
    found = np.where(reference == 1, 7, 0)
    counts = object_counts(found, reference)
    assert OBJECT_METRICS["object_f1"](counts) == (2.0, 3.0)
    assert OBJECT_METRICS["dsb2018"](counts) == (0.5, 1.0)
    assert OBJECT_METRICS["dsb2018"](object_counts(found * 0, reference * 0)) == (0.0, 0.0)
