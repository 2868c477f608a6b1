from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from msseg.data.checks import check_case, check_dataset_structure
from msseg.data.dataset import read_dataset
from msseg.errors import DatasetError


def test_a_decathlon_folder_is_read_as_it_is(decathlon):
    folder = decathlon()
    dataset = read_dataset(folder)
    assert dataset.name == "Task99_Small"
    assert dataset.channels == ("MRI",)
    assert dataset.labels == {"background": 0, "front": 1, "back": 2}
    assert dataset.file_ending == ".nii.gz"
    assert [case.name for case in dataset.training] == ["a", "b"]
    assert dataset.training[0].image_paths == (folder / "imagesTr/a.nii.gz",)
    assert dataset.training[0].label_path == folder / "labelsTr/a.nii.gz"
    assert dataset.notes == ()


def test_a_decathlon_test_list_gives_cases_without_labels(decathlon):
    folder = decathlon(test=["./imagesTs/t.nii.gz", {"image": "./imagesTs/s.nii.gz"}])
    cases = read_dataset(folder).test
    assert [(case.name, case.label_path) for case in cases] == [("s", None), ("t", None)]


def test_an_nnunet_folder_is_read_as_it_is(nnunet, image_at):
    folder = nnunet()
    for channel in range(2):
        image_at(folder / "imagesTs" / f"t_{channel:04d}.nii.gz")
    dataset = read_dataset(folder)
    assert dataset.channels == ("T1", "T2")
    assert [path.name for path in dataset.training[1].image_paths] == ["b_0000.nii.gz", "b_0001.nii.gz"]
    assert [len(case.image_paths) for case in dataset.test] == [2]
    assert dataset.label_map.values == (0, 1, 2)


@pytest.fixture
def flat(tmp_path):
    """Writes an nnU-Net folder of pictures a and b; entries of dataset.json can be replaced."""

    def write(ending=".png", channels=("red", "green", "blue"), **entries):
        folder = tmp_path / "Dataset098_Flat"
        for room in ("imagesTr", "labelsTr"):
            (folder / room).mkdir(parents=True, exist_ok=True)
        picture = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
        for name in "ab":
            Image.fromarray(picture if len(channels) == 3 else picture[..., 0]).save(
                folder / f"imagesTr/{name}_0000{ending}"
            )
            Image.fromarray(np.eye(3, 4, dtype=np.uint8)).save(folder / f"labelsTr/{name}{ending}")
        names = {str(number): name for number, name in enumerate(channels)}
        description = {"channel_names": names, "labels": {"background": 0, "cell": 1}, "file_ending": ending}
        (folder / "dataset.json").write_text(json.dumps({**description, **entries}))
        return folder

    return write


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("channels", [("grey",), ("red", "green", "blue")])
def test_nnunets_pictures_are_read_with_all_channels_in_one_file(flat, ending, channels):
    dataset = read_dataset(flat(ending, channels))
    assert [path.name for case in dataset.training for path in case.image_paths] == [
        f"a_0000{ending}",
        f"b_0000{ending}",
    ]
    checked = check_case(dataset.training[0], len(channels), dataset.label_map)
    assert checked.report.problems == ()
    assert checked.image.shape == (len(channels), 1, 3, 4)


def test_nnunets_pictures_may_have_a_file_a_channel(flat):
    folder = flat()
    for name in "ab":
        for channel in range(3):
            Image.fromarray(np.eye(3, 4, channel, np.uint8)).save(folder / f"imagesTr/{name}_{channel:04d}.png")
    dataset = read_dataset(folder)
    assert [len(case.image_paths) for case in dataset.training] == [3, 3]
    assert check_case(dataset.training[0], 3, dataset.label_map).report.problems == ()


def test_names_with_another_ending_are_errors_that_name_both_and_strangers_notes(flat):
    folder = flat()
    for name in ("imagesTr/a_0000.tif", "imagesTr/a.png", "labelsTr/b.tif", "imagesTr/stranger_0000.jpg"):
        (folder / name).touch()
    found = {(p.severity, p.file.rpartition("/")[2], p.found) for p in check_dataset_structure(read_dataset(folder))}
    assert found == {
        ("error", "a_0000.tif", "the name of a.png again"),
        ("error", "a_0000.png", "the name of a.png again"),
        ("error", "b.tif", "the name of b.png again"),
        ("note", "stranger_0000.jpg", "a file that does not end in .png"),
    }


