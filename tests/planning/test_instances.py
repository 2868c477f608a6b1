from __future__ import annotations

import json
from dataclasses import replace

import pytest

from planning.errors import PlanError
from planning.fingerprint import fingerprint_from_json, fingerprint_to_json
from planning.instances import InstancePlan, semantic_labels
from planning.plan import plan_from_json, plan_to_json
from planning.planner import make_plan

LEVELS = {"background": 0, "border": 1, "rim": 2, "core": 3}
NUCLEI = InstancePlan("nucleus", 255)


@pytest.fixture
def numbered(make_fingerprint):
    """Images of nuclei: a border in a hundredth of them, and none at all in most."""
    fingerprint = make_fingerprint([((1, 256, 256), (1, 1, 1), 9)], classes=4, voxels_per_class=(160, 9000, 5000))
    return replace(fingerprint, labels=LEVELS, instances=NUCLEI)


def test_the_plan_takes_levels_and_objects_from_the_fingerprint_and_both_survive_json(numbered):
    plan = make_plan(numbered)
    assert (plan.labels, plan.instances) == (LEVELS, NUCLEI)
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan))), "plan.json") == plan
    written = json.loads(json.dumps(fingerprint_to_json(numbered)))
    assert fingerprint_from_json(written, "fingerprint.json") == numbered


def test_files_from_before_are_of_labels(numbered):
    written = plan_to_json(make_plan(numbered))
    del written["instances"]
    assert plan_from_json(written, "plan.json").instances is None
    measured = fingerprint_to_json(numbered)
    del measured["instances"]
    assert fingerprint_from_json(measured, "fingerprint.json").instances is None


@pytest.mark.parametrize(
    ("value", "message"),
    [("nucleus", "instances"), ({"name": "nucleus"}, "value"), ({"name": "", "value": 1}, "name"),
     ({"name": "nucleus", "value": 0}, "background")],
)  # fmt: skip
def test_malformed_objects_are_refused(numbered, value, message):
    written = {**plan_to_json(make_plan(numbered)), "instances": value}
    with pytest.raises(PlanError, match=message):
        plan_from_json(written, "plan.json")


def test_a_rare_border_weighs_most_and_within_bounds_and_dice_spans_the_batch(numbered):
    plan = make_plan(numbered)
    background, border, rim, core = plan.class_weights
    assert border == max(plan.class_weights) and core > rim == background
    assert border / background == pytest.approx((9000 / 160) ** (1 / 3))
    assert plan.configurations["2d"].batch_dice


def test_a_border_that_never_occurs_weighs_four_times_the_rim(numbered):
    cases = tuple(replace(case, voxels_per_class=(0, 9000, 5000)) for case in numbered.cases)
    weights = make_plan(replace(numbered, cases=cases)).class_weights
    assert weights[1] / weights[2] == pytest.approx(4)


def test_semantic_labels_are_the_objects_where_there_are_any():
    assert semantic_labels(LEVELS, NUCLEI) == {"background": 0, "nucleus": 255}
    assert semantic_labels({"background": 0, "tumour": 2}, None) == {"background": 0, "tumour": 2}
