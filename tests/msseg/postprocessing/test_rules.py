from __future__ import annotations

import json

import numpy as np
import pytest

from msseg.errors import CheckpointError
from msseg.postprocessing.rules import RULES, Rule, apply_rules, read_rules, write_rules

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
