from pathlib import Path

import pytest

from msseg.errors import CheckpointError, DatasetError
from msseg.files import write_json
from msseg.folders import find_model, find_task, known_tasks, project_root


def make_task(root, name):
    write_json(root / "raw" / name / "dataset.json", {})


@pytest.mark.parametrize("word", ["Task04_Hippocampus", "4", "04"])
def test_a_task_is_found_by_name_and_by_number(tmp_path, word):
    make_task(tmp_path, "Task04_Hippocampus")
    make_task(tmp_path, "Dataset014_Heart")
    task = find_task(word, tmp_path)
    assert task.name == "Task04_Hippocampus"
    assert task.raw == tmp_path / "raw" / "Task04_Hippocampus"
    assert task.plan_path == tmp_path / "preprocessed" / "Task04_Hippocampus" / "plan.json"


def test_a_task_is_found_by_the_path_of_its_folder(tmp_path):
    folder = tmp_path / "elsewhere" / "Kidneys"
    write_json(folder / "dataset.json", {})
    task = find_task(str(folder), tmp_path / "root")
    assert (task.name, task.raw) == ("Kidneys", folder)
    assert task.models == tmp_path / "root" / "models" / "Kidneys"


def test_a_task_planned_from_elsewhere_is_found_by_name_later(tmp_path):
    write_json(tmp_path / "preprocessed" / "Kidneys" / "source.json", {"raw": "/data/Kidneys"})
    assert find_task("Kidneys", tmp_path).raw == Path("/data/Kidneys")


def test_a_record_of_the_source_that_names_none_is_refused(tmp_path):
    write_json(tmp_path / "preprocessed" / "Kidneys" / "source.json", ["/data/Kidneys"])
    with pytest.raises(DatasetError, match=r"source\.json: found .*Delete the file"):
        find_task("Kidneys", tmp_path)


def test_hidden_folders_are_no_tasks(tmp_path):
    make_task(tmp_path, ".cache")
    make_task(tmp_path, "Task04_Hippocampus")
    assert known_tasks(tmp_path) == ["Task04_Hippocampus"]


def test_an_ambiguous_number_lists_the_candidates(tmp_path):
    make_task(tmp_path, "Task004_A")
    make_task(tmp_path, "Dataset004_B")
    with pytest.raises(DatasetError, match="Dataset004_B, Task004_A"):
        find_task("4", tmp_path)


def test_an_unknown_task_says_what_is_known_and_what_to_do(tmp_path):
    make_task(tmp_path, "Task04_Hippocampus")
    with pytest.raises(DatasetError, match=r"known there: Task04_Hippocampus.*dataset\.json"):
        find_task("Liver", tmp_path)


def test_a_folder_without_dataset_json_is_refused_by_that_reason(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match=r"has no dataset\.json"):
        find_task(str(tmp_path / "images"), tmp_path / "root")


def test_the_single_trained_model_is_found_and_two_are_a_question(tmp_path):
    with pytest.raises(CheckpointError, match="no trained model"):
        find_model(tmp_path)
    for fold in (0, 1):
        write_json(tmp_path / f"models/Kidneys/3d_mss_unet/fold_{fold}/checkpoint_final.safetensors", {})
    assert find_model(tmp_path) == tmp_path / "models/Kidneys/3d_mss_unet"
    write_json(tmp_path / "models/Kidneys/3d_plain_unet/fold_0/checkpoint_final.safetensors", {})
    with pytest.raises(CheckpointError, match="2 trained models"):
        find_model(tmp_path)


@pytest.mark.parametrize("word", ["Task04_Hippocampus", "4"])
def test_a_model_folder_alone_answers_to_its_task(tmp_path, word):
    write_json(tmp_path / "models/Task04_Hippocampus/3d_mss_unet/fold_0/checkpoint_final.safetensors", {})
    write_json(tmp_path / "models/Task05_Prostate/3d_mss_unet/fold_0/checkpoint_final.safetensors", {})
    assert find_model(tmp_path, word) == tmp_path / "models/Task04_Hippocampus/3d_mss_unet"
    with pytest.raises(DatasetError, match="neither a data set folder nor a task"):
        find_model(tmp_path, "6")


def test_a_networks_options_are_part_of_the_models_name_in_one_order(tmp_path):
    make_task(tmp_path, "Kidneys")
    task = find_task("Kidneys", tmp_path)
    assert task.model("3d", "unet") == task.model("3d", "unet", {}) == tmp_path / "models" / "Kidneys" / "3d_unet"
    one = task.model("2d", "unet", {"most_levels": 2, "encoder": "vgg16"})
    other = task.model("2d", "unet", {"encoder": "vgg16", "most_levels": 2})
    assert one == other
    assert one.name == "2d_unet-encoder=vgg16-most_levels=2"
    kinds = {"up_shared": True, "point_count": None, "dropout": 0.5, "batch_dice": "with low resolution"}
    name = "3d_unet-batch_dice=with_low_resolution-dropout=0.5-point_count=null-up_shared=true"
    assert task.model("3d", "unet", kinds).name == name


def test_a_model_with_options_is_found_like_any_other(tmp_path):
    folder = tmp_path / "models/Kidneys/3d_unet_sharp-most_levels=2"
    write_json(folder / "fold_0/checkpoint_final.safetensors", {})
    assert find_model(tmp_path, "Kidneys") == folder


def test_the_root_is_the_argument_else_the_environment_else_a_folder_here(monkeypatch):
    monkeypatch.setenv("MSSEG_ROOT", "/data/root")
    assert project_root("/other") == Path("/other")
    assert project_root(None) == Path("/data/root")
    monkeypatch.delenv("MSSEG_ROOT")
    assert project_root(None) == Path("msseg_data")


def test_the_first_model_that_a_cascade_brings_along_is_no_other_model(tmp_path):
    for model in ("liver", "liver/previous_stage"):
        checkpoint = tmp_path / "models" / model / "fold_0" / "checkpoint_final.safetensors"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
    assert find_model(tmp_path) == tmp_path / "models" / "liver"