def test_numbered_objects_are_declared_with_one_label(flat):
    dataset = read_dataset(flat(instances=True))
    assert dataset.instances
    assert dataset.labels == {"background": 0, "cell": 1}
    assert len(dataset.class_names) == 4


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"instances": "yes"}, "true or false"),
        ({"instances": True, "labels": {"background": 0, "a": 1, "b": 2}}, "one label"),
        ({"pages": "time"}, "one of slices, channels"),
        ({"pages": "channels", "channel_names": {"0": "grey"}}, "a name for each page's channel"),
    ],
)
def test_malformed_entries_of_pictures_are_refused(flat, entries, message):
    with pytest.raises(DatasetError, match=message):
        read_dataset(flat(**entries))


def test_a_folder_of_masks_may_be_the_label_of_an_nnunet_case(flat):
    folder = flat(instances=True)
    (folder / "labelsTr/a.png").unlink()
    (folder / "labelsTr/a").mkdir()
    Image.fromarray(np.eye(3, 4, dtype=np.uint8)).save(folder / "labelsTr/a/1.png")
    assert read_dataset(folder).training[0].label_path == folder / "labelsTr/a"


def test_macos_companions_are_not_images(nnunet):
    folder = nnunet()
    (folder / "imagesTr/._a_0000.nii.gz").write_bytes(b"\0")
    (folder / "labelsTr/._a.nii.gz").write_bytes(b"\0")
    assert [case.name for case in read_dataset(folder).training] == ["a", "b"]


def test_an_image_without_label_and_a_label_without_image_stay_cases_that_can_be_named(nnunet):
    folder = nnunet(("a", "b", "c"))
    (folder / "labelsTr/a.nii.gz").unlink()
    for channel in range(2):
        (folder / f"imagesTr/b_{channel:04d}.nii.gz").unlink()
    cases = {case.name: case for case in read_dataset(folder).training}
    assert not cases["a"].label_path.exists()
    assert [path.exists() for path in cases["b"].image_paths] == [False, False]


def test_an_explicit_nnunet_list_may_lie_outside_the_folder_which_is_noted(nnunet, image_at, label_at):
    folder = nnunet()
    elsewhere = folder.parent / "elsewhere"
    images = [image_at(elsewhere / f"x_{channel:04d}.nii.gz") for channel in range(2)]
    label_at(elsewhere / "x_label.nii.gz", 1)
    listed = {"x": {"images": ["../elsewhere/x_0000.nii.gz", str(images[1])], "label": "../elsewhere/x_label.nii.gz"}}
    dataset = read_dataset(nnunet(dataset=listed, numTraining=1))
    assert dataset.training[0].name == "x"
    assert dataset.training[0].image_paths == tuple(images)
    assert dataset.training[0].label_path == elsewhere / "x_label.nii.gz"
    found = [note.found for note in dataset.notes]
    assert any("3 listed files outside the data set folder" in text for text in found)
    assert sum("not listed" in text for text in found) == 4


def test_a_path_with_an_environment_variable_is_refused(nnunet):
    listed = {"x": {"images": ["$DATA/x.nii.gz"], "label": "x.nii.gz"}}
    with pytest.raises(DatasetError, match="environment variables"):
        read_dataset(nnunet(dataset=listed))


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", ".hidden", ""])
def test_a_case_name_that_is_no_file_name_is_refused(nnunet, name):
    listed = {name: {"images": ["x.nii.gz"], "label": "x.nii.gz"}}
    with pytest.raises(DatasetError, match="a name that can be a file's, not a path"):
        read_dataset(nnunet(dataset=listed))


@pytest.mark.parametrize("path", ["../x.nii.gz", "imagesTr/../../x.nii.gz", "/x.nii.gz"])
def test_a_decathlon_path_that_leaves_the_folder_is_refused(decathlon, path):
    with pytest.raises(DatasetError, match="a path inside the data set folder"):
        read_dataset(decathlon(training=[{"image": path, "label": "./labelsTr/a.nii.gz"}]))


def test_a_decathlon_list_over_channel_files_is_read_as_nnunet_v1_did(decathlon, image_at):
    folder = decathlon(modality={"0": "T1", "1": "T2"})
    for name in "ab":
        (folder / f"imagesTr/{name}.nii.gz").unlink()
        for channel in range(2):
            image_at(folder / f"imagesTr/{name}_{channel:04d}.nii.gz")
    case = read_dataset(folder).training[0]
    assert case.name == "a"
    assert [path.name for path in case.image_paths] == ["a_0000.nii.gz", "a_0001.nii.gz"]


