from __future__ import annotations

from pathlib import Path

import pytest

from msseg.data.cases import case_name, find_images, split_channel
from msseg.errors import DatasetError


def _touch(folder, *names):
    for name in names:
        (folder / name).touch()


def _names(cases):
    return {case.name: [path.name for path in case.image_paths] for case in cases}


def test_one_channel_needs_no_suffix_and_takes_one(tmp_path):
    _touch(tmp_path, "a.nii.gz", "b_0000.nii.gz", "._a.nii.gz", "notes.txt", "c.nrrd")
    cases, problems = find_images(tmp_path, 1)
    assert _names(cases) == {"a": ["a.nii.gz"], "b": ["b_0000.nii.gz"], "c": ["c.nrrd"]}
    assert problems == []


def test_plain_names_that_end_in_a_number_are_not_channels(tmp_path):
    _touch(tmp_path, "scan_2019.nii.gz", "scan_2020.nii.gz", "scan_0001.nii.gz")
    cases, problems = find_images(tmp_path, 1)
    assert sorted(_names(cases)) == ["scan_0001", "scan_2019", "scan_2020"]
    assert problems == []


def test_several_channels_are_files_by_suffix_or_one_4d_file(tmp_path):
    _touch(tmp_path, "a_0001.nii.gz", "a_0000.nii.gz", "b.nii.gz", "c_0007.nii.gz")
    cases, problems = find_images(tmp_path, 2)
    assert _names(cases) == {
        "a": ["a_0000.nii.gz", "a_0001.nii.gz"],
        "b": ["b.nii.gz"],
        "c_0007": ["c_0007.nii.gz"],
    }
    assert problems == []


def test_a_missing_channel_names_its_case_and_stops_no_other(tmp_path):
    _touch(tmp_path, "a_0000.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz", "c_0001.nii.gz")
    cases, problems = find_images(tmp_path, 2)
    assert _names(cases) == {"b": ["b_0000.nii.gz", "b_0001.nii.gz"]}
    assert [(problem.case, problem.found) for problem in problems] == [
        ("a", "no channel _0001"),
        ("c", "no channel _0000"),
    ]


def test_more_channels_than_the_model_has_are_a_problem(tmp_path):
    _touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz")
    cases, problems = find_images(tmp_path, 1)
    assert cases == []
    assert problems[0].found == "2 channels"


def test_a_picture_of_the_first_channel_holds_all_channels(tmp_path):
    _touch(tmp_path, "a_0000.png", "b_0000.tif", "c.jpg", "d_0000.nii.gz")
    cases, problems = find_images(tmp_path, 3)
    assert _names(cases) == {"a": ["a_0000.png"], "b": ["b_0000.tif"], "c": ["c.jpg"]}
    assert [problem.case for problem in problems] == ["d"]


def test_pictures_of_single_channels_must_all_be_there(tmp_path):
    _touch(tmp_path, *(f"a_{channel:04d}.png" for channel in range(3)), "b_0000.png")
    cases, problems = find_images(tmp_path, 3)
    assert [case.name for case in cases] == ["a"]
    assert [problem.found for problem in problems] == ["no channel _0001, _0002"]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_with_more_numbers_than_channels_are_cases_of_their_own(tmp_path, channels):
    _touch(tmp_path, *(f"frame_{number:04d}.png" for number in range(5)))
    cases, problems = find_images(tmp_path, channels)
    assert [case.name for case in cases] == [f"frame_{number:04d}" for number in range(5)]
    assert problems == []


@pytest.mark.parametrize(
    "names", [("a.nii.gz", "a_0000.nii.gz"), ("a.nii.gz", "a.mha"), ("a.png", "a.tif"), ("a.jpg", "a.jpeg")]
)
def test_two_files_for_one_case_are_a_problem(tmp_path, names):
    _touch(tmp_path, *names)
    cases, problems = find_images(tmp_path, 1)
    assert cases == []
    assert "several files for one case" in problems[0].found


def test_a_folder_that_is_missing_or_without_images_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        find_images(tmp_path / "none", 1)
    _touch(tmp_path, "a.txt")
    with pytest.raises(DatasetError, match=r"no images; expected files ending in \.nii\.gz"):
        find_images(tmp_path, 1)


def test_names_lose_their_whole_ending_and_nothing_else():
    assert case_name(Path("x/a.b.nii.gz")) == "a.b"
    assert case_name(Path("A.NII.GZ")) == "A"
    assert split_channel("a_1_0002") == ("a_1", 2)
    assert split_channel("a_02") == ("a_02", None)
