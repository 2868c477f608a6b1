"""--explain of what comes with folds: it predicts from headers and leaves nothing behind."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.files import read_json, write_json
from msseg.machine import profile as profile_module
from msseg.pipeline.planning import PlanningOptions, plan_and_preprocess
from planning.costs.machine import machine_to_json
from planning.plan import plan_from_json
from planning.splits import make_splits

TASK = "Task05_Boxes"
GRID = Geometry((8, 16, 16), (2.0, 1.0, 1.0))


@pytest.fixture
def root(tmp_path, monkeypatch, make_machine) -> Path:
    """Five planned volumes, and a made-up machine in a cache of its own."""
    monkeypatch.setenv("MSSEG_CACHE", str(tmp_path / "cache"))
    write_json(profile_module._profile_path(None, profile_module.machine_identity()), machine_to_json(make_machine()))
    folder, rng = tmp_path / "root" / "raw" / TASK, np.random.default_rng(0)
    label = np.zeros(GRID.shape, np.uint8)
    label[3:6, 4:10, 5:12] = 1
    for number in range(5):
        write_image(folder / f"imagesTr/box_{number}_0000.nii.gz", rng.normal(label, 0.1)[None].astype("f4"), GRID)
        write_label(folder / f"labelsTr/box_{number}.nii.gz", label, GRID)
    description = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "box": 1}, "file_ending": ".nii.gz"}
    write_json(folder / "dataset.json", description)
    plan_and_preprocess(TASK, tmp_path / "root", PlanningOptions(memory_bytes=200_000_000, network="plain_unet"), 1)
    return tmp_path / "root"


@pytest.fixture
def trained(root) -> Path:
    """The root with five folds as training leaves them, their weights cut off: nothing but headers may be read."""
    import torch

    from msseg.checkpoint import Checkpoint, save_checkpoint

    folds = make_splits([f"box_{number}" for number in range(5)])
    rows = [{"train": list(one.train), "validation": list(one.validation), "note": ""} for one in folds]
    write_json(root / "preprocessed" / TASK / "splits.json", {"group_by": None, "cases": [], "folds": rows})
    plan = plan_from_json(read_json(root / "preprocessed" / TASK / "plan.json"), "plan")
    for number, one in enumerate(folds):
        path = root / "models" / TASK / "3d_plain_unet" / f"fold_{number}" / "checkpoint_final.safetensors"
        path.parent.mkdir(parents=True)
        metadata = {"identity": {"validation_cases": list(one.validation)}}
        save_checkpoint(path, Checkpoint({"w": torch.zeros(1000)}, plan, plan.default_configuration, metadata))
        path.write_bytes(path.read_bytes()[:-2000])
    return root


def explained(command, *arguments):
    main = importlib.import_module(f"msseg.commands.{command}").main
    return main([*map(str, arguments), "--device", "cpu", "--explain"])


def files_below(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_all_folds_take_what_each_takes(root, capsys):
    before = files_below(root)
    assert explained("train", TASK, "all-folds", "--root", root, "--budget", "10m") == 0
    assert files_below(root) == before
    said = capsys.readouterr().out
    assert "50 min" in said
    assert all(f"fold {number}" in said for number in range(5)) and "fold 5" not in said


def test_comparing_is_explained_from_headers(trained, capsys):
    before = files_below(trained)
    assert explained("find_best", TASK, "--root", trained) == 0
    assert files_below(trained) == before
    said = capsys.readouterr().out
    assert "3d_plain_unet" in said and "compare" in said and "candidates 1" in said


def test_a_limit_lowers_the_workers_that_compare_or_is_refused(trained, capsys):
    for limit, expected in (("20GB", 0), ("120MB", 1)):
        assert explained("find_best", TASK, "--root", trained, "--workers", 3, "--max-ram", limit) == expected
    said = capsys.readouterr()
    assert "workers 3" in said.out and "needs at least" in said.err


def test_predicting_with_the_file_counts_every_member(trained, capsys):
    models = trained / "models" / TASK
    member = {"model": "3d_plain_unet", "folds": ["0", "1"]}
    value = {"postprocessing": {"version": 1, "rules": []}, "decision": None, "metric": "dice", "figures": {}}
    for name, members in (("one", [member]), ("two", [member, member])):
        write_json(models / f"{name}.json", {"version": 1, "members": members, **value})
    arguments = ["-i", trained / "raw" / TASK / "imagesTr", "-o", trained / "out"]
    assert explained("predict", *arguments, "--inference", models / "one.json") == 0
    assert "start and load" in capsys.readouterr().out
    assert explained("predict", *arguments, "-m", models / "two.json") == 0
    assert capsys.readouterr().out.count("3d_plain_unet") == 2


def test_folds_of_a_file_are_not_chosen_again(trained, capsys):
    main = importlib.import_module("msseg.commands.predict").main
    path = trained / "models" / TASK / "inference.json"
    assert main(["-i", "in", "-o", "out", "--inference", str(path), "-f", "0"]) == 1
    assert "names the folds" in capsys.readouterr().err


def test_without_folds_the_command_that_makes_them_is_named(root, capsys):
    assert explained("find_best", TASK, "--root", root) == 1
    assert "msseg_train Task05_Boxes all-folds" in capsys.readouterr().err