def test_a_decathlon_image_may_be_a_list_of_channel_files(decathlon):
    images = ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"]
    dataset = read_dataset(decathlon(training=[{"image": images, "label": "labelsTr/a.nii.gz"}]))
    assert dataset.training[0].name == "a"
    assert len(dataset.training[0].image_paths) == 2


def test_files_that_are_not_listed_are_noted_with_their_missing_partner(decathlon, image_at, label_at):
    folder = decathlon()
    image_at(folder / "imagesTr/c.nii.gz")
    label_at(folder / "labelsTr/c.nii.gz", 1)
    image_at(folder / "imagesTr/lonely.nii.gz")
    label_at(folder / "labelsTr/orphan.nii.gz", 1)
    notes = {note.case: note.found for note in read_dataset(folder).notes}
    assert notes == {
        "c": "image not listed in dataset.json",
        "lonely": "image not listed in dataset.json, and without label",
        "orphan": "label not listed in dataset.json, and without image",
    }


def test_many_unlisted_files_are_counted_instead_of_named(decathlon, image_at):
    folder = decathlon()
    for number in range(15):
        image_at(folder / f"imagesTr/more{number:02d}.nii.gz")
    notes = read_dataset(folder).notes
    assert len(notes) == 11
    assert notes[-1].found == "5 more files that dataset.json does not list"


def test_another_number_of_cases_than_promised_is_noted(decathlon):
    assert read_dataset(decathlon(numTraining=3)).notes[0].found == "2 training cases"


@pytest.mark.parametrize(
    ("declared", "labels"),
    [
        ({"0": "background", "255": "cell"}, {"background": 0, "cell": 255}),
        ({"cell": 255, "background": 0}, {"background": 0, "cell": 255}),
        ({"9": "c", "0": "background", "7": "b", "1": "a"}, {"background": 0, "a": 1, "b": 7, "c": 9}),
        ({"background": "0", "a": "1"}, {"background": 0, "a": 1}),
    ],
)
def test_labels_with_gaps_are_sorted_by_value_background_first(decathlon, declared, labels):
    got = read_dataset(decathlon(labels=declared)).labels
    assert list(got.items()) == list(labels.items())


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"labels": {"background": 0, "whole": [1, 2]}}, "regions without regions_class_order"),
        ({"labels": {"a": 1, "b": 2}}, "background 0"),
        ({"labels": {"background": 0}}, "at least one other"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "value twice"),
        ({"labels": {"0": "background", "1": "a", "2": "a"}}, "name or value twice"),
        ({"labels": {"background": 0, "a": 1.5}}, "an integer value"),
        ({"labels": None}, "labels None"),
        ({"channel_names": {"1": "T1"}}, "numbered from 0"),
        ({"channel_names": {}}, "numbered from 0"),
        ({"file_ending": ".bmp"}, "file_ending '.bmp'"),
        ({"dataset": []}, "no object"),
        ({"dataset": {"x": {"images": [], "label": "x.nii.gz"}}}, "case 'x'"),
        ({"dataset": {"x": {"images": ["x.nii.gz"]}}}, "case 'x'"),
        ({"dataset": {}}, "no cases"),
    ],
)
def test_a_malformed_or_unsupported_description_is_refused(nnunet, entries, message):
    with pytest.raises(DatasetError) as caught:
        read_dataset(nnunet(**entries))
    assert message in str(caught.value)
    assert "dataset.json" in str(caught.value)


@pytest.mark.parametrize(
    "entries",
    [
        {"training": {}},
        {"training": [3]},
        {"training": [{"image": "imagesTr/a.nii.gz"}]},
        {"training": [{"image": "imagesTr/a.bmp", "label": "labelsTr/a.bmp"}]},
        {"training": []},
    ],
)
def test_a_malformed_decathlon_list_is_refused(decathlon, entries):
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        read_dataset(decathlon(**entries))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"labels": {}}'])
def test_a_dataset_json_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=r"dataset\.json: "):
        read_dataset(tmp_path)


def test_a_folder_without_dataset_json_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such file"):
        read_dataset(tmp_path)
