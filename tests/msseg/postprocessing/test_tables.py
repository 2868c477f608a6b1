from __future__ import annotations

import json

import numpy as np
import pytest

from msseg.postprocessing.decide import class_dice
from msseg.postprocessing.rules import Rule, apply_rules
from msseg.postprocessing.tables import after_rules, case_table, confusion, table_from_json, table_to_json

SPACING_MM = (2.0, 0.5, 1.5)
RULES = [
    Rule("largest_component_together", (1, 2, 3)),
    Rule("largest_component_together", (1, 3)),
    Rule("largest_component_of_each", (2,)),
    Rule("k_largest_together", (1, 2, 3), {"k": 3}),
    Rule("k_largest_together", (2, 3), {"k": 2, "counted_class": 2}),
    Rule("k_largest_together", (1, 2), {"k": 2, "counted_class": 3}),
    Rule("k_largest_of_each", (1, 2), {"k": 2}),
    Rule("minimum_size_together", (1, 2, 3), {"smallest_mm3": 4.5}),
    Rule("minimum_size_of_each", (1, 2, 3), {"smallest_mm3": 3}),
    Rule("attached_of_each", (2, 3), {"to": 1}),
    Rule("attached_of_each", (2,), {"to": 0}),
    Rule("attached_together", (2, 3), {"to": 1}),
    Rule("mss_kidneys", (1, 2), {"k": 2}),
    Rule("mss_kidneys", (1, 2, 3), {"k": 1, "literal": 1}),
]
FILL = Rule("fill_holes_of_each", (1, 2, 3))


def random_map(rng: np.random.Generator, shape: tuple[int, ...], background: float = 0.8) -> np.ndarray:
    rest = 1 - background
    return rng.choice(4, size=shape, p=[background, 0.5 * rest, 0.3 * rest, 0.2 * rest]).astype(np.uint8)


def counted(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The confusion voxel by voxel, without the background that both have."""
    counts = np.zeros((4, 4), np.int64)
    np.add.at(counts, (prediction.ravel(), reference.ravel()), 1)
    counts[0, 0] = 0
    return counts


@pytest.mark.parametrize("seed", range(40))
def test_any_rules_do_in_the_table_what_they_do_to_the_voxels(seed):
    rng = np.random.default_rng(seed)
    shape = [(5, 7, 9), (1, 14, 16)][seed % 2]
    prediction, reference = random_map(rng, shape, [0.8, 0.4][seed // 4 % 2]), random_map(rng, shape)
    rules = [RULES[index] for index in rng.choice(len(RULES), rng.integers(0, 4), replace=False)]
    rules = [FILL, *rules] if seed % 4 > 1 else rules
    table = case_table(prediction, reference, 4, SPACING_MM)
    expected = counted(apply_rules(prediction, rules, SPACING_MM), reference)
    np.testing.assert_array_equal(confusion(table, after_rules(table, rules)), expected)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_each_rule_alone_does_in_the_table_what_it_does_to_the_voxels(rule):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        prediction, reference = random_map(rng, (4, 8, 8)), random_map(rng, (4, 8, 8))
        if seed == 7:
            prediction[prediction == 1] = 0
        table = case_table(prediction, reference, 4, SPACING_MM)
        expected = counted(apply_rules(prediction, [rule], SPACING_MM), reference)
        np.testing.assert_array_equal(confusion(table, after_rules(table, [rule])), expected)


def test_the_parts_of_a_small_case_are_these():
    prediction = np.array([[1, 1, 0, 0, 2], [1, 2, 0, 0, 0], [0, 0, 0, 0, 2]], np.uint8)[None]
    reference = np.array([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 2]], np.uint8)[None]
    table = case_table(prediction, reference, 3, (2.0, 3.0, 4.0))
    parts = table.plain
    assert parts.class_of.tolist() == [1, 2, 2, 2] and parts.sizes.tolist() == [3, 1, 1, 1]
    assert parts.contacts.tolist() == [[0, 2]]
    assert parts.overlap.tolist() == [[0, 1, 3], [1, 0, 1], [2, 1, 1], [3, 2, 1]]
    assert table.reference.sizes.tolist() == [4, 1] and table.voxel_mm3 == 24 and table.filled is None
    np.testing.assert_allclose(class_dice(confusion(table, after_rules(table, []))), [6 / 7, 2 / 4])


def test_a_hole_is_kept_as_a_second_set_of_parts():
    ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)[None]
    table = case_table(ring, np.ones_like(ring), 2)
    assert table.filled is not None and table.filled.sizes.tolist() == [9] and table.plain.sizes.tolist() == [8]
    filled = after_rules(table, [Rule("fill_holes_of_each", (1,))])
    assert class_dice(confusion(table, filled)).tolist() == [1.0]


def test_what_a_table_cannot_tell_is_an_error():
    table = case_table(np.ones((1, 2, 2), np.uint8), np.ones((1, 2, 2), np.uint8), 3)
    for rules in ([Rule("fill_holes_together", (1, 2))], [RULES[2], Rule("fill_holes_of_each", (1, 2))]):
        with pytest.raises(ValueError, match="fill_holes"):
            after_rules(table, rules)


def test_empty_maps_make_a_table_too():
    empty, full = np.zeros((2, 3, 4), np.uint8), np.ones((2, 3, 4), np.uint8)
    tables = [case_table(*maps, 2) for maps in ((empty, empty), (empty, full), (full, empty))]
    dice = [class_dice(confusion(table, after_rules(table, [RULES[2]]))) for table in tables]
    np.testing.assert_array_equal(dice, [[np.nan], [0], [0]])


def test_a_table_comes_back_from_json():
    rng = np.random.default_rng(3)
    table = case_table(random_map(rng, (1, 12, 12), 0.3), random_map(rng, (1, 12, 12)), 4, SPACING_MM)
    again = table_from_json(json.loads(json.dumps(table_to_json(table))))
    assert table.filled is not None and again.voxel_mm3 == table.voxel_mm3
    for rules in ([], [FILL], RULES[:3], [FILL, *RULES[4:7]]):
        np.testing.assert_array_equal(
            confusion(again, after_rules(again, rules)), confusion(table, after_rules(table, rules))
        )
