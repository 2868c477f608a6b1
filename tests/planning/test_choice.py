"""What the planner takes where the user names nothing.

`measured_fingerprints.json` holds what `examine_dataset` and `fingerprint_of` measured on the 200 development cases of
hippocampus, on 40 volumes of ACDC (nominal spacing) and on 4 of BraTS 2015: a case is [shape, spacing in mm, shape
after the nonzero crop, voxels of each class, its largest object in mm³]. Sections and nuclei are PNG files, planned
from their sizes.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from planning import rules
from planning.choice import DEFAULT, RULES, Features, choose_configuration, choose_network, measure
from planning.explain import explain
from planning.fingerprint import CaseFingerprint, Fingerprint, fingerprint_from_json
from planning.networks import NETWORKS
from planning.planner import Budget, make_plan
from planning.sizing import Target

MEASURED = json.loads((Path(__file__).parent / "measured_fingerprints.json").read_text(encoding="utf-8"))
PAGE = Path(__file__).parents[2] / "docs" / "planning.md"
CHEST = Features(slices=300, slice_mm=1.0, slice_ratio=1.4, foreground_share=1e-5, object_mm=8.0)


@pytest.fixture
def measured(make_fingerprint):
    """A function from the name of a measured data set to its fingerprint."""

    def build(name: str) -> Fingerprint:
        value = MEASURED[name]
        cases = tuple(
            CaseFingerprint(
                name=f"case_{index:03}",
                shape=tuple(shape),
                spacing_mm=tuple(spacing),
                cropped_shape=tuple(cropped),
                voxels_per_class=tuple(voxels),
                object_sizes_mm3=tuple((size,) if size else () for size in largest),
            )
            for index, (shape, spacing, cropped, voxels, largest) in enumerate(value["cases"])
        )
        frame = make_fingerprint([], value["channels"], value["classes"], value["relative_size_after_crop"])
        return replace(frame, cases=cases)

    return build


@pytest.fixture
def lung_nodules(make_fingerprint):
    """Chest scans of 0.7 × 0.7 × 1.25 mm, each with a nodule of 524 mm³: a ball of 10 mm; every fourth has none."""
    fingerprint = make_fingerprint([((280, 512, 512), (1.25, 0.7, 0.7), 40)], channels=("CT",), classes=2)
    cases = tuple(
        replace(case, voxels_per_class=(855 if index % 4 else 0,), object_sizes_mm3=((524.0,) if index % 4 else (),))
        for index, case in enumerate(fingerprint.cases)
    )
    return replace(fingerprint, cases=cases)


def reason_for(plan, subject):
    (reason,) = [reason for reason in plan.reasons if reason.subject == subject]
    return reason


def test_hippocampus_gets_the_mss_unet_in_3d(measured):
    plan = make_plan(measured("hippocampus"))
    assert (plan.default_configuration, plan.configurations["3d"].network) == ("3d", "mss_unet")
    assert "5.3 % of the median image" in reason_for(plan, "configurations.3d.network").because
    assert "ball of 15.1 mm" in reason_for(plan, "configurations.3d.network").because
    assert "36 slices, 1 times as thick" in reason_for(plan, DEFAULT).because


def test_acdcs_ten_slices_of_ten_mm_are_taken_one_by_one(measured):
    plan = make_plan(measured("acdc"))
    assert list(plan.configurations) == ["3d", "2d"]
    assert (plan.default_configuration, plan.configurations["2d"].network) == ("2d", "plain_unet")
    assert reason_for(plan, DEFAULT).because.startswith("10 slices of 10 mm, 6.4 times as thick")
    assert "Baumgartner" in reason_for(plan, DEFAULT).source


def test_brats_gets_the_mss_unet_in_3d(measured):
    plan = make_plan(measured("brats"))
    assert (plan.default_configuration, plan.configurations["3d"].network) == ("3d", "mss_unet")


def test_kits19_gets_the_mss_unet_in_3d_without_class_volumes(test_data):
    path = test_data.parent / "reference" / "kits19_fingerprint.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    plan = make_plan(fingerprint_from_json(json.loads(path.read_text(encoding="utf-8")), str(path)))
    assert (plan.default_configuration, plan.configurations["3d"].network) == ("3d", "mss_unet")
    assert "136.5 slices, 3.8 times as thick" in reason_for(plan, DEFAULT).because
    assert "does not say how large" in reason_for(plan, "configurations.3d.network").because


@pytest.mark.parametrize(
    ("groups", "share"),
    [
        ([((1, 512, 512), 24)], 0.77),
        ([((1, 256, 256), 52), ((1, 256, 320), 77), ((1, 520, 696), 24), ((1, 1024, 1024), 6)], 0.16),
    ],
    ids=["EM membranes", "nuclei"],
)
def test_png_images_get_the_plain_unet_in_2d(make_fingerprint, groups, share):
    fingerprint = make_fingerprint([(shape, (1.0, 1.0, 1.0), count) for shape, count in groups], classes=2)
    cases = tuple(
        replace(case, voxels_per_class=(round(share * case.shape[1] * case.shape[2]),)) for case in fingerprint.cases
    )
    plan = make_plan(replace(fingerprint, cases=cases))
    assert {name: one.network for name, one in plan.configurations.items()} == {"2d": "plain_unet"}
    assert reason_for(plan, DEFAULT).because == "the images are single slices"


def test_lung_nodules_get_vnet_sharp(lung_nodules):
    plan = make_plan(lung_nodules)
    assert (plan.default_configuration, plan.configurations["3d"].network) == ("3d", "vnet_sharp")
    assert plan.configurations["2d"].network == "plain_unet"
    because = reason_for(plan, "configurations.3d.network").because
    assert because.startswith("labels take 0.0012 % of the median image")
    assert "ball of 10 mm: small sparse targets" in because


def test_what_the_user_names_wins_and_the_page_says_what_the_rules_would_have_taken(lung_nodules):
    plan = make_plan(lung_nodules, Budget(network="mss_unet"))
    assert {one.network for one in plan.configurations.values()} == {"mss_unet"}
    reason = reason_for(plan, "configurations.3d.network")
    assert reason.because.startswith("it was asked for; the rules would take vnet_sharp: labels take 0.0012 %")
    assert reason.source.startswith("the user")
    assert "It was asked for; the rules would take vnet_sharp" in " ".join(explain(plan).split())


def test_asking_for_what_the_rules_take_says_so(lung_nodules):
    plan = make_plan(lung_nodules, Budget(network="vnet_sharp"))
    assert reason_for(plan, "configurations.3d.network").because.startswith("it was asked for; the rules agree: ")


def test_features_by_hand(make_fingerprint):
    target = Target(spacing_mm=(6.0, 2.0, 1.0), median_shape=(20.0, 30.0, 40.0), dataset_voxels=1e6, num_classes=3)
    one, two, three = make_fingerprint([((10, 10, 10), (1.0, 1.0, 1.0), 3)]).cases
    cases = (
        replace(one, voxels_per_class=(100, 50), object_sizes_mm3=((60.0, 40.0), (50.0,))),
        replace(two, voxels_per_class=(0, 0), object_sizes_mm3=((), ())),
        replace(three, voxels_per_class=(0, 30), object_sizes_mm3=((), (27.0, 3.0))),
    )
    found = measure(replace(make_fingerprint([]), cases=cases), target)
    assert (found.slices, found.slice_mm, found.slice_ratio) == (20, 6, 3)
    assert found.foreground_share == pytest.approx(0.03)  # of 0.15, 0 and 0.03
    assert found.object_mm == pytest.approx(4.363, abs=1e-3)  # of (60 + 27) / 2 mm³: a ball of π/6 · 4.363³


def test_what_was_not_measured_is_none(kits_like):
    target = Target((3.0, 0.8, 0.8), (136.0, 511.0, 511.0), 1e9, 3)
    found = measure(kits_like, target)
    assert (found.foreground_share, found.object_mm) == (None, None)
    cases = tuple(replace(case, voxels_per_class=(1, 1)) for case in kits_like.cases)
    counted = measure(replace(kits_like, cases=cases), target)
    assert counted.foreground_share is not None and counted.object_mm is None
    assert choose_network(counted, "3d").decision == "mss_unet"


@pytest.mark.parametrize(
    ("slices", "ratio", "expected"),
    [
        (1, 1.0, "2d"),
        (2, 3.0, "3d"),
        (2, 3.01, "2d"),
        (15.5, 6.4, "2d"),
        (16, 6.4, "3d"),
        (10, 1.0, "3d"),
        (136, 12.0, "3d"),
    ],
)
def test_the_boundary_between_2d_and_3d(slices, ratio, expected):
    assert choose_configuration(replace(CHEST, slices=slices, slice_ratio=ratio)).decision == expected


@pytest.mark.parametrize(
    ("share", "diameter", "expected"),
    [
        (0.001, 30.0, "vnet_sharp"),
        (0.0011, 30.0, "mss_unet"),
        (0.001, 30.1, "mss_unet"),
        (0.0, 3.0, "vnet_sharp"),
        (None, 3.0, "mss_unet"),
        (0.0001, None, "mss_unet"),
    ],
)
def test_the_boundary_of_small_sparse_targets(share, diameter, expected):
    features = replace(CHEST, foreground_share=share, object_mm=diameter)
    assert choose_network(features, "3d").decision == expected
    assert choose_network(features, "2d").decision == "plain_unet"


def test_the_thickest_slices_that_are_related_can_be_halved_twice():
    assert rules.FEWEST_SLICES_TO_RELATE == rules.SMALLEST_FEATURE_EDGE * 2 * 2


@pytest.mark.parametrize("decides", [DEFAULT, "2d", "3d"])
def test_the_last_rule_of_each_decision_always_holds(decides):
    known = ("2d", "3d") if decides == DEFAULT else tuple(NETWORKS)
    chosen = [rule for rule in RULES if rule.decides == decides]
    nothing = Features(slices=1, slice_mm=0.0, slice_ratio=0.0, foreground_share=None, object_mm=None)
    assert chosen[-1].holds(nothing)
    assert all(rule.decision in known and rule.source for rule in chosen)


def test_the_page_prints_every_rule():
    page = PAGE.read_text(encoding="utf-8")
    missing = [
        rule.name for rule in RULES if f"| {rule.name} | {rule.when} | `{rule.decision}` | {rule.source} |" not in page
    ]
    assert missing == []


def test_the_stored_features_are_what_is_measured_on_the_files(test_data, measured, tmp_path):
    from msseg.data.dataset import read_dataset
    from msseg.preprocessing.examine import examine_dataset, fingerprint_of

    dataset = read_dataset(test_data / "volumes" / "ACDC_cardiac")
    fingerprint = fingerprint_of(dataset, examine_dataset(dataset, tmp_path, workers=1))
    stored, fresh = (make_plan(one) for one in (measured("acdc"), fingerprint))
    for subject in (DEFAULT, "configurations.3d.network", "configurations.2d.network"):
        assert reason_for(stored, subject) == reason_for(fresh, subject)
