"""Data sets that are annotated in part: planned by what is, with the value of the rest in plan and fingerprint."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planning.choice import measure
from planning.errors import PlanError
from planning.fingerprint import CaseFingerprint, fingerprint_from_json, fingerprint_to_json
from planning.plan import plan_from_json, plan_to_json
from planning.planner import make_plan
from planning.sizing import Target

TARGET = Target((1.0, 1.0, 1.0), (100, 100, 100), 10**7, 2)


@pytest.fixture
def whole(make_fingerprint):
    """Ten images of 100³ mm, 4 % of them the one object."""
    fingerprint = make_fingerprint([((100, 100, 100), (1.0, 1.0, 1.0), 10)], classes=2)
    cases = tuple(
        replace(case, voxels_per_class=(40_000,), components_per_class=(1,), object_sizes_mm3=((40_000.0,),))
        for case in fingerprint.cases
    )
    return replace(fingerprint, cases=cases)


@pytest.fixture
def sparse(whole):
    """The same with every tenth slice annotated."""
    cases = tuple(
        replace(
            case,
            voxels_per_class=(4_000,),
            components_per_class=(4,),
            object_sizes_mm3=((1_000.0,) * 4,),
            annotated_voxels=100_000,
        )
        for case in whole.cases
    )
    return replace(whole, cases=cases, ignore=2)


def test_shares_are_of_what_is_annotated(whole, sparse):
    assert measure(sparse, TARGET).foreground_share == pytest.approx(measure(whole, TARGET).foreground_share)
    assert measure(sparse, TARGET).object_mm == pytest.approx((6 * 10_000 / 3.141592653589793) ** (1 / 3))


def test_sparse_labels_are_planned_as_whole_ones(whole, sparse):
    plans = [make_plan(one) for one in (whole, sparse)]
    assert [plan.ignore for plan in plans] == [None, 2]
    assert plans[0].configurations == plans[1].configurations
    assert plans[0].class_weights == plans[1].class_weights


def test_the_value_and_the_annotated_voxels_survive_their_files(sparse):
    assert fingerprint_from_json(fingerprint_to_json(sparse), "f.json") == sparse
    plan = make_plan(sparse)
    assert plan_from_json(plan_to_json(plan), "plan.json") == plan


def test_files_of_whole_labels_have_no_such_fields(whole):
    written = fingerprint_to_json(whole)
    assert "ignore" not in written
    assert all("annotated_voxels" not in case for case in written["cases"])
    assert "ignore" not in plan_to_json(make_plan(whole))


def test_a_case_without_counts_is_annotated_whole():
    assert CaseFingerprint("a", (2, 2, 2), (1.0, 1.0, 1.0), (2, 2, 2)).annotated_share == 1.0


@pytest.mark.parametrize("ignore", [1, "2", True])
def test_an_ignore_value_that_is_a_class_or_no_number_is_refused(sparse, ignore):
    written = plan_to_json(make_plan(sparse)) | {"ignore": ignore}
    with pytest.raises(PlanError, match="ignore"):
        plan_from_json(written, "plan.json")
