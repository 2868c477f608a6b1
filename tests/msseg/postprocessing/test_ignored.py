"""Tables and counts of cases of which a part is not annotated: that part is scored nowhere, but rules act on it."""

from __future__ import annotations

import numpy as np
import pytest

from msseg.postprocessing.decide import class_dice
from msseg.postprocessing.rules import Rule, apply_rules
from msseg.postprocessing.tables import after_rules, case_table, confusion, table_from_json, table_to_json
from msseg.postprocessing.thresholds import count_shares


def maps(seed):
    rng = np.random.default_rng(seed)
    prediction = (rng.integers(0, 6, (5, 8, 8)) % 4 % 3).astype(np.uint8)
    reference = rng.integers(0, 3, (5, 8, 8)).astype(np.int8)
    reference[rng.random(reference.shape) < 0.4] = -1
    return prediction, reference


def counted(prediction, reference):
    """The confusion, voxel by voxel."""
    table = np.zeros((3, 3), np.int64)
    np.add.at(table, (prediction[reference >= 0], reference[reference >= 0]), 1)
    table[0, 0] = 0
    return table


@pytest.mark.parametrize("seed", range(4))
def test_the_confusion_is_that_of_the_annotated_voxels(seed):
    prediction, reference = maps(seed)
    table = case_table(prediction, reference, 3)
    assert np.array_equal(confusion(table, after_rules(table, [])), counted(prediction, reference))


@pytest.mark.parametrize(
    "rule",
    [
        Rule("largest_component_of_each", (1,)),
        Rule("largest_component_together", (1, 2)),
        Rule("minimum_size_of_each", (2,), {"smallest_mm3": 3.0}),
        Rule("fill_holes_of_each", (1, 2)),
    ],
)
def test_rules_see_whole_components_and_are_scored_where_something_is_known(rule):
    prediction, reference = maps(7)
    table = case_table(prediction, reference, 3)
    treated = apply_rules(prediction, [rule], None)
    assert np.array_equal(confusion(table, after_rules(table, [rule])), counted(treated, reference))


def test_the_table_is_that_of_unsigned_maps_where_all_is_annotated():
    prediction, reference = maps(1)
    reference = np.maximum(reference, 0)
    signed, unsigned = (
        table_to_json(case_table(prediction, one, 3)) for one in (reference, reference.astype(np.uint8))
    )
    assert signed == unsigned


def test_what_is_not_annotated_makes_no_difference_to_the_scores():
    prediction, reference = maps(2)
    scores = []
    for seed in (3, 4):
        filled = np.where(reference < 0, np.random.default_rng(seed).integers(0, 3, reference.shape), prediction)
        table = case_table(filled.astype(np.uint8), reference, 3)
        scores.append(class_dice(confusion(table, after_rules(table, []))))
    assert np.array_equal(*scores)


def test_a_case_without_any_annotated_voxel_counts_nothing():
    prediction, _ = maps(1)
    table = case_table(prediction, np.full(prediction.shape, -1, np.int8), 3)
    assert np.isnan(class_dice(confusion(table, after_rules(table, [])))).all()


def test_a_table_with_ignored_voxels_survives_its_file():
    table = case_table(*maps(5), 3)
    assert table_to_json(table_from_json(table_to_json(table))) == table_to_json(table)


def test_shares_are_counted_where_something_is_known():
    shares = np.array([[[3, 3, 1, 0, 2]]], np.uint8)
    counts = count_shares(shares, np.array([[[1, -1, 0, -1, 1]]], np.int8), 4)
    assert counts.inside.tolist() == [0, 0, 1, 1]
    assert counts.outside.tolist() == [0, 1, 0, 0]
