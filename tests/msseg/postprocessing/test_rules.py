from __future__ import annotations

import json

import numpy as np
import pytest

from msseg.data.image import read_label
from msseg.errors import CheckpointError
from msseg.postprocessing.rules import RULES, Rule, apply_rules, read_rules, rules_from_json, write_rules

TOGETHER = Rule("largest_component_together", (1, 2), dice_before={1: 0.5, 2: 0.6}, dice_after={1: 0.7, 2: 0.6})
OF_EACH = Rule("largest_component_of_each", (1,), dice_before={1: 0.7}, dice_after={1: 0.8})


def row(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[None, None]


def test_rules_are_applied_one_after_another():
    label = row(1, 2, 2, 1, 1, 0, 1, 1, 1)
    np.testing.assert_array_equal(apply_rules(label, [TOGETHER]), row(1, 2, 2, 1, 1, 0, 0, 0, 0))
    np.testing.assert_array_equal(apply_rules(label, [TOGETHER, OF_EACH]), row(0, 2, 2, 1, 1, 0, 0, 0, 0))
    np.testing.assert_array_equal(apply_rules(label, [OF_EACH, TOGETHER]), row(0, 0, 0, 0, 0, 0, 1, 1, 1))


def test_no_rules_change_nothing():
    np.testing.assert_array_equal(apply_rules(row(1, 0, 1), []), row(1, 0, 1))


def test_rules_come_back_from_their_file_with_the_figures_that_kept_them(tmp_path):
    write_rules(tmp_path / "postprocessing.json", [TOGETHER, OF_EACH])
    assert read_rules(tmp_path / "postprocessing.json") == [TOGETHER, OF_EACH]
    write_rules(tmp_path / "postprocessing.json", [])
    assert read_rules(tmp_path / "postprocessing.json") == []


def test_an_unknown_rule_names_the_file_and_the_known_rules(tmp_path):
    path = tmp_path / "postprocessing.json"
    path.write_text(json.dumps({"version": 1, "rules": [{"rule": "polish", "classes": [1]}]}))
    with pytest.raises(CheckpointError, match="unknown rule 'polish'; known are attached_of_each") as error:
        read_rules(path)
    assert str(path) in str(error.value)
    assert all(name in str(error.value) for name in RULES)
    with pytest.raises(CheckpointError, match="polish"):
        apply_rules(row(1), [Rule("polish", (1,))])


@pytest.mark.parametrize(
    "text", ["[]", '{"version": 1}', '{"version": 1, "rules": [{"rule": "x"}]}', "{", '{"version": 9}']
)
def test_a_malformed_file_is_refused_by_name(tmp_path, text):
    path = tmp_path / "postprocessing.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"postprocessing\.json"):
        read_rules(path)


def test_sizes_are_in_mm3_and_in_voxels_without_a_spacing():
    label, rule = row(1, 1, 0, 1), Rule("minimum_size_of_each", (1,), {"smallest_mm3": 1.5})
    np.testing.assert_array_equal(apply_rules(label, [rule]), row(1, 1, 0, 0))
    np.testing.assert_array_equal(apply_rules(label, [rule], (1.0, 1.0, 2.0)), label)
    np.testing.assert_array_equal(apply_rules(label, [rule], (1.0, 0.5, 1.0)), row(0, 0, 0, 0))


def test_a_component_of_just_the_smallest_size_stays():
    label, rule = row(1, 1, 1, 0, 1), Rule("minimum_size_of_each", (1,), {"smallest_mm3": 3 * 0.7 * 0.1 * 0.1})
    np.testing.assert_array_equal(apply_rules(label, [rule], (0.1, 0.1, 0.7)), row(1, 1, 1, 0, 0))


def test_holes_are_measured_in_mm3_too():
    ring = np.pad(np.zeros((1, 1, 2), np.uint8), ((0, 0), (1, 1), (1, 1)), constant_values=1)
    rule = Rule("fill_holes_of_each", (1,), {"largest_mm3": 1.0})
    assert apply_rules(ring, [rule], (1.0, 1.0, 1.0)) is ring
    assert apply_rules(ring, [rule], (1.0, 1.0, 0.5)).all()


def test_where_the_anchor_is_missing_nothing_is_removed():
    label = row(2, 2, 0, 2)
    for rule in (
        Rule("attached_of_each", (2,), {"to": 1}),
        Rule("mss_kidneys", (1, 2)),
        Rule("mss_kidneys", (1, 2), {"literal": 1}),
    ):
        assert apply_rules(label, [rule]) is label


def test_to_0_is_any_class_that_the_rule_is_not_about():
    rule = Rule("attached_of_each", (3,), {"to": 0})
    np.testing.assert_array_equal(apply_rules(row(1, 3, 0, 3, 0, 2, 3), [rule]), row(1, 3, 0, 0, 0, 2, 3))


def test_the_kidney_rule_keeps_tumours_on_two_kidneys_and_on_one():
    label = row(1, 1, 2, 0, 2, 0, 1, 0, 1, 1, 1, 2)
    for literal in (0, 1):
        rule = Rule("mss_kidneys", (1, 2), {"literal": literal})
        np.testing.assert_array_equal(apply_rules(label, [rule]), row(1, 1, 2, 0, 0, 0, 0, 0, 1, 1, 1, 2))
        np.testing.assert_array_equal(apply_rules(row(2, 0, 1, 1, 2), [rule]), row(0, 0, 1, 1, 2))


def test_rules_leave_their_input_as_it_was():
    label = np.random.default_rng(0).choice(3, size=(5, 6, 7), p=[0.6, 0.2, 0.2]).astype(np.uint8)
    before = label.copy()
    every = {"k": 1.0, "smallest_mm3": 5.0, "to": 0.0}
    for name, known in RULES.items():
        apply_rules(label, [Rule(name, (1,), {one: every[one] for one in known.required})])
        np.testing.assert_array_equal(label, before)


def rules_of(rows, names=()):
    return rules_from_json({"version": 1, "rules": rows}, "mine.json", names)


def test_classes_may_be_named():
    (rule,) = rules_of(
        [{"rule": "attached_of_each", "classes": ["tumour", 3], "parameters": {"to": "kidney"}}],
        ["background", "kidney", "tumour", "cyst"],
    )
    assert rule == Rule("attached_of_each", (2, 3), {"to": 1.0})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"rule": "k_largest_of_each", "classes": [1]}, "k_largest_of_each: no parameter 'k'; expected k"),
        ({"rule": "mss_kidneys", "classes": [1], "parameters": {"size": 1}}, "'size'; expected k, literal"),
        ({"rule": "largest_component_of_each", "classes": [1], "parameters": {"k": 1}}, "'k'; expected none"),
        ({"rule": "k_largest_of_each", "classes": [1], "parameters": {"k": 1.5}}, "k is 1.5; expected a whole number"),
        ({"rule": "minimum_size_of_each", "classes": [1], "parameters": {"smallest_mm3": 0}}, "expected a volume"),
        ({"rule": "attached_of_each", "classes": [1], "parameters": {"to": 1}}, "without the one in `to`"),
        ({"rule": "largest_component_of_each", "classes": []}, "expected one or more"),
        ({"rule": "largest_component_of_each", "classes": [3]}, r"class 3; expected kidney \(1\), tumour \(2\)"),
        ({"rule": "largest_component_of_each", "classes": ["liver"]}, "class 'liver'; expected kidney"),
        ({"rule": "largest_component_of_each", "classes": ["background"]}, "class 'background'"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused_with_what_was_expected(row, message):
    with pytest.raises(CheckpointError, match=message) as error:
        rules_of([row], ["background", "kidney", "tumour"])
    assert str(error.value).startswith("mine.json: ")


def test_of_real_kidneys_with_tumours_false_islands_go_and_nothing_else(test_data):
    label, geometry = read_label(test_data / "KiTS19_labels" / "case_00061" / "segmentation.nii.gz")
    predicted = label.copy()
    predicted[2:5, 5:25, 5:25] = 1
    predicted[20:23, 480:500, 480:500] = 2
    for literal in (0, 1):
        mended = apply_rules(predicted, [Rule("mss_kidneys", (1, 2), {"literal": literal})], geometry.spacing_mm)
        np.testing.assert_array_equal(mended, label)
