from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from msseg.evaluation.objects import (
    THRESHOLDS_PERCENT,
    ObjectCounts,
    detections,
    object_counts,
    object_metrics,
    overlaps,
)

REFERENCE = np.array(
    [
        [1, 1, 0, 2],
        [1, 1, 0, 2],
        [0, 0, 0, 0],
        [3, 3, 3, 3],
    ]
)
# 1 is found with an IoU of 3/4, 2 is missed, 3 is found by its left half only (IoU 1/2), and 9 is invented.
PREDICTION = np.array(
    [
        [5, 5, 0, 0],
        [5, 0, 0, 0],
        [0, 0, 9, 9],
        [7, 7, 0, 0],
    ]
)
NOTHING = np.zeros((4, 4), int)


def test_a_match_needs_an_iou_above_the_threshold():
    counts = object_counts(PREDICTION, REFERENCE)
    assert (counts.predicted, counts.expected) == (3, 3)
    assert counts.matched == (1, 1, 1, 1, 1, 0, 0, 0, 0, 0)  # 3/4 is above 0.7 and not above 0.75
    assert counts.matched_iou == 0.75


def test_ratios_are_those_worked_out_by_hand():
    values = object_metrics(object_counts(PREDICTION, REFERENCE))
    assert values["object_f1"] == values["object_precision"] == values["object_recall"] == pytest.approx(1 / 3)
    assert values["object_f1_75"] == values["object_f1_90"] == 0
    assert values["dsb2018"] == pytest.approx(5 * (1 / 5) / 10)
    # Shared 3 + 2 of unions 4 + 4, 2 pixels missed, 2 invented.
    assert values["aji"] == pytest.approx(5 / 12)
    assert values["pq"] == pytest.approx(0.75 / 3)


def test_an_expected_object_takes_its_best_prediction_in_the_aggregated_index_though_it_is_taken():
    reference = np.array([[1, 1, 1, 2, 2]])
    prediction = np.array([[4, 4, 4, 4, 4]])
    counts = object_counts(prediction, reference)
    assert (counts.aggregated_shared_px, counts.aggregated_union_px) == (5, 10)


def test_of_equal_predictions_the_first_is_taken():
    reference, prediction = np.array([[1, 1, 1, 1]]), np.array([[3, 3, 2, 2]])
    counts = object_counts(prediction, reference)
    assert (counts.aggregated_shared_px, counts.aggregated_union_px) == (2, 4 + 2)


def test_the_same_objects_under_other_numbers_are_perfect():
    renumbered = np.array([0, 70000, 2, 40], np.int64)[REFERENCE]
    assert set(object_metrics(object_counts(renumbered, REFERENCE)).values()) == {1.0}


@pytest.mark.parametrize(("prediction", "reference"), [(NOTHING, REFERENCE), (REFERENCE, NOTHING)])
def test_objects_on_one_side_only_give_zeros(prediction: np.ndarray, reference: np.ndarray):
    assert set(object_metrics(object_counts(prediction, reference)).values()) == {0.0}


def test_no_object_on_either_side_defines_nothing():
    assert set(object_metrics(object_counts(NOTHING, NOTHING)).values()) == {None}
    assert object_counts(np.zeros((0, 4), int), np.zeros((0, 4), int)) == ObjectCounts()


def test_counts_of_images_add_up():
    both = object_counts(PREDICTION, REFERENCE) + object_counts(REFERENCE, REFERENCE) + ObjectCounts()
    assert (both.predicted, both.expected, both.matched[0], both.matched[-1]) == (6, 6, 4, 3)
    assert detections(both, 50).f1 == pytest.approx(2 / 3)
    assert detections(both, 50).score == pytest.approx(4 / 8)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        object_counts(NOTHING, NOTHING[:2])


@pytest.mark.parametrize("highest", [12, 70_000, 2**31 - 2])
def test_figures_are_those_of_a_matching_by_brute_force(highest: int):
    generator = np.random.default_rng(highest)
    for _ in range(5):
        prediction, reference = (_random_objects(generator, highest) for _ in range(2))
        prediction = np.where(generator.random(prediction.shape) < 0.85, reference, prediction)
        counts, expected = object_counts(prediction, reference), _brute_force(prediction, reference)
        assert counts.matched == expected["matched"]
        assert counts.matched_iou == pytest.approx(expected["matched_iou"])
        assert counts.aggregated_shared_px / counts.aggregated_union_px == pytest.approx(expected["aji"])


def test_overlaps_give_every_pair_that_meets():
    pairs = overlaps(PREDICTION, REFERENCE)
    assert pairs.predicted_px.tolist() == [3, 2, 2]
    assert pairs.expected_px.tolist() == [4, 2, 4]
    assert list(zip(pairs.expected, pairs.predicted, pairs.shared_px, strict=True)) == [(0, 0, 3), (2, 1, 2)]


def _random_objects(generator: np.random.Generator, highest: int) -> np.ndarray:
    """Rectangles over one another, under numbers up to `highest`."""
    ids = np.zeros((24, 30), np.int64)
    for number in generator.integers(1, highest, 8):
        (top, left), (height, width) = generator.integers(0, 20, 2), generator.integers(2, 12, 2)
        ids[top : top + height, left : left + width] = number
    return ids


def _brute_force(prediction: np.ndarray, reference: np.ndarray) -> dict:
    """The figures by whole masks and an optimal assignment at each threshold."""
    predicted = [prediction == number for number in np.unique(prediction) if number]
    expected = [reference == number for number in np.unique(reference) if number]
    shared = np.array([[(one & other).sum() for other in predicted] for one in expected])
    union = np.array([[(one | other).sum() for other in predicted] for one in expected])
    iou = shared / union
    matched = []
    for percent in THRESHOLDS_PERCENT:
        allowed = 100 * shared > percent * union
        rows, columns = linear_sum_assignment(np.where(allowed, iou, 0), maximize=True)
        matched.append(int(allowed[rows, columns].sum()))
    rows, columns = linear_sum_assignment(np.where(iou > 0.5, iou, 0), maximize=True)
    return {
        "matched": tuple(matched),
        "matched_iou": sum(
            iou[row, column] for row, column in zip(rows, columns, strict=True) if iou[row, column] > 0.5
        ),
        "aji": _aggregated_jaccard(
            shared, union, [mask.sum() for mask in expected], [mask.sum() for mask in predicted]
        ),
    }


def _aggregated_jaccard(shared: np.ndarray, union: np.ndarray, expected_px: list, predicted_px: list) -> float:
    """Algorithm 1 of Kumar et al. as it is printed."""
    numerator = denominator = 0
    used = set()
    for row in range(len(expected_px)):
        best = int(np.argmax(shared[row] / union[row]))
        if shared[row, best]:
            numerator, denominator = numerator + shared[row, best], denominator + union[row, best]
            used.add(best)
        else:
            denominator += expected_px[row]
    return numerator / (denominator + sum(px for place, px in enumerate(predicted_px) if place not in used))
