from __future__ import annotations

import numpy as np
import pytest

from msseg.postprocessing.decide import choose_rules
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
