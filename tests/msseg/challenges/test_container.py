import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
import torch

from msseg.challenges.container import write_container
from msseg.challenges.container_entry import list_cases, main
from msseg.checkpoint import FINAL, Checkpoint, load_checkpoint, save_checkpoint
from msseg.data.geometry import Geometry
from msseg.data.image import read_image, read_label, write_image
from msseg.errors import CheckpointError, DatasetError
from msseg.networks.build import build_network
from msseg.pipeline.inference_file import Inference, Member, read_inference, write_inference
from msseg.pipeline.prediction import load_predictor
from msseg.postprocessing.rules import write_rules
from msseg.previous_model import PreviousModel

GRID = Geometry((8, 8, 8), (1.0, 1.0, 2.0), (-3.0, 4.0, 5.0))


@pytest.fixture
def model_dir(tmp_path, make_plan, make_configuration):
    """A model folder of one untrained fold, with a log that a container does not need."""
    configuration = make_configuration()
    network = build_network(configuration, 1, 2, torch.Generator().manual_seed(0))
    checkpoint = Checkpoint(network.state_dict(), make_plan(configuration), configuration.name)
    for name in ("final", "latest"):
        save_checkpoint(tmp_path / f"model/fold_0/checkpoint_{name}.safetensors", checkpoint)
    (tmp_path / "model/fold_0/training.log").write_text("long")
    write_rules(tmp_path / "model/postprocessing.json", [])
    return tmp_path / "model"


def image_at(path):
    write_image(path, np.random.default_rng(0).normal(size=(1, *GRID.shape)).astype(np.float32), GRID)
    return path


def test_the_folder_holds_what_the_container_needs_and_no_more(model_dir, tmp_path):
    folder = write_container(tmp_path / "container", model_dir, ["ct"], "kidney-tumour")
    assert sorted(path.name for path in folder.iterdir()) == [
        "Dockerfile",
        "model",
        "msseg",
        "planning",
        "process.py",
        "requirements.txt",
    ]
    model = sorted(path.relative_to(folder / "model").as_posix() for path in (folder / "model").rglob("*.*"))
    assert model == ["fold_0/checkpoint_final.safetensors", "postprocessing.json"]
    assert not list(folder.rglob("__pycache__"))
    dockerfile = (folder / "Dockerfile").read_text()
    assert 'ENV MSSEG_CHANNELS="ct" MSSEG_SLUG="kidney-tumour"' in dockerfile and "USER user" in dockerfile
    requirements = (folder / "requirements.txt").read_text()
    assert "torch>=" in requirements and "pytest" not in requirements


def test_the_entry_point_segments_what_is_mounted(model_dir, tmp_path):
    folder = write_container(tmp_path / "container", model_dir)
    image = image_at(tmp_path / "input/images/ct/0f3c.mha")
    paths = {"PYTHONPATH": folder, "MSSEG_INPUT": tmp_path / "input", "MSSEG_OUTPUT": tmp_path / "output"}
    environment = {**os.environ, **{name: str(path) for name, path in paths.items()}, "MSSEG_SLUG": "kidney"}
    script = [sys.executable, str(folder / "process.py")]
    done = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    label, geometry = read_label(tmp_path / "output/images/kidney/0f3c.mha")
    expected = load_predictor(model_dir).predict_array(read_image([image])[0], GRID.spacing_mm)
    assert np.array_equal(label, expected) and geometry.origin_mm == GRID.origin_mm
    read = SimpleITK.ReadImage(str(tmp_path / "output/images/kidney/0f3c.mha"))
    assert read.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    environment["MSSEG_CHANNELS"] = "mr"
    done = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "mr: no image" in done.stderr


