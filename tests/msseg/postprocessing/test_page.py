"""The examples of docs/postprocessing.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from msseg.postprocessing.rules import RULES, apply_rules, rules_from_json

PAGE = (Path(__file__).parents[3] / "docs" / "postprocessing.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```rule\n(.*?)\n\n(.*?)^```", PAGE, re.S | re.M)


def label_map(rows: list[str]) -> np.ndarray:
    return np.array([[int(one) for one in row.replace(".", "0")] for row in rows], np.uint8)[None]


@pytest.mark.parametrize(("row", "picture"), EXAMPLES, ids=[row for row, _ in EXAMPLES])
def test_an_example_of_the_page_does_what_it_shows(row, picture):
    rules = rules_from_json({"version": 1, "rules": [json.loads(row)]}, "the page")
    before, after = (
        label_map(list(side)) for side in zip(*(line.split() for line in picture.splitlines()), strict=True)
    )
    assert before.shape == (1, 5, 5)
    np.testing.assert_array_equal(apply_rules(before, rules, (1.0, 1.0, 1.0)), after)


def test_every_rule_has_an_example():
    assert {json.loads(row)["rule"] for row, _ in EXAMPLES} == set(RULES)
