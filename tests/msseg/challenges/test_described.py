"""The Decathlon, nnU-Net v1 and v2, as miniatures in the layouts that they are published in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from msseg.challenges.challenge import ConversionOptions
from msseg.challenges.conversion import convert
from msseg.challenges.decathlon import DECATHLON
from msseg.challenges.described import NNUNET_V1, NNUNET_V2
from msseg.data.dataset import read_dataset
from msseg.data.geometry import Geometry
from msseg.data.image import read_image, read_label, write_image, write_label
from msseg.errors import DatasetError
from msseg.files import read_json

GRID = Geometry((3, 4, 5), (2.5, 0.8, 0.7))
TWO = np.arange(120, dtype=np.int16).reshape(2, 3, 4, 5) - 40
LABEL = (np.arange(60).reshape(3, 4, 5) % 3).astype(np.uint8)


def described(folder: Path, description: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(description))


def decathlon(folder: Path, is_v1: bool) -> Path:
    """Two training cases of two channels and a test case: 4-D files, or a file a channel as nnU-Net v1 has them."""
    for room, name in (("imagesTr", "brats_001"), ("imagesTr", "brats_002"), ("imagesTs", "brats_003")):
        (folder / room).mkdir(parents=True, exist_ok=True)
        if is_v1:
            for channel in (0, 1):
                write_image(folder / room / f"{name}_{channel:04d}.nii.gz", TWO[channel : channel + 1], GRID)
        else:
            write_image(folder / room / f"{name}.nii.gz", TWO, GRID)
    for name in ("brats_001", "brats_002"):
        write_label(folder / f"labelsTr/{name}.nii.gz", LABEL, GRID)
    pairs = [
        {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
        for name in ("brats_001", "brats_002")
    ]
    described(
        folder,
        {
            "name": "BRATS",
            "tensorImageSize": "4D",
            "modality": {"0": "FLAIR", "1": "T1w"},
            "labels": {"0": "background", "1": "edema", "2": "enhancing tumour"},
            "numTraining": 2,
            "numTest": 1,
            "training": pairs,
            "test": ["./imagesTs/brats_003.nii.gz"],
        },
    )
    return folder


@pytest.mark.parametrize(("challenge", "is_v1"), [(DECATHLON, False), (NNUNET_V1, True)])
def test_a_case_becomes_a_file_a_channel(tmp_path, challenge, is_v1):
    source = decathlon(tmp_path / "Task01_BrainTumour", is_v1)
    report = convert(challenge, source, tmp_path / "set")
    assert report.is_complete and (report.converted, report.test) == (3, 1)
    for channel in (0, 1):
        path = tmp_path / f"set/imagesTr/brats_002_{channel:04d}.nii.gz"
        assert np.array_equal(read_image([path])[0][0], TWO[channel])
    assert np.array_equal(read_label(tmp_path / "set/labelsTr/brats_001.nii.gz")[0], LABEL)
    assert read_json(tmp_path / "set/dataset.json") == {
        "name": "set",
        "channel_names": {"0": "FLAIR", "1": "T1w"},
        "labels": {"background": 0, "edema": 1, "enhancing tumour": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    assert len(read_dataset(tmp_path / "set").test) == 1


def test_files_that_are_listed_and_not_there_are_named(tmp_path):
    source = decathlon(tmp_path / "Task01_BrainTumour", is_v1=True)
    (source / "imagesTr/brats_002_0001.nii.gz").unlink()
    (source / "imagesTs/brats_003_0000.nii.gz").unlink()
    report = convert(NNUNET_V1, source, tmp_path / "set")
    found = {(problem.case, problem.severity) for problem in report.problems}
    assert found == {("brats_002", "error"), ("brats_003", "note")} and report.converted == 1


def test_a_fault_in_one_case_leaves_the_others(tmp_path):
    source = decathlon(tmp_path / "Task01_BrainTumour", is_v1=False)
    write_image(source / "imagesTr/brats_001.nii.gz", TWO[:1], GRID)
    write_label(source / "labelsTr/brats_002.nii.gz", LABEL + 1, GRID)
    report = convert(DECATHLON, source, tmp_path / "set")
    assert [(problem.case, problem.found) for problem in sorted(report.problems, key=lambda one: one.case)] == [
        ("brats_001", "1 channels"),
        ("brats_002", "label values 3"),
    ]
    assert report.converted == 1


def test_nnunet_v2_comes_out_as_it_went_in(tmp_path):
    convert(DECATHLON, decathlon(tmp_path / "Task01_BrainTumour", is_v1=False), tmp_path / "v2")
    description = read_json(tmp_path / "v2/dataset.json")
    described(tmp_path / "v2", {**description, "group_by": r"(\d+)", "overwrite_image_reader_writer": "SimpleITKIO"})
    report = convert(NNUNET_V2, tmp_path / "v2", tmp_path / "set")
    assert report.is_complete and report.converted == 3
    for room in ("imagesTr", "imagesTs"):
        for path in (tmp_path / "v2" / room).iterdir():
            assert (tmp_path / "set" / room / path.name).read_bytes() == path.read_bytes()
    assert read_json(tmp_path / "set/dataset.json") == {**description, "name": "set", "group_by": r"(\d+)"}


def test_pictures_of_nnunet_v2_stay_pictures(tmp_path, save, load):
    colour = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    save(tmp_path / "v2/imagesTr/a_0000.png", colour)
    save(tmp_path / "v2/labelsTr/a.png", LABEL[0])
    channels = {"0": "red", "1": "green", "2": "blue"}
    labels = {"background": 0, "one": 1, "two": 2}
    described(tmp_path / "v2", {"channel_names": channels, "labels": labels, "numTraining": 1, "file_ending": ".png"})
    report = convert(NNUNET_V2, tmp_path / "v2", tmp_path / "set")
    assert report.is_complete
    assert np.array_equal(load(tmp_path / "set/imagesTr/a_0000.png"), colour)
    assert np.array_equal(load(tmp_path / "set/labelsTr/a.png"), LABEL[0])


def test_one_layout_taken_for_the_other_is_named(tmp_path):
    decathlon(tmp_path / "Task01_BrainTumour", is_v1=False)
    with pytest.raises(DatasetError, match="no entry channel_names; for other layouts use --from decathlon"):
        convert(NNUNET_V2, tmp_path / "Task01_BrainTumour", tmp_path / "set")
    with pytest.raises(DatasetError, match="no such file"):
        convert(DECATHLON, tmp_path, tmp_path / "set")


def test_a_real_task_of_the_decathlon_is_converted(test_data, tmp_path):
    source = test_data / "Task04_Hippocampus"
    description = read_json(source / "dataset.json")
    few = {**description, "training": description["training"][:3], "test": [], "numTraining": 3}
    for room in ("imagesTr", "labelsTr"):
        (tmp_path / "task").mkdir(exist_ok=True)
        (tmp_path / "task" / room).symlink_to(source / room)
    described(tmp_path / "task", few)
    report = convert(DECATHLON, tmp_path / "task", tmp_path / "set")
    assert report.is_complete and report.converted == 3
    case = read_dataset(tmp_path / "set").training[0]
    assert case.image_paths[0].read_bytes() == (source / f"imagesTr/{case.name}.nii.gz").read_bytes()


def test_regions_and_the_ignore_label_come_along_and_labels_that_are_named_replace_them(tmp_path):
    source = tmp_path / "src"
    (source / "imagesTr").mkdir(parents=True)
    write_image(source / "imagesTr/a_0000.nii.gz", TWO[:1], GRID)
    write_label(source / "labelsTr/a.nii.gz", LABEL + np.uint8(1), GRID)
    regions = {"labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, "regions_class_order": [1, 2]}
    described(source, {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "numTraining": 1, **regions})
    report = convert(NNUNET_V2, source, tmp_path / "set")
    assert report.is_complete
    written = read_json(tmp_path / "set/dataset.json")
    assert {name: written[name] for name in regions} == regions
    assert read_dataset(tmp_path / "set").measured == {"whole": (1, 2), "core": (2,)}
    named = ConversionOptions(labels={"one": 1, "two": 2, "three": 3})
    assert convert(NNUNET_V2, source, tmp_path / "other", named).is_complete
    assert read_json(tmp_path / "other/dataset.json")["labels"] == {"background": 0, "one": 1, "two": 2, "three": 3}
