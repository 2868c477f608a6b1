from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter, generate_binary_structure, label

from msseg.evaluation.lesions import (
    LesionCounts,
    LesionRule,
    _dilated,
    components,
    detect_lesions,
    joined_lesions,
    score_lesions,
)

RULE = LesionRule(dilation=1, smallest_mm3=1.0, lost_mm=374.0)


def _row(*runs: tuple[int, int], length: int = 40) -> np.ndarray:
    """A mask (1, 1, x) that holds the runs from start to end."""
    mask = np.zeros((1, 1, length), dtype=bool)
    for start, end in runs:
        mask[..., start:end] = True
    return mask


def test_a_lesion_is_found_where_more_than_half_of_the_union_is_shared():
    assert detect_lesions(_row((1, 5)), _row((0, 4))) == LesionCounts(found=1)  # 3 / 5
    assert detect_lesions(_row((2, 6)), _row((0, 6))) == LesionCounts(found=1)  # 4 / 6
    assert detect_lesions(_row((0, 2)), _row((0, 4))) == LesionCounts(false=1, missed=1)  # 2 / 4: not above


def test_lesions_on_one_side_only_are_false_or_missed():
    none = _row()
    assert detect_lesions(none, none) == LesionCounts()
    assert detect_lesions(none, _row((0, 2), (5, 6))) == LesionCounts(missed=2)
    assert detect_lesions(_row((0, 2), (5, 6)), none) == LesionCounts(false=2)


def test_a_prediction_over_two_lesions_makes_them_one():
    # 8 of 9 shared, though with either alone it were 4 / 9.
    assert detect_lesions(_row((0, 9)), _row((0, 4), (5, 9))) == LesionCounts(found=1)


def test_two_predictions_in_one_lesion_are_one():
    assert detect_lesions(_row((0, 4), (5, 9)), _row((0, 9))) == LesionCounts(found=1)


def test_a_lesion_belongs_to_the_prediction_that_overlaps_it_most():
    # The second lesion shares 1 with the first prediction, 4 with the second: both are found apart.
    prediction = _row((0, 6), (7, 12))
    reference = _row((0, 4), (5, 12))
    assert detect_lesions(prediction, reference) == LesionCounts(found=2)


def test_precision_and_recall_are_of_all_lesions_together():
    counts = LesionCounts(3, 1, 0) + LesionCounts(1, 0, 4)
    assert (counts.precision, counts.recall) == (4 / 5, 4 / 8)
    assert (LesionCounts().precision, LesionCounts().recall) == (None, None)


def test_lesions_whose_dilations_touch_are_one():
    # Dilated once, (0, 2) and (4, 6) reach 3 and 3; (10, 12) stands apart.
    lesions = joined_lesions(_row((0, 2), (4, 6), (10, 12)), 1).ravel()
    assert lesions[[0, 1, 4, 5]].tolist() == [1, 1, 1, 1]
    assert lesions[[10, 11]].tolist() == [2, 2]
    assert not lesions[[2, 3, 6, 9, 12]].any()


def test_lesion_scores_average_found_missed_and_invented_ones():
    # The first lesion is met exactly, the second missed, the prediction at 30 invented: Dice (1 + 0 + 0) / 3.
    scores = score_lesions(_row((0, 4), (30, 33)), _row((0, 4), (15, 18)), (1, 1, 1), RULE)
    assert scores.counts == LesionCounts(1, 1, 1)
    assert scores.dice == pytest.approx(1 / 3)
    assert scores.hd95_mm == pytest.approx((0 + 374 + 374) / 3)


def test_a_prediction_beside_a_lesion_belongs_to_it_though_they_share_nothing():
    scores = score_lesions(_row((4, 6)), _row((0, 4)), (1, 1, 1), RULE)
    assert (scores.counts, scores.dice) == (LesionCounts(found=1), 0.0)
    assert 0 < scores.hd95_mm < 374


def test_small_lesions_are_not_asked_for_but_excuse_what_is_predicted_there():
    rule = LesionRule(dilation=1, smallest_mm3=4.0, lost_mm=374.0)
    small, large = (0, 2), (10, 16)  # 2 and 6 mm³
    assert score_lesions(_row(large), _row(small, large), (1, 1, 1), rule).dice == 1.0
    found = score_lesions(_row(small, large), _row(small, large), (1, 1, 1), rule)
    assert (found.dice, found.counts) == (1.0, LesionCounts(found=1))
    assert score_lesions(_row(small, large), _row(small, large), (3, 1, 1), rule).counts == LesionCounts(found=2)


