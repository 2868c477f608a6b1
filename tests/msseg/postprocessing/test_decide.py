from __future__ import annotations

import numpy as np
import pytest

from msseg.postprocessing.decide import choose_rules, dice_of, mean_score, scores_after
from msseg.postprocessing.rules import apply_rules
from msseg.postprocessing.tables import case_table


def row(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[None, None]


def decide_rules(cases, num_classes):
    return choose_rules([case_table(*case, num_classes) for case in cases])


def names(rules):
    return [(rule.rule, rule.classes) for rule in rules]


def test_a_false_island_of_the_foreground_is_removed_together():
    prediction, reference = row(1, 1, 2, 2, 0, 1), row(1, 1, 2, 2, 0, 0)
    rules = decide_rules([(prediction, reference)], 3)
    assert names(rules) == [("largest_component_together", (1, 2))]
    assert rules[0].dice_before == {1: 0.8, 2: 1.0} and rules[0].dice_after == {1: 1.0, 2: 1.0}


def test_the_whole_foregrounds_rule_is_dropped_where_one_class_falls():
    prediction = row(1, 1, 1, 0, 1, 0, 2, 2)  # class 2 lies apart and would be lost
    reference = row(1, 1, 1, 0, 0, 0, 2, 2)
    rules = decide_rules([(prediction, reference)], 3)
    assert names(rules) == [("largest_component_of_each", (1,))]
    assert rules[0].dice_before == {1: pytest.approx(6 / 7, abs=1e-6)} and rules[0].dice_after == {1: 1.0}


def test_each_class_is_judged_upon_the_foregrounds_rule():
    prediction = row(1, 1, 2, 2, 1, 0, 2)  # the lone 2 goes with the foreground, the lone 1 by its class
    reference = row(1, 1, 2, 2, 0, 0, 0)
    rules = decide_rules([(prediction, reference)], 3)
    assert names(rules) == [("largest_component_together", (1, 2)), ("largest_component_of_each", (1,))]
    assert rules[1].dice_before == {1: 0.8} and rules[1].dice_after == {1: 1.0}


def test_a_rule_that_harms_more_cases_than_it_helps_is_not_kept():
    helped = (row(1, 1, 0, 1, 0, 0), row(1, 1, 0, 0, 0, 0))
    harmed = (row(1, 1, 0, 1, 0, 1), row(1, 1, 0, 1, 0, 1))
    assert names(decide_rules([helped], 2)) == [("largest_component_together", (1,))]
    assert decide_rules([helped, harmed], 2) == []


def test_what_changes_nothing_is_not_kept():
    assert decide_rules([(row(1, 1, 0), row(1, 0, 0))], 2) == []
    assert decide_rules([(row(0, 0), row(0, 0))], 2) == []
    assert decide_rules([], 2) == []


def test_a_class_that_no_case_has_neither_helps_nor_hinders():
    rules = decide_rules([(row(1, 1, 0, 1), row(1, 1, 0, 0))], 3)
    assert names(rules) == [("largest_component_together", (1, 2))]
    assert rules[0].dice_after == {1: 1.0}


def flat(text: str) -> np.ndarray:
    """A label map of one slice, rows apart by blanks."""
    return np.array([[int(one) for one in row.replace(".", "0")] for row in text.split()], np.uint8)[None]


# Two kidneys with a tumour on each, and what a network makes of them: islands of both, in two places.
KIDNEYS = flat("11..11 12..21 ...... ......")
FALSE_ISLANDS = flat("11..11 12..21 ...... .2...1")
OTHER_ISLANDS = flat("11..11 12..21 ...... 1..2..")


def test_two_organs_with_what_is_attached_are_found_out():
    rules = decide_rules([(FALSE_ISLANDS, KIDNEYS), (OTHER_ISLANDS, KIDNEYS)], 3)
    assert names(rules) == [("k_largest_together", (1, 2))]
    assert rules[0].parameters == {"k": 2, "counted_class": 1}
    assert rules[0].dice_after == {1: 1.0, 2: 1.0}
    np.testing.assert_array_equal(apply_rules(FALSE_ISLANDS, rules), KIDNEYS)


def test_beyond_nnunets_questions_a_single_case_keeps_nothing():
    assert decide_rules([(FALSE_ISLANDS, KIDNEYS)], 3) == []
    assert decide_rules([(FALSE_ISLANDS, KIDNEYS), (KIDNEYS, KIDNEYS)], 3) == []


def test_small_islands_go_where_the_number_of_objects_varies():
    predictions = ["22..22 22..22 ...... 2222.2", "22..22 2...22 ...... 2.....", "22.... 22.... ...... 22...2"]
    references = ["22..22 22..22 ...... 2222..", "22..22 2...22 ...... ......", "22.... 22.... ...... 22...."]
    cases = [(flat(one), flat(other)) for one, other in zip(predictions, references, strict=True)]
    rules = decide_rules(cases, 3)
    assert ("minimum_size_together", (1, 2)) in names(rules)
    assert scores_after([case_table(*case, 3) for case in cases], rules)[:, 1].tolist() == [1, 1, 1]


def test_holes_are_filled_first_though_asked_last():
    reference = flat("111... 111... 111... ......")
    cases = [(flat("111... 1.1... 111... .....1"), reference), (flat("111..1 1.1... 111... ......"), reference)]
    rules = decide_rules(cases, 2)
    assert names(rules) == [("fill_holes_of_each", (1,)), ("largest_component_together", (1,))]
    for prediction, _ in cases:
        np.testing.assert_array_equal(apply_rules(prediction, rules), reference)


def test_another_score_may_decide():
    tables = [case_table(KIDNEYS, KIDNEYS, 3), case_table(FALSE_ISLANDS, KIDNEYS, 3)]
    np.testing.assert_allclose(scores_after(tables, [], dice_of([(1, 2), (2,)])), [[1, 1], [16 / 18, 0.8]])
    np.testing.assert_allclose(scores_after(tables, []), [[1, 1], [12 / 13, 0.8]])
    assert mean_score(scores_after(tables, [])) == pytest.approx((25 / 26 + 0.9) / 2)
    assert choose_rules([tables[1]] * 2) != []
    assert choose_rules([tables[1]] * 2, lambda confusion: np.array([1.0])) == []


def test_scores_after_the_rules_are_those_of_the_mended_voxels():
    rng = np.random.default_rng(0)
    maps = [rng.choice(3, size=(2, 4, 9, 9), p=[0.7, 0.2, 0.1]).astype(np.uint8) for _ in range(6)]
    for prediction, reference in maps:  # so that rules have something to find
        reference[:, 2:7, 2:7] = prediction[:, 2:7, 2:7] = 1
    tables = [case_table(*one, 3) for one in maps]
    rules = choose_rules(tables)
    assert rules
    mended = [case_table(apply_rules(prediction, rules), reference, 3) for prediction, reference in maps]
    np.testing.assert_allclose(scores_after(tables, rules), scores_after(mended, []))
    assert mean_score(scores_after(tables, rules)) > mean_score(scores_after(tables, []))