def test_the_members_of_an_inference_file_are_copied_and_averaged(model_dir, tmp_path, monkeypatch):
    (tmp_path / "other/fold_1").mkdir(parents=True)
    shutil.copyfile(model_dir / "fold_0" / FINAL, tmp_path / "other/fold_1" / FINAL)
    members = (Member(model_dir, ("0",)), Member(tmp_path / "other", ("1",)))
    write_inference(tmp_path / "inference.json", Inference(members))
    folder = write_container(tmp_path / "container", tmp_path / "inference.json")
    shutil.rmtree(tmp_path / "other")
    found = read_inference(folder / "model/inference.json").members
    assert [(one.model.name, one.folds) for one in found] == [("member_0", ("0",)), ("member_1", ("1",))]
    image = image_at(tmp_path / "input/images/ct/0f3c.mha")
    for name in ("input", "output"):
        monkeypatch.setenv(f"MSSEG_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("MSSEG_MODEL", str(folder / "model"))
    assert main() == 0
    label, geometry = read_label(tmp_path / "output/images/segmentation/0f3c.mha")
    expected = load_predictor(model_dir, postprocess=False).predict_array(read_image([image])[0], GRID.spacing_mm)
    assert np.array_equal(label, expected) and geometry.origin_mm == GRID.origin_mm


def test_channels_come_in_the_order_that_is_asked_for(tmp_path):
    files = {slug: image_at(tmp_path / f"images/{slug}/{slug}-7.mha") for slug in ("adc", "t2")}
    assert list_cases(tmp_path / "images", ["t2", "adc"]) == [("t2-7", [files["t2"], files["adc"]])]
    assert list_cases(tmp_path / "images", []) == [("adc-7", [files["adc"], files["t2"]])]
    image_at(tmp_path / "images/t2/other.mha")
    assert [name for name, _ in list_cases(tmp_path / "images", ["t2"])] == ["other", "t2-7"]
    with pytest.raises(DatasetError, match="one case at a time"):
        list_cases(tmp_path / "images", ["t2", "adc"])
    with pytest.raises(DatasetError, match="no image"):
        list_cases(tmp_path / "nowhere", [])


def test_a_container_takes_the_place_of_an_earlier_one_but_of_nothing_else(model_dir, tmp_path):
    folder = write_container(tmp_path / "container", model_dir, slug="first")
    assert "second" in (write_container(folder, model_dir, slug="second") / "Dockerfile").read_text()
    with pytest.raises(DatasetError, match="holds something else"):
        write_container(model_dir, model_dir)


@pytest.mark.parametrize("slug", ["T2", "a b", 'x" USER root', ""])
def test_a_slug_is_letters_digits_and_hyphens(model_dir, tmp_path, slug):
    with pytest.raises(DatasetError, match="no slug"):
        write_container(tmp_path / "container", model_dir, [slug])
    assert not (tmp_path / "container").exists()


def test_a_folder_without_a_trained_fold_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no trained fold"):
        write_container(tmp_path / "container", tmp_path)


def test_a_cascade_takes_both_models_along(model_dir, tmp_path, monkeypatch):
    whole = load_checkpoint(model_dir / "fold_0" / FINAL)
    low = whole.configuration
    full = replace(low, name="3d_cascade", previous_stage="3d", previous_classes=1)
    network = build_network(full, 1, 2, torch.Generator().manual_seed(1))
    plan = replace(whole.plan, configurations={"3d": low, "3d_cascade": full})
    second = tmp_path / "second"
    previous = PreviousModel.of(second, model_dir, ["0"])
    checkpoint = Checkpoint(network.state_dict(), plan, "3d_cascade", previous=previous)
    save_checkpoint(second / "fold_0" / FINAL, checkpoint)
    image_at(tmp_path / "in/images/ct/scan_7.mha")
    image, geometry = read_image([tmp_path / "in/images/ct/scan_7.mha"], 1)
    expected = load_predictor(second).predict_array(image, geometry.spacing_mm)
    write_inference(tmp_path / "inference.json", Inference((Member(second, ("0",)),)))
    for name, model in (("single", second), ("members", tmp_path / "inference.json")):
        folder = write_container(tmp_path / name, model, ["ct"])
        shutil.move(folder, tmp_path / "app")
        monkeypatch.setenv("MSSEG_INPUT", str(tmp_path / "in"))
        monkeypatch.setenv("MSSEG_OUTPUT", str(tmp_path / name / "out"))
        monkeypatch.setenv("MSSEG_MODEL", str(tmp_path / "app/model"))
        assert main() == 0
        label, _ = read_label(tmp_path / name / "out/images/segmentation/scan_7.mha")
        np.testing.assert_array_equal(label, expected)
        first = tmp_path / "app/model" / ("previous_stage" if name == "single" else "member_0/previous_stage")
        assert (first / "fold_0" / FINAL).is_file()
        shutil.rmtree(tmp_path / "app")
