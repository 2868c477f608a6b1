from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from planning.errors import PlanError
from planning.fingerprint import Fingerprint, fingerprint_from_json, fingerprint_to_json
from planning.label_pairs import Sides, named_pairs, side_axis, sides_of
from planning.plan import Plan, plan_from_json, plan_to_json, validate_plan
from planning.planner import make_plan


def labels(*names: str) -> dict[str, int]:
    return {name: index for index, name in enumerate(("background", *names))}


@pytest.fixture
def sided(make_fingerprint: Callable[..., Fingerprint]) -> Callable[..., Fingerprint]:
    """Makes a fingerprint of flat volumes with two kidneys and a liver, and the axes told by their files."""

    def make(*axes: int, **changes) -> Fingerprint:
        plain = make_fingerprint([((60, 100, 120), (3.0, 1.0, 1.0), 5)], classes=4)
        names = labels("right kidney", "liver", "left kidney")
        return replace(plain, labels=names, lateral_axes=axes, **changes)

    return make


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_kidney", "right_kidney"),
        ("kidney_left", "kidney_right"),
        ("kidney_l", "kidney_r"),
        ("Left-Hippocampus", "Right-Hippocampus"),
        ("lung_upper_lobe_left", "lung_upper_lobe_right"),
        ("LeftLung", "RightLung"),
        ("rib_left_7", "rib_right_7"),
        ("ctx-lh-cuneus", "ctx-rh-cuneus"),
        ("Left-Lateral-Ventricle", "Right-Lateral-Ventricle"),
        ("left", "right"),
    ],
)
def test_names_that_differ_in_the_side_alone_are_a_pair(left, right):
    assert named_pairs(labels("spleen", right, left, "colon")) == ((left, right),)


@pytest.mark.parametrize(
    "names",
    [
        ("kidney_left",),
        ("kidney_left", "lung_right"),
        ("rib_left_7", "rib_right_8"),
        ("vertebrae_L1", "vertebrae_R1"),
        ("cleft palate", "bright palate"),
        ("left right", "right left"),
        ("left kidney", "kidney right"),
        ("left ventricle", "right ventricle"),
        ("heart_atrium_left", "heart_atrium_right"),
        ("left liver lobe", "right liver lobe"),
    ],
)
def test_names_of_one_side_of_two_things_and_of_unlike_sides_are_none(names):
    assert named_pairs(labels(*names)) == ()


def test_the_names_of_a_real_data_set_give_its_pairs(test_data):
    path = Path(test_data) / "volumes" / "CT_MR_multiorgan" / "labels.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    declared = json.loads(path.read_text())
    pairs = {part: named_pairs({name: int(value) for value, name in found.items()}) for part, found in declared.items()}
    assert set(pairs["mr_abdomen"]) == {
        ("kidney_left", "kidney_right"),
        ("adrenal_gland_left", "adrenal_gland_right"),
        ("autochthon_left", "autochthon_right"),
        ("iliopsoas_left", "iliopsoas_right"),
    }
    torso = pairs["ct_torso"]
    assert ("lung_lower_lobe_left", "lung_lower_lobe_right") in torso and ("rib_left_9", "rib_right_9") in torso
    assert len(torso) == sum("left" in name for name in declared["ct_torso"].values()) - 1  # a lone upper lobe
    assert pairs["ct_aorta_label_branches"] == ()


def test_the_plan_names_pairs_and_axis_with_their_reasons(sided):
    plan = make_plan(sided(2))
    assert plan.label_pairs == ((3, 1),) and plan.lateral_axis == 2
    assert plan.configurations["3d"].mirror_axes == (0, 1, 2)
    said = {reason.subject: reason.decision for reason in plan.reasons}
    assert said["label_pairs"] == "mirroring from side to side swaps left kidney and right kidney"
    assert said["lateral_axis"] == "file axis 2 runs from side to side"
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan))), "plan.json") == plan


@pytest.mark.parametrize(
    ("axes", "in_3d", "in_2d"), [((), (), ()), ((0, 2), (1,), (0,)), ((0, 1), (2,), (1,)), ((0,), (0, 1, 2), (0, 1))]
)
def test_an_axis_that_may_run_from_side_to_side_is_not_mirrored(axes, in_3d, in_2d, sided):
    plan = make_plan(sided(*axes))
    assert plan.configurations["3d"].mirror_axes == in_3d
    assert plan.configurations["2d"].mirror_axes == in_2d
    assert plan.lateral_axis == (axes[0] if len(axes) == 1 else None)


def test_declared_pairs_go_before_names_and_an_empty_list_switches_them_off(sided):
    declared = make_plan(sided(2, label_pairs=(("left kidney", "liver"),)))
    assert declared.label_pairs == ((3, 2),)
    none = make_plan(sided(2, label_pairs=()))
    assert none.label_pairs == () and none.lateral_axis is None
    assert [reason.because for reason in none.reasons if reason.subject == "label_pairs"] == [
        "dataset.json declares so"
    ]
    with pytest.raises(PlanError, match=r"label_pairs: found .*spleen"):
        make_plan(sided(2, label_pairs=(("left kidney", "spleen"),)))


def test_without_pairs_the_plan_is_what_it_was(make_fingerprint):
    plain = make_fingerprint([((60, 100, 120), (3.0, 1.0, 1.0), 5)])
    plan = make_plan(plain)
    assert (plan.label_pairs, plan.lateral_axis, side_axis(plan)) == ((), None, 2)
    assert make_plan(replace(plain, lateral_axes=(0, 1))) == plan
    assert not [reason for reason in plan.reasons if reason.subject in ("label_pairs", "lateral_axis")]
    assert sides_of(plan, plan.configurations["3d"]) is None


def test_files_of_before_are_read(sided, make_fingerprint):
    plan = make_plan(make_fingerprint([((60, 100, 120), (3.0, 1.0, 1.0), 5)]))
    old = {name: value for name, value in plan_to_json(plan).items() if name not in ("label_pairs", "lateral_axis")}
    assert plan_from_json(old, "plan.json") == plan
    fingerprint = sided(2, label_pairs=(("left kidney", "right kidney"),))
    assert fingerprint_from_json(json.loads(json.dumps(fingerprint_to_json(fingerprint))), "x") == fingerprint


@pytest.mark.parametrize("pairs", [((1, 1),), ((1, 4),), ((1, 2), (2, 3)), ((1, 2, 3),), ((0, 1),)])
def test_pairs_that_are_none_are_refused(pairs, sided):
    with pytest.raises(PlanError, match=r"plan\.label_pairs"):
        validate_plan(replace(make_plan(sided(2)), label_pairs=pairs), "plan.json")


def test_sides_are_on_the_axis_of_the_patch_in_plan_order(make_configuration, make_plan):
    volume, slices = make_configuration(), make_configuration((8, 8))

    def plan(order: tuple[int, ...], lateral: int | None) -> Plan:
        names = labels("a left", "a right", "b")
        return make_plan(volume, labels=names, label_pairs=((1, 2),), axis_order=order, lateral_axis=lateral)

    swapped = (0, 2, 1, 3)
    assert sides_of(plan((0, 1, 2), 2), volume) == Sides(2, swapped)
    assert sides_of(plan((2, 0, 1), 2), volume) == Sides(0, swapped)
    assert sides_of(plan((1, 2, 0), 2), slices) == Sides(0, swapped)
    assert sides_of(plan((2, 0, 1), 2), slices) is None
    assert sides_of(plan((0, 1, 2), None), volume) is None
