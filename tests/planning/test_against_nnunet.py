"""Our plans of the plain U-Net and of the residual encoders against nnU-Net 2.8.1's.

`nnunet_plans.json` holds what `plan_experiment` of the released package (2.8.1, default settings,
`gpu_memory_target_in_gb` as given) answered for fingerprints fed to it as dictionaries: cases as [shape, spacing,
count], `numTraining` their number, labels 0 to classes - 1. The planner is `ExperimentPlanner` for "plain_unet" and
`nnUNetPlannerResEncM`, `L` and `XL` for the residual encoders. "KiTS19-like" shortens the 210 cases to two kinds with
the same medians; the answers are those for the full list. "3d_lowres" null: nnU-Net plans none; missing: not asked.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from planning.fingerprint import fingerprint_from_json
from planning.json_fields import as_json
from planning.planner import Budget, make_plan
from planning.rules import GIGABYTE

ANSWERS = json.loads((Path(__file__).parent / "nnunet_plans.json").read_text(encoding="utf-8"))
STAGES = {"3d_lowres", "3d_cascade"}
COMPARED = ("spacing_mm", "patch_size", "batch_size", "strides", "kernel_sizes", "features", "batch_dice")


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer["name"])
def test_networks_are_planned_as_nnunet_plans_them(answer, make_fingerprint):
    fingerprint = make_fingerprint(
        answer["cases"], answer["channels"], answer["classes"], answer["relative_size_after_crop"]
    )
    plan = make_plan(fingerprint, Budget(round(answer["memory_gb"] * GIGABYTE), answer["network"]))
    expected = answer["plan"]
    assert list(plan.axis_order) == expected["axis_order"]
    assert [channel.normalisation for channel in plan.channels] == expected["normalisation"]
    assert [channel.inside_nonzero_mask for channel in plan.channels] == expected["inside_nonzero_mask"]
    assert sorted(plan.configurations.keys() - STAGES) == [name for name in ("2d", "3d") if name in expected]
    if "3d_lowres" in expected:
        assert (expected["3d_lowres"] is not None) == (plan.configurations.keys() >= STAGES)
    for name, configuration in plan.configurations.items():
        if expected.get(name) is None:
            continue
        assert {field: as_json(getattr(configuration, field)) for field in expected[name]} == expected[name]
        assert set(expected[name]) >= set(COMPARED)


@pytest.mark.parametrize(("network", "gigabytes"), [("resenc_m", 8), ("resenc_l", 24), ("resenc_xl", 40)])
def test_a_preset_is_planned_for_its_own_memory_unless_another_is_named(network, gigabytes, kits_like):
    plan = make_plan(kits_like, Budget(network=network))
    assert plan.memory_bytes == gigabytes * GIGABYTE
    assert plan.configurations == make_plan(kits_like, Budget(gigabytes * GIGABYTE, network)).configurations


def test_the_table_holds_the_published_examples():
    found = {answer["name"]: answer["plan"].get("3d") for answer in ANSWERS}
    assert len(found) == len(ANSWERS)
    assert (found["hippocampus-like"]["patch_size"], found["hippocampus-like"]["batch_size"]) == ([40, 56, 40], 7)
    assert found["KiTS19-like 8 GB"]["patch_size"] == [56, 192, 192]
    assert found["KiTS19-like 16 GB"]["patch_size"] == [64, 256, 224]


@pytest.fixture
def kits19(test_data):
    """The measured KiTS19 fingerprint, beside the test data."""
    path = test_data.parent / "reference" / "kits19_fingerprint.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return fingerprint_from_json(json.loads(path.read_text(encoding="utf-8")), str(path))


def test_plain_unet_on_the_200_hippocampus_cases(test_data, make_fingerprint):
    table = (test_data / "Task04_Hippocampus" / "cases.csv").read_text(encoding="utf-8")
    shapes = [tuple(int(row[axis]) for axis in "zyx") for row in csv.DictReader(table.splitlines())]
    assert len(shapes) == 200
    fingerprint = make_fingerprint([(shape, (1.0, 1.0, 1.0), 1) for shape in shapes])
    planned = make_plan(fingerprint, Budget(network="plain_unet")).configurations["3d"]
    assert (planned.patch_size, planned.batch_size) == ((40, 56, 40), 7)


@pytest.mark.parametrize(
    ("memory_gb", "patch", "strides"),
    [
        (8, (56, 192, 192), ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))),
        (16, (64, 256, 224), ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))),
    ],
)
def test_plain_unet_on_the_measured_kits19(kits19, memory_gb, patch, strides):
    planned = make_plan(kits19, Budget(memory_gb * GIGABYTE, "plain_unet")).configurations["3d"]
    assert (planned.patch_size, planned.batch_size, planned.strides) == (patch, 2, strides)
    assert planned.kernel_sizes[0] == (1, 3, 3)


def test_mss_unet_on_the_measured_kits19_has_the_authors_levels_and_plane(kits19):
    planned = make_plan(kits19).configurations["3d"]
    assert planned.network == "mss_unet"
    assert len(planned.features) == 6
    assert planned.patch_size[1:] == (192, 192) and 48 <= planned.patch_size[0] <= 56
    grown = make_plan(kits19, Budget(32 * GIGABYTE, grow="batch")).configurations["3d"]
    assert (grown.patch_size, grown.batch_size) == (planned.patch_size, 8)
