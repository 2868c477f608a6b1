from __future__ import annotations

import json
from dataclasses import replace

import pytest

from planning.errors import PlanError
from planning.fingerprint import fingerprint_from_json, fingerprint_to_json
from planning.label_pairs import Sides, sides_of
from planning.plan import plan_from_json, plan_to_json, validate_plan
from planning.planner import Budget
from planning.planner import make_plan as planned
from planning.regions import Region, measured_labels, swapped_regions

LABELS = {"background": 0, "label_1": 1, "label_2": 2, "enhancing": 4}
BRAIN = (Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2), Region("enhancing", (3,), 3))


@pytest.fixture
def brain(make_fingerprint):
    """A fingerprint of volumes whose three labels form regions that lie in each other."""
    plain = make_fingerprint([((60, 100, 120), (1.0, 1.0, 1.0), 5)], classes=4)
    return replace(plain, labels=LABELS, regions=BRAIN)


def test_a_network_scores_regions_where_there_are_any_and_labels_elsewhere(brain):
    plan = planned(brain)
    assert (plan.regions, plan.outputs, list(plan.labels)) == (BRAIN, 3, list(LABELS))
    assert planned(replace(brain, regions=())).outputs == 4
    said = {reason.subject: reason.decision for reason in plan.reasons}
    assert said["regions"] == "whole (1, 2, 4) paints 1; core (2, 4) paints 2; enhancing (4) paints 4"


def test_regions_survive_a_trip_through_json_and_files_without_them_have_no_such_field(brain):
    plan = planned(brain)
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan))), "plan.json") == plan
    assert fingerprint_from_json(json.loads(json.dumps(fingerprint_to_json(brain))), "x") == brain
    without = replace(brain, regions=())
    assert "regions" not in plan_to_json(planned(without)) and "regions" not in fingerprint_to_json(without)


def test_what_is_measured_are_the_regions_with_their_values_else_the_labels():
    assert measured_labels(LABELS, BRAIN) == {"whole": (1, 2, 4), "core": (2, 4), "enhancing": (4,)}
    assert measured_labels(LABELS, ()) == {"label_1": 1, "label_2": 2, "enhancing": 4}


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Region("x", (), 1), r"regions\[3\]\.classes: found \[\]"),
        (Region("x", (2, 1), 1), r"expected distinct classes from 1 to 3, ascending"),
        (Region("x", (1, 4), 1), r"expected distinct classes from 1 to 3"),
        (Region("x", (1, 2), 3), r"regions\[3\]\.painted: found 3, expected one of the region's classes \[1, 2\]"),
        (Region("x", (3,), 3), "another name and other classes than enhancing"),
        (Region("core", (1,), 1), "another name and other classes than core"),
    ],
)
def test_unsound_regions_are_refused(region, message, brain):
    with pytest.raises(PlanError, match=message):
        validate_plan(replace(planned(brain), regions=(*BRAIN, region)), "plan.json")


@pytest.mark.parametrize(
    ("network", "part"), [("unet3p_unified", "guidance"), ("render_unet", "points"), ("point_unet2p", "points")]
)
def test_networks_that_take_classes_to_exclude_each_other_are_refused_with_a_way_out(network, part, brain):
    with pytest.raises(PlanError, match=rf"{part} of network {network}.*--network-option {part}=none"):
        planned(brain, Budget(network=network))
    assert planned(brain, Budget(network=network, options={part: "none"})).outputs == 3


def lungs(brain, **changes):
    """Two lobes on either side: 1 and 3 left, 2 and 4 right."""
    labels = {"background": 0, "left upper": 1, "right upper": 2, "label_3": 3, "label_4": 4}
    regions = (
        Region("lungs", (1, 2, 3, 4), 3),
        Region("left lung", (1, 3), 3),
        Region("right lung", (2, 4), 4),
        Region("left upper", (1,), 1),
        Region("right upper", (2,), 2),
    )
    cases = tuple(replace(case, voxels_per_class=(10, 10, 10, 10)) for case in brain.cases)
    given = {"labels": labels, "regions": regions, "cases": cases, "lateral_axes": (2,), **changes}
    return replace(brain, **given)


def test_regions_of_left_and_right_swap_with_their_labels(brain):
    plan = planned(lungs(brain))
    assert (sorted(plan.label_pairs), plan.lateral_axis) == ([(1, 2), (3, 4)], 2)
    sides = sides_of(plan, plan.configurations["3d"])
    assert sides == Sides(2, (0, 2, 1, 4, 3), (0, 2, 1, 4, 3))
    assert sides.outputs == (0, 2, 1, 4, 3)  # the first of these five is the region that stays: both lungs


def test_nothing_is_mirrored_from_side_to_side_where_a_region_would_become_none(brain):
    left_alone = Region("left lung and right upper", (1, 2, 3), 3)
    both = lungs(brain)
    fingerprint = replace(both, regions=(*both.regions, left_alone))
    plan = planned(fingerprint)
    assert plan.label_pairs == () and plan.configurations["3d"].mirror_axes == (0, 1)
    declared = replace(fingerprint, label_pairs=(("left lung", "right lung"),))
    with pytest.raises(PlanError, match="label_pairs: to swap left lung and right lung"):
        planned(declared)
    with pytest.raises(PlanError, match=r"plan\.label_pairs"):
        validate_plan(replace(plan, label_pairs=((1, 2), (3, 4))), "plan.json")


def test_swapped_regions_are_found_by_their_classes():
    assert swapped_regions(BRAIN, (0, 1, 2, 3)) == (0, 1, 2)
    assert swapped_regions(BRAIN, (0, 1, 3, 2)) is None
    assert swapped_regions((), (0, 2, 1)) == ()