def test_nothing_to_find_and_nothing_predicted_is_perfect():
    scores = score_lesions(_row(), _row(), (1, 1, 1), RULE)
    assert (scores.dice, scores.hd95_mm) == (1.0, 0.0)
    assert score_lesions(_row((3, 6)), _row(), (1, 1, 1), RULE).hd95_mm == 374.0


def test_predicted_lesions_are_joined_and_the_smallest_dropped_where_the_rule_says_so():
    # Dilated once, (0, 2) and (4, 6) are one of 4 mm³ and (12, 14) another of 2, as small as is not asked for. Where
    # each predicted component counts alone, the three are 2 mm³ each, and the one at 12 is invented.
    lesion, prediction = _row((0, 2)), _row((0, 2), (4, 6), (12, 14))
    joined = LesionRule(dilation=1, smallest_mm3=1.0, lost_mm=337.0, joins_predicted=True)
    dropped = LesionRule(dilation=1, smallest_mm3=2.0, lost_mm=337.0, joins_predicted=True)
    alone = LesionRule(dilation=1, smallest_mm3=1.0, lost_mm=337.0)
    found = score_lesions(prediction, lesion, (1, 1, 1), joined)
    assert (found.counts, found.dice) == (LesionCounts(1, 1), pytest.approx((2 * 2 / (4 + 2)) / 2))
    apart = score_lesions(prediction, lesion, (1, 1, 1), alone)
    assert (apart.counts, apart.dice) == (LesionCounts(1, 2), pytest.approx(1 / 3))
    kept = score_lesions(prediction, _row((0, 3)), (1, 1, 1), dropped)
    assert (kept.counts, kept.dice) == (LesionCounts(found=1), pytest.approx(2 * 2 / (4 + 3)))


@pytest.mark.parametrize("times", [1, 3, 5])
def test_masks_grow_as_scipys_do(times: int):
    mask = np.random.default_rng(times).random((9, 12, 14)) < 0.01
    expected = binary_dilation(mask, generate_binary_structure(3, 2), iterations=times)
    assert np.array_equal(_dilated(mask, times), expected)
    assert np.array_equal(joined_lesions(mask, times), np.where(mask, components(expected), 0))


def _scored_step_by_step(prediction: np.ndarray, reference: np.ndarray, rule: LesionRule) -> tuple[float, LesionCounts]:
    """Dice and counts as the challenge's programs go about it: on whole images, lesion after lesion, by scipy."""
    corners, edges = generate_binary_structure(3, 3), generate_binary_structure(3, 2)

    def grown(mask: np.ndarray) -> np.ndarray:
        return binary_dilation(mask, edges, iterations=rule.dilation)

    expected = label(grown(reference), corners)[0] * reference
    predicted = label(grown(prediction) if rule.joins_predicted else prediction, corners)[0] * prediction
    numbers = [one for one in np.unique(predicted) if one]
    if rule.joins_predicted:
        numbers = [one for one in numbers if (predicted == one).sum() > rule.smallest_mm3]
    dices, belonging = [], set()
    for one in range(1, expected.max() + 1):
        lesion = expected == one
        met = set(np.unique(predicted[grown(lesion)])) & set(numbers)
        belonging |= met
        if lesion.sum() > rule.smallest_mm3:
            found = np.isin(predicted, list(met))
            dices.append(2 * (found & lesion).sum() / (found.sum() + lesion.sum()) if met else None)
    false, hits = len(set(numbers) - belonging), [dice for dice in dices if dice is not None]
    return sum(hits) / (len(dices) + false), LesionCounts(len(hits), false, len(dices) - len(hits))


@pytest.mark.parametrize("joins_predicted", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_the_challenges_own_way(seed: int, joins_predicted: bool):
    generator = np.random.default_rng(seed)
    reference, other = (gaussian_filter(generator.normal(size=(30, 40, 50)), 1.5) for _ in range(2))
    masks = reference + 0.7 * other > 0.28, reference > 0.23
    rule = LesionRule(dilation=1 + seed % 2, smallest_mm3=8.0, lost_mm=374.0, joins_predicted=joins_predicted)
    scores, (dice, counts) = score_lesions(*masks, (1, 1, 1), rule), _scored_step_by_step(*masks, rule)
    assert counts.found > 1 and counts.false > 0
    assert (scores.counts, scores.dice) == (counts, pytest.approx(dice))
