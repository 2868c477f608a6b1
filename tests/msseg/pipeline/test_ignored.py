"""Labels in every other slice through all commands: planned, trained, compared, predicted, evaluated."""

from __future__ import annotations

import json

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_image, write_label
from msseg.data.store import open_case, stored_names
from msseg.errors import PlanError
from msseg.files import read_json, write_json
from msseg.folders import find_task
from msseg.pipeline.planning import PlanningOptions, load_plan, plan_and_preprocess
from msseg.pipeline.reference import read_reference

TASK = "Dataset004_Sparse"
SHAPE = (6, 16, 18)
CASES, IGNORE = 6, 9
TINY = ["--epochs", "1", "--recipe", "budget", "--device", "cpu", "--workers", "1", "--quiet"]
TINY += ["--set", "steps_per_epoch=2", "--set", "validation_batches=1", "--set", "base_features=4"]


def named(number):
    """The name of a case: two of each patient."""
    return f"p{number // 2}_{number}"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Volumes with a bright bar labelled in every other slice, the last of them in none; full labels in labelsTs."""
    root = tmp_path_factory.mktemp("root")
    raw = root / "raw" / TASK
    generator = np.random.default_rng(0)
    geometry = Geometry(SHAPE, (3.0, 1.0, 1.0))
    for number in range(CASES + 1):
        label = np.zeros(SHAPE, np.uint8)
        label[1:5, 4:11, 3 + number : 9 + number] = 5
        image = generator.normal(0, 1, SHAPE).astype(np.float32) + 3 * (label > 0)
        write_image(raw / "imagesTr" / f"{named(number)}_0000.nii.gz", image[None], geometry)
        write_label(raw / "labelsTs" / f"{named(number)}.nii.gz", label, geometry)
        label[1 if number < CASES else 0 :: 2 if number < CASES else 1] = IGNORE
        write_label(raw / "labelsTr" / f"{named(number)}.nii.gz", label, geometry)
    labels = {"background": 0, "bar": 5, "ignore": IGNORE}
    write_json(raw / "dataset.json", {"channel_names": {"0": "T1"}, "labels": labels, "file_ending": ".nii.gz"})
    return root


@pytest.fixture(scope="module")
def planned(root):
    options = PlanningOptions(memory_bytes=300_000_000, network="plain_unet")
    return plan_and_preprocess(TASK, root, options, workers=1)


@pytest.fixture(scope="module")
def trained(called, root, planned):
    called("train", TASK, "all-folds", "--root", root, "--group-by", "p\\d+", *TINY)
    return root


def test_a_case_without_any_annotation_is_left_out_and_named(planned):
    assert planned.complete
    assert planned.skipped == (named(CASES),)
    assert f"left out, as nothing in them is annotated: {named(CASES)}" in planned.summary()
    assert "broken" not in planned.summary()
    plan = planned.plan
    store = planned.task.store(plan.default_configuration)
    assert stored_names(store) == [named(number) for number in range(CASES)]
    assert (open_case(store, named(0)).label == -1).any()


def test_the_plan_knows_the_value_and_a_plan_without_it_is_refused(root, planned):
    task = find_task(TASK, root)
    assert load_plan(task).ignore == IGNORE
    written = read_json(task.plan_path)
    changed = {name: value for name, value in written.items() if name != "ignore"}
    write_json(task.plan_path, changed)
    try:
        with pytest.raises(PlanError, match=r"plan.ignore: found None, expected 9"):
            plan_and_preprocess(TASK, root, workers=1)
    finally:
        write_json(task.plan_path, written)


def test_references_are_minus_one_where_nobody_annotated(root, planned):
    reference = read_reference(root / "raw" / TASK / "labelsTr" / f"{named(0)}.nii.gz", planned.plan)
    assert sorted(np.unique(reference)) == [-1, 0, 1]
    assert (reference[1::2] == -1).all()
    assert (reference[::2] >= 0).all()


def folds_of(root):
    return sorted((root / "models" / TASK).glob("*/fold_*"))


def test_every_fold_is_validated_on_what_is_annotated(trained):
    folds = folds_of(trained)
    assert len(folds) == 3
    voxels = SHAPE[1] * SHAPE[2] * SHAPE[0] // 2
    for fold in folds:
        record = read_json(fold / "validation.json")
        assert record["options"]["ignore"] == IGNORE
        for case in record["cases"]:
            counts = case["labels"]["bar"]["counts"]
            assert sum(counts.values()) == voxels
            label, _ = read_label(fold / "validation" / f"{case['name']}.nii.gz")
            assert set(np.unique(label)) <= {0, 5}


def test_folds_are_compared_and_new_cases_predicted_and_evaluated(called, trained):
    said = called("find_best", TASK, "--root", trained, "--device", "cpu", "--workers", "1")
    assert "3d" in said or "2d" in said
    raw = trained / "raw" / TASK
    inference = next((trained / "models" / TASK).rglob("inference.json"))
    output = trained / "predicted"
    called("predict", "-i", raw / "imagesTr", "-o", output, "--inference", inference, "--device", "cpu", "--quiet")
    values = {value for path in output.glob("*.nii.gz") for value in np.unique(read_label(path)[0]).tolist()}
    assert values <= {0, 5}
    said = called("evaluate", "-p", output, "-r", raw / "labelsTr", "--workers", "1")
    assert "not annotated (value 9)" in said
    sparse = json.loads((output / "evaluation.json").read_text())
    called("evaluate", "-p", output, "-r", raw / "labelsTs", "--workers", "1", "--quiet")
    full = json.loads((output / "evaluation.json").read_text())
    known = {one["name"]: one["labels"]["bar"]["counts"] for one in sparse["cases"]}
    for case in full["cases"]:
        counts = case["labels"]["bar"]["counts"]
        assert all(known[case["name"]][side] <= counts[side] for side in counts)
    assert sum(known[named(CASES)].values()) == 0


def test_images_with_a_description_may_be_annotated_in_part(tmp_path):
    raw = tmp_path / "raw" / "Dataset005_Scribbles"
    generator = np.random.default_rng(0)
    geometry = Geometry((1, 32, 40), (1.0, 1.0, 1.0), has_spacing=False)
    for number in range(5):
        label = np.full((1, 32, 40), 255, np.uint8)
        label[0, 10:14, 4:30], label[0, 24, :] = 1, 0
        image = (generator.normal(100, 10, label.shape) + 50 * (label == 1)).clip(0, 255).astype(np.uint8)
        write_image(raw / "imagesTr" / f"s{number}_0000.png", image[None], geometry)
        write_label(raw / "labelsTr" / f"s{number}.png", label, geometry)
    labels = {"background": 0, "cell": 1, "ignore": 255}
    write_json(raw / "dataset.json", {"channel_names": {"0": "grey"}, "labels": labels, "file_ending": ".png"})
    report = plan_and_preprocess(raw, tmp_path, workers=1)
    assert report.complete
    assert report.plan.ignore == 255
    label = open_case(report.task.store("2d"), "s0").label
    assert [int((label == value).sum()) for value in (-1, 0, 1)] == [32 * 40 - 104 - 40, 40, 104]
