"""A data set of regions through the commands' own functions: planned, trained, gone on with, predicted, evaluated."""

from __future__ import annotations

import numpy as np
import pytest

from msseg.checkpoint import load_checkpoint
from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_image, write_label
from msseg.errors import PlanError
from msseg.files import read_json, write_json
from msseg.folders import Task, find_task
from msseg.pipeline.planning import PlanningOptions, load_plan, plan_and_preprocess
from msseg.pipeline.prediction import load_predictor
from msseg.pipeline.training import train
from msseg.pipeline.training_options import TrainingOptions
from msseg.training.log import LOG, read_log
from planning.plan import plan_to_json

TASK = "Dataset006_Shells"
SHAPE = (8, 16, 18)
CASES = 5
DESCRIPTION = {
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "whole": [1, 2, 4], "core": [2, 4], "enhancing": 4, "ignore": 5},
    "regions_class_order": [1, 2, 4],
    "numTraining": CASES,
    "file_ending": ".nii.gz",
}


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Task:
    """Five planned and preprocessed volumes of three boxes in each other (1, 2, 4), some columns not annotated (5)."""
    root = tmp_path_factory.mktemp("root")
    raw = root / "raw" / TASK
    generator = np.random.default_rng(0)
    geometry = Geometry(SHAPE, (1.0, 1.0, 1.0))
    for number in range(CASES):
        label = np.zeros(SHAPE, np.uint8)
        for value, edge in ((1, 0), (2, 1), (4, 2)):
            label[1 + edge : 8 - edge, 2 + edge : 14 - edge, 2 + number + edge : 13 + number - edge] = value
        label[:, :, 17:] = 5
        image = generator.normal(0, 0.3, SHAPE).astype(np.float32) + np.where(label == 5, 0, label)
        write_image(raw / "imagesTr" / f"shell_{number}_0000.nii.gz", image[None], geometry)
        write_label(raw / "labelsTr" / f"shell_{number}.nii.gz", label, geometry)
    write_json(raw / "dataset.json", DESCRIPTION)
    plan_and_preprocess(TASK, root, PlanningOptions(memory_bytes=1_000_000_000), workers=1)
    return find_task(TASK, root)


def root_of(task: Task):
    return task.preprocessed.parent.parent


SHORT = {"steps_per_epoch": 12, "validation_batches": 2, "base_features": 4, "batch_size": 2}


def trained(task: Task, epochs: int, **more):
    options = TrainingOptions(recipe="nnunet", epochs=epochs, overrides=SHORT, **more)
    return train(TASK, 0, root_of(task), options, device="cpu", workers=1)


@pytest.fixture(scope="module")
def fold(task):
    """A fold of two epochs, gone on with to three."""
    trained(task, 2)
    return trained(task, 3)


def test_the_plan_has_the_regions_and_the_store_their_single_labels(task):
    plan = load_plan(task)
    assert [(region.name, region.classes, region.painted) for region in plan.regions] == [
        ("whole", (1, 2, 3), 1),
        ("core", (2, 3), 2),
        ("enhancing", (3,), 3),
    ]
    assert plan.labels == {"background": 0, "label_1": 1, "label_2": 2, "enhancing": 4}


def test_a_network_of_three_scores_learns_and_goes_on_where_it_was(fold):
    entries = read_log(fold.model / "fold_0" / LOG)
    losses = [entry["loss"] for entry in entries if entry["event"] == "epoch"]
    assert len(losses) == 3 and losses[-1] < losses[0]
    begun = [entry for entry in entries if entry["event"] in ("start", "resume")]
    assert [entry["event"] for entry in begun] == ["start", "resume"]
    assert begun[0]["labels"] == ["background", "whole", "core", "enhancing"]
    checkpoint = load_checkpoint(fold.result.checkpoint)
    heads = [weight for name, weight in checkpoint.best_weights.items() if "heads" in name and weight.ndim == 5]
    assert heads and {len(weight) for weight in heads} == {3}
    assert len(next(entry for entry in entries if entry["event"] == "epoch")["patch_dice"]) == 3


def test_a_fold_is_validated_by_region_and_predicts_the_values_of_the_files(fold, task):
    assert fold.validation is not None
    assert list(fold.validation.summary) == ["whole", "core", "enhancing"]
    whole = fold.validation.summary["whole"].mean["dice"]
    assert whole > 0.5
    predicted = next((fold.model / "fold_0" / "validation").glob("*.nii.gz"))
    assert set(np.unique(read_label(predicted)[0])) <= {0, 1, 2, 4}
    assert load_predictor(fold.model, device="cpu").model.plan.outputs == 3


def test_networks_of_guided_classes_are_refused_for_regions(task):
    with pytest.raises(PlanError, match=r"guidance of network unet3p_unified.*--network-option guidance=none"):
        trained(task, 1, network="unet3p_unified")


def test_a_plan_of_other_regions_than_the_data_set_is_refused(task):
    plan = plan_to_json(load_plan(task))
    kept = read_json(task.plan_path, PlanError)
    write_json(task.plan_path, {**plan, "regions": plan["regions"][:2]})
    try:
        with pytest.raises(PlanError, match=r"plan\.regions: found .*as in the data set"):
            plan_and_preprocess(TASK, root_of(task), PlanningOptions(memory_bytes=1_000_000_000), workers=1)
    finally:
        write_json(task.plan_path, kept)
