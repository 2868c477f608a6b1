"""--explain on every command that has it: it predicts from headers, ends with 0 and leaves nothing behind."""

import gzip
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.files import write_json
from msseg.machine import profile as profile_module
from planning.costs.machine import machine_to_json

GRID = Geometry((12, 16, 16), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))


@pytest.fixture
def machine(tmp_path, monkeypatch, make_machine):
    """A made-up profile in a cache of its own, so that nothing is measured."""
    monkeypatch.setenv("MSSEG_CACHE", str(tmp_path / "cache"))
    path = profile_module._profile_path(None, profile_module.machine_identity())
    write_json(path, machine_to_json(make_machine()))
    return path


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Five volumes with a box each, compressed."""
    folder = tmp_path / "Task05_Boxes"
    rng = np.random.default_rng(0)
    label = np.zeros(GRID.shape, np.uint8)
    label[3:8, 4:10, 5:12] = 1
    for number in range(5):
        write_image(folder / f"imagesTr/box_{number}_0000.nii.gz", rng.normal(label, 0.1)[None].astype("f4"), GRID)
        write_label(folder / f"labelsTr/box_{number}.nii.gz", label, GRID)
    labels = {"background": 0, "box": 1}
    write_json(folder / "dataset.json", {"channel_names": {"0": "MR"}, "labels": labels, "file_ending": ".nii.gz"})
    return folder


def run(command, *arguments):
    return importlib.import_module(f"msseg.commands.{command}").main([str(one) for one in arguments])


def files_below(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def truncate(path):
    """Leave the header and the first voxels of a compressed image."""
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:400]))


def test_preparing_is_explained_from_headers_and_nothing_is_done(tmp_path, machine, dataset, capsys):
    for path in (dataset / "imagesTr").iterdir():
        truncate(path)
    before = files_below(tmp_path)
    assert run("plan_and_preprocess", dataset, "--root", tmp_path / "root", "--explain") == 0
    assert files_below(tmp_path) == before
    said = capsys.readouterr().out
    for word in ("wall time", "peak RAM", "peak VRAM", "disk", "workers 2", "assuming"):
        assert word in said


def test_a_limit_of_memory_shows_the_workers_that_are_left(tmp_path, machine, dataset, capsys):
    arguments = [dataset, "--root", tmp_path / "root", "--workers", 4, "--explain", "--max-ram"]
    assert run("plan_and_preprocess", *arguments, "200KB") == 0
    said = capsys.readouterr().out
    assert "of 4 asked for" in said


def test_too_little_memory_is_refused_before_anything_is_done(tmp_path, machine, dataset, capsys):
    before = files_below(tmp_path)
    assert run("plan_and_preprocess", dataset, "--root", tmp_path / "root", "--max-ram", "10KB") == 1
    assert files_below(tmp_path) == before
    said = capsys.readouterr().err
    assert "--max-ram 0 MB: preprocessing needs at least" in said
    assert "box_0, has 12 x 16 x 16 voxels" in said


def test_evaluation_is_explained(tmp_path, machine, dataset, capsys):
    labels = dataset / "labelsTr"
    before = files_below(tmp_path)
    assert run("evaluate", "-p", labels, "-r", labels, "--explain") == 0
    assert files_below(tmp_path) == before
    assert "overlaps and surfaces" in capsys.readouterr().out


def test_evaluation_that_does_not_fit_is_refused(tmp_path, machine, dataset, capsys):
    labels = dataset / "labelsTr"
    assert run("evaluate", "-p", labels, "-r", labels, "--max-ram", "2KB") == 1
    assert "two label maps are compared whole" in capsys.readouterr().err


@pytest.fixture
def planned(tmp_path, machine, dataset):
    """The root in which the data set was planned and preprocessed, with a small plan."""
    root = tmp_path / "root"
    options = ["--memory", "200MB", "--network", "plain_unet", "--workers", 1, "--quiet"]
    assert run("plan_and_preprocess", dataset, "--root", root, *options) == 0
    return root


@pytest.mark.parametrize("length", [("--epochs", "2"), ("--budget", "10m"), ()])
def test_training_is_explained(planned, tmp_path, capsys, length):
    before = files_below(tmp_path)
    assert run("train", "Task05_Boxes", 0, "--root", planned, "--device", "cpu", "--explain", *length) == 0
    assert files_below(tmp_path) == before
    said = capsys.readouterr().out
    assert "training" in said and "validation: predict" in said
    if "--budget" in length:
        assert "wall time             10 min 00 s" in " ".join(said.split("\n")) or "10 min 00 s" in said


def test_training_that_does_not_fit_is_refused_before_it_starts(planned, tmp_path, capsys):
    before = files_below(tmp_path)
    options = ["--root", planned, "--device", "cpu", "--max-ram", "1MB"]
    assert run("train", "Task05_Boxes", 0, *options) == 1
    assert files_below(tmp_path) == before
    assert "Plan with a smaller --memory" in capsys.readouterr().err


@pytest.fixture
def model(planned):
    """A model folder as training leaves it, its weights cut off: nothing but the header may be read."""
    import torch

    from msseg.checkpoint import Checkpoint, save_checkpoint
    from msseg.files import read_json
    from planning.plan import plan_from_json

    plan = plan_from_json(read_json(planned / "preprocessed/Task05_Boxes/plan.json"), "plan")
    path = planned / "models/Task05_Boxes/3d_plain_unet/fold_0/checkpoint_final.safetensors"
    path.parent.mkdir(parents=True)
    save_checkpoint(path, Checkpoint({"w": torch.zeros(1000)}, plan, plan.default_configuration))
    path.write_bytes(path.read_bytes()[:-2000])
    return path.parent.parent


def test_prediction_is_explained_from_headers(model, dataset, tmp_path, capsys):
    for path in (dataset / "imagesTr").iterdir():
        truncate(path)
    before = files_below(tmp_path)
    arguments = ["-i", dataset / "imagesTr", "-o", tmp_path / "out", "-m", model, "--device", "cpu", "--explain"]
    assert run("predict", *arguments) == 0
    assert files_below(tmp_path) == before
    assert "cases 5" in capsys.readouterr().out


def patches_said(capsys):
    words = capsys.readouterr().out.split()
    return int(words[words.index("patches") + 1].rstrip(";"))


def test_mirrors_show_every_patch_again(model, dataset, tmp_path, capsys):
    arguments = ["-i", dataset / "imagesTr", "-o", tmp_path / "out", "-m", model, "--device", "cpu", "--explain"]
    run("predict", *arguments)
    mirrored = patches_said(capsys)
    run("predict", *arguments, "--no-mirroring")
    axes = len(json.loads((model.parents[2] / "preprocessed/Task05_Boxes/plan.json").read_text())["axis_order"])
    assert mirrored == patches_said(capsys) * 2**axes


def test_prediction_that_does_not_fit_is_refused_before_it_starts(model, dataset, tmp_path, capsys):
    arguments = ["-i", dataset / "imagesTr", "-o", tmp_path / "out", "-m", model, "--device", "cpu"]
    assert run("predict", *arguments, "--max-ram", "1MB") == 1
    assert not (tmp_path / "out").exists()
    assert "prediction needs at least" in capsys.readouterr().err


def test_without_a_model_the_remedy_is_named(machine, dataset, tmp_path, capsys):
    arguments = ["-i", dataset / "imagesTr", "-o", tmp_path / "out", "--root", tmp_path / "none", "--explain"]
    assert run("predict", *arguments) == 1
    assert "msseg_train" in capsys.readouterr().err


def test_verbose_compares_the_prediction_with_what_was_taken(dataset, machine, caplog, tmp_path):
    labels = dataset / "labelsTr"
    arguments = ["-p", labels, "-r", labels, "-o", tmp_path / "evaluation.json", "--workers", 1, "-v"]
    assert run("evaluate", *arguments) == 0
    assert any("predicted" in message and "took" in message for message in caplog.messages)
