"""A cascade from the plan to the comparison of models, through the real commands."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_image, write_label
from msseg.data.store import open_case
from msseg.files import read_json, write_json
from msseg.inference.predictor import load_predictor
from msseg.machine import profile
from msseg.pipeline.inference_file import read_inference
from planning.costs.machine import machine_to_json
from planning.plan import plan_from_json, plan_to_json

TASK = "Task08_Rods"
GRID = Geometry((12, 20, 24), (1.5, 1.0, 1.0))
CASES = 4
LOW, CASCADE = "3d_lowres_plain_unet", "3d_cascade_plain_unet"


def rod(number):
    """A noisy volume with a bright rod that holds a brighter one: image (1, z, y, x) and label (z, y, x)."""
    rng = np.random.default_rng(number)
    label = np.zeros(GRID.shape, np.uint8)
    low = rng.integers(3, 6)
    label[2:10, low : low + 10, 4:20] = 7
    label[4:8, low + 3 : low + 7, 6:18] = 9
    return (rng.normal(0, 5, GRID.shape) + 40 * (label > 0) + 40 * (label == 9)).astype(np.float32)[None], label


@pytest.fixture(scope="module")
def train(called):
    """Trains a fold, or all, by a few steps; what the command says."""

    def train_briefly(root, fold, configuration, expected=0):
        words = (TASK, fold, "--root", root, "--configuration", configuration, "--recipe", "budget", "--epochs", 1)
        length = ("--set", "steps_per_epoch=4", "--device", "cpu", "--workers", 1)
        return called("train", *words, *length, expected=expected)

    return train_briefly


@pytest.fixture(scope="module")
def root(called, tmp_path_factory):
    """A task with a plan of small networks at two resolutions, and two folds."""
    folder = tmp_path_factory.mktemp("cascade")
    raw = folder / "raw" / TASK
    for number in range(CASES):
        image, label = rod(number)
        write_image(raw / f"imagesTr/rod_{number}_0000.nii", image, GRID)
        write_label(raw / f"labelsTr/rod_{number}.nii", label, GRID)
    description = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "rod": 7, "core": 9}}
    write_json(raw / "dataset.json", {**description, "numTraining": CASES, "file_ending": ".nii"})
    words = ("--root", folder, "--memory", "1GB", "--workers", 1, "--network", "plain_unet", "--configuration", "3d")
    called("plan_and_preprocess", TASK, *words)
    preprocessed = folder / "preprocessed" / TASK
    plan = plan_from_json(read_json(preprocessed / "plan.json"), "plan.json")
    small = replace(
        plan.configurations["3d"],
        patch_size=(8, 16, 16),
        features=(4, 6),
        strides=((2, 2, 2),),
        kernel_sizes=((3, 3, 3),) * 2,
        encoder_convolutions=(1, 1),
        decoder_convolutions=(1,),
        supervision_weights=(1.0,),
    )
    low = replace(small, name="3d_lowres", spacing_mm=tuple(2 * mm for mm in small.spacing_mm))
    cascade = replace(small, name="3d_cascade", previous_stage="3d_lowres", previous_classes=2)
    configurations = {one.name: one for one in (small, low, cascade)}
    write_json(preprocessed / "plan.json", plan_to_json(replace(plan, configurations=configurations)))
    names = [f"rod_{number}" for number in range(CASES)]
    folds = [
        {"train": names[2:], "validation": names[:2], "note": ""},
        {"train": names[:2], "validation": names[2:], "note": ""},
    ]
    write_json(preprocessed / "splits.json", {"group_by": None, "cases": names, "folds": folds})
    return folder


@pytest.fixture(scope="module")
def trained(root, train):
    """The root with two folds of both networks; what was said before the first was there."""
    untrained = train(root, 0, "3d_cascade", expected=1)
    train(root, "all-folds", "3d_lowres")
    train(root, "all-folds", "3d_cascade")
    return root, untrained


def test_a_cascade_is_not_trained_before_its_first_network(trained):
    assert "msseg_train Task08_Rods all-folds --configuration 3d_lowres --network plain_unet" in trained[1]


def test_the_second_network_learned_from_what_it_is_shown_at_validation(trained):
    models = trained[0] / "models" / TASK
    for fold, name in enumerate(("rod_0", "rod_2")):
        predictor = load_predictor(models / CASCADE, torch.device("cpu"), [str(fold)], out_of_fold=True)
        assert predictor.previous is not None and predictor.previous.model.folds == (str(fold),)
        image, _ = rod(int(name[-1]))
        prepared = predictor.prepare(image, GRID.spacing_mm)
        shown = predictor._previous_answer(prepared)
        assert shown is not None
        learned = np.load(models / LOW / "next_stage" / f"{name}.npy", allow_pickle=False)
        np.testing.assert_array_equal(shown.classes_zyx, learned)
        stored = open_case(trained[0] / "preprocessed" / TASK / "cases_3d", name)
        np.testing.assert_array_equal(prepared.image, stored.image)


def test_a_fold_is_validated_out_of_fold(trained):
    models = trained[0] / "models" / TASK
    predictor = load_predictor(
        models / CASCADE, torch.device("cpu"), ["1"], postprocess=False, decide=False, out_of_fold=True
    )
    image, _ = rod(3)
    written, _ = read_label(models / CASCADE / "fold_1" / "validation" / "rod_3.nii")
    np.testing.assert_array_equal(predictor.predict_array(image, GRID.spacing_mm), written)
    assert read_json(models / CASCADE / "fold_1" / "validation.json")["cases"]


def test_validation_is_done_again_where_the_first_network_has_changed(trained, tmp_path):
    from msseg.pipeline.validation import is_validated

    models = tmp_path / "models"
    shutil.copytree(trained[0] / "models" / TASK, models)
    assert is_validated(models / CASCADE / "fold_0", ["rod_0", "rod_1"])
    first = models / LOW / "fold_0" / "checkpoint_final.safetensors"
    shutil.copyfile(models / LOW / "fold_1" / "checkpoint_final.safetensors", first)
    assert not is_validated(models / CASCADE / "fold_0", ["rod_0", "rod_1"])


def test_a_cascade_predicts_from_its_folder_wherever_both_are(called, trained, tmp_path):
    root = trained[0]
    images = root / "raw" / TASK / "imagesTr"
    called("predict", "-i", images, "-o", tmp_path / "a", "-m", root / "models" / TASK / CASCADE, "--device", "cpu")
    record = read_json(tmp_path / "a" / "predicted_with.json")
    assert record["previous_stage"] == {"model": f"../{LOW}", "folds": ["0", "1"]}
    shutil.copytree(root / "models" / TASK, tmp_path / "moved")
    words = ("--speed", "fast", "--save-probabilities", "16", "--no-postprocessing", "--workers", 2)
    called("predict", "-i", images, "-o", tmp_path / "b", "-m", tmp_path / "moved" / CASCADE, "--device", "cpu", *words)
    assert len(list((tmp_path / "b").glob("rod_*.npz"))) == CASES
    called("ensemble", "-i", tmp_path / "b", "-o", tmp_path / "c")
    labels = [read_label(tmp_path / folder / "rod_1.nii")[0] for folder in ("b", "c")]
    assert np.mean(labels[0] == labels[1]) > 0.999
    shutil.rmtree(tmp_path / "moved" / LOW)
    gone = ("-i", images, "-o", tmp_path / "d", "-m", tmp_path / "moved" / CASCADE, "--device", "cpu")
    assert "whose first model is gone" in called("predict", *gone, expected=1)


def test_models_are_compared_by_cases_that_no_stage_has_seen(called, trained, tmp_path):
    root = trained[0]
    said = called("find_best", TASK, "--root", root, "--device", "cpu", "--workers", 1)
    assert f"{CASCADE} + {LOW}" in said
    probabilities = root / "models" / TASK / CASCADE / "fold_0" / "validation_probabilities"
    assert len(list(probabilities.glob("rod_*.npz"))) == 2
    inference = root / "models" / TASK / "inference.json"
    assert read_inference(inference).members
    value = read_json(inference)
    write_json(inference, {**value, "members": [{"model": one, "folds": ["0", "1"]} for one in (CASCADE, LOW)]})
    images = root / "raw" / TASK / "imagesTr"
    called("predict", "-i", images, "-o", tmp_path / "out", "--inference", inference, "--device", "cpu")
    assert len(list((tmp_path / "out").glob("rod_*.nii"))) == CASES


def test_a_first_model_that_lacks_a_fold_leaves_the_cascade_out(called, trained, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(trained[0], root)
    shutil.rmtree(root / "models" / TASK / LOW / "fold_1")
    said = called("find_best", TASK, "--root", root, "--device", "cpu", expected=1)
    assert f"{CASCADE}: left out (fold 1: {LOW}, the model before it: not trained)" in said
    assert "msseg_train Task08_Rods 1 --configuration 3d_lowres --network plain_unet --recipe budget" in said


def test_speeds_are_measured_through_both_networks(called, trained):
    said = called("speeds", trained[0] / "models" / TASK / CASCADE, "--device", "cpu", "--cases", 1)
    assert "balanced" in said


def test_the_cost_of_both_networks_is_explained_from_headers(called, trained, tmp_path, monkeypatch, make_machine):
    monkeypatch.setenv("MSSEG_CACHE", str(tmp_path / "cache"))
    write_json(profile._profile_path(None, profile.machine_identity()), machine_to_json(make_machine()))
    images, models = trained[0] / "raw" / TASK / "imagesTr", trained[0] / "models" / TASK
    words = ("-i", images, "-o", tmp_path / "out", "--device", "cpu", "--explain")
    said = called("predict", *words, "-m", models / CASCADE)
    assert "network (3d_lowres)" in said and not (tmp_path / "out").exists()
    assert "network (3d_lowres)" not in called("predict", *words, "-m", models / LOW)
    bounded = ("-m", models / CASCADE, "--max-ram", "4GB")
    assert "RAM" in called("predict", *words, *bounded)
    called("predict", *words[:-1], *bounded)
    assert len(list((tmp_path / "out").glob("rod_*.nii"))) == CASES
