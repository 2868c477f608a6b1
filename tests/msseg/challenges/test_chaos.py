"""CHAOS as a miniature in the layout that it is published in."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from msseg.challenges.challenge import ConversionOptions, SubmissionOptions
from msseg.challenges.chaos import CHAOS, CHAOS_CT, CHAOS_T1, CHAOS_T2
from msseg.challenges.conversion import convert
from msseg.challenges.submission import submit
from msseg.data.dataset import read_dataset
from msseg.data.image import read_image, read_label
from msseg.errors import DatasetError
from msseg.files import read_json

IMAGE = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
# One slice a row: liver at the edges of its range, the kidneys, the spleen.
GREYS = np.zeros((3, 4, 5), np.uint8)
GREYS[0, 0] = [56, 63, 70, 0, 0]
GREYS[1, 0] = [111, 126, 135, 176, 200]
GREYS[2, 0] = [241, 252, 255, 0, 189]


@pytest.fixture
def chaos(tmp_path, write_series, save):
    """Patient 1 of each modality to train on, patient 3 to test on; slices of CT lie against the order of names."""

    def series(folder: Path, image: np.ndarray, names: list[str], places: list[float]) -> None:
        for number, (name, place) in enumerate(zip(names, places, strict=True)):
            write_series(folder, image[number : number + 1], [place], [name], series=f"1.2.{number}")

    def masks(folder: Path, names: list[str], values: np.ndarray) -> None:
        for name, mask in zip(names, values, strict=True):
            save(folder / f"{name}.png", mask)

    root = tmp_path / "src"
    for part, patient in (("Train_Sets", 1), ("Test_Sets", 3)):
        names = [f"i000{number},0000b" for number in range(3)]
        series(root / f"{part}/CT/{patient}/DICOM_anon", IMAGE, names, [2, 1, 0])
        mr = root / f"{part}/MR/{patient}"
        series(mr / "T1DUAL/DICOM_anon/InPhase", IMAGE, ["IMG-2", "IMG-4", "IMG-6"], [0, 1, 2])
        series(mr / "T1DUAL/DICOM_anon/OutPhase", IMAGE + 100, ["IMG-1", "IMG-3", "IMG-5"], [0, 1, 2])
        series(mr / "T2SPIR/DICOM_anon", IMAGE, ["IMG-1", "IMG-2", "IMG-3"], [0, 1, 2])
    train = root / "Train_Sets"
    liver = np.where(GREYS > 0, 255, 0).astype(np.uint8)
    masks(train / "CT/1/Ground", [f"liver_GT_00{number}" for number in range(3)], liver)
    masks(train / "MR/1/T1DUAL/Ground", ["IMG-2", "IMG-4", "IMG-6"], GREYS)
    masks(train / "MR/1/T2SPIR/Ground", ["IMG-1", "IMG-2", "IMG-3"], GREYS)
    return root


def test_masks_follow_the_names_of_slices_and_slices_their_positions(chaos, tmp_path):
    report = convert(CHAOS_CT, chaos, tmp_path / "set")
    assert report.is_complete and (report.converted, report.test) == (2, 1)
    image, geometry = read_image([tmp_path / "set/imagesTr/CT_1_0000.nii.gz"])
    assert np.array_equal(image[0], IMAGE[::-1]) and geometry.spacing_mm == pytest.approx((2.5, 0.7, 0.8))
    label, grid = read_label(tmp_path / "set/labelsTr/CT_1.nii.gz")
    assert np.array_equal(label, np.where(GREYS > 0, 255, 0)[::-1]) and grid == geometry
    assert read_json(tmp_path / "set/dataset.json")["labels"] == {"background": 0, "liver": 255}
    assert read_dataset(tmp_path / "set").training[0].name == "CT_1"


def test_both_phases_are_channels_and_ranges_of_grey_become_their_middle(chaos, tmp_path):
    report = convert(CHAOS_T1, chaos, tmp_path / "set")
    assert report.is_complete
    for number in (0, 1):
        image, _ = read_image([tmp_path / f"set/imagesTr/T1DUAL_1_{number:04d}.nii.gz"])
        assert np.array_equal(image[0], IMAGE + 100 * number)
    label, _ = read_label(tmp_path / "set/labelsTr/T1DUAL_1.nii.gz")
    assert label[0, 0].tolist() == [63, 63, 63, 0, 0]
    assert label[1, 0].tolist() == [126, 126, 126, 189, 189]
    assert label[2, 0].tolist() == [252, 252, 252, 0, 189]
    description = read_json(tmp_path / "set/dataset.json")
    assert description["channel_names"] == {"0": "T1_in_phase", "1": "T1_out_phase"}
    organs = {"liver": 63, "right_kidney": 126, "left_kidney": 189, "spleen": 252}
    assert description["labels"] == {"background": 0, **organs}
    assert (tmp_path / "set/imagesTs/T1DUAL_3_0001.nii.gz").exists()


def test_several_workers_convert_as_one_does(chaos, tmp_path):
    assert convert(CHAOS_T2, chaos, tmp_path / "two", ConversionOptions(workers=2)).is_complete
    convert(CHAOS_T2, chaos, tmp_path / "one")
    for path in (tmp_path / "one/labelsTr").iterdir():
        assert path.read_bytes() == (tmp_path / "two/labelsTr" / path.name).read_bytes()


def test_a_grey_of_no_organ_is_named_with_its_file(chaos, tmp_path, save):
    path = chaos / "Train_Sets/MR/1/T2SPIR/Ground/IMG-2.png"
    save(path, np.full((4, 5), 90, np.uint8))
    report = convert(CHAOS_T2, chaos, tmp_path / "set")
    (problem,) = report.problems
    assert problem.case == "T2SPIR_1" and problem.file == str(path) and problem.found == "grey values 90"
    assert "left_kidney 176 to 200" in problem.expected and report.converted == 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda t2: (t2 / "Ground/IMG-2.png").unlink(), "3 masks"),
        (lambda t2: (t2 / "Ground").rename(t2 / "elsewhere"), "no folder Ground"),
        (lambda t2: (t2 / "DICOM_anon/IMG-2.dcm").unlink(), "5 mm between"),
    ],
)
def test_what_is_missing_is_named(chaos, tmp_path, write_series, save, change, found):
    t2 = chaos / "Train_Sets/MR/1/T2SPIR"
    write_series(t2 / "DICOM_anon", IMAGE[:1], [3], ["IMG-4"], series="1.2.9")
    save(t2 / "Ground/IMG-4.png", GREYS[0])
    change(t2)
    report = convert(CHAOS_T2, chaos, tmp_path / "set")
    assert report.converted == 1 and report.problems[0].found.startswith(found)


def test_a_mask_of_another_size_is_named(chaos, tmp_path, save):
    save(chaos / "Train_Sets/MR/1/T2SPIR/Ground/IMG-2.png", np.zeros((4, 6), np.uint8))
    report = convert(CHAOS_T2, chaos, tmp_path / "set")
    assert report.problems[0].found == "6 x 4 pixels"


def test_phases_in_different_places_are_refused(chaos, tmp_path, write_series):
    folder = chaos / "Train_Sets/MR/1/T1DUAL/DICOM_anon/OutPhase"
    for path in folder.iterdir():
        path.unlink()
    write_series(folder, IMAGE, [1, 2, 3])
    report = convert(CHAOS_T1, chaos, tmp_path / "set")
    assert report.problems[0].found.startswith("a grid up to 2.5 mm away from that of InPhase")


def test_the_three_data_sets_are_named_to_those_who_want_all(chaos, tmp_path):
    with pytest.raises(DatasetError, match="chaos_ct, chaos_t1 or chaos_t2"):
        convert(CHAOS, chaos, tmp_path / "set")
    with pytest.raises(DatasetError, match="CT/1/DICOM_anon below it"):
        convert(CHAOS_CT, chaos / "Train_Sets/MR", tmp_path / "set")


def test_converted_masks_are_submitted_as_the_pictures_that_they_were(chaos, tmp_path):
    for challenge in (CHAOS_CT, CHAOS_T1, CHAOS_T2):
        convert(challenge, chaos, tmp_path / challenge.name)
        for path in (tmp_path / challenge.name / "labelsTr").iterdir():
            (tmp_path / "pred").mkdir(exist_ok=True)
            path.rename(tmp_path / "pred" / path.name)
    submit(CHAOS, tmp_path / "pred", tmp_path / "s.zip", SubmissionOptions(chaos / "Train_Sets"))
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        archive.extractall(tmp_path / "out")
    for series in ("CT/1", "MR/1/T1DUAL", "MR/1/T2SPIR"):
        truth = [read_label(path)[0] for path in sorted((chaos / "Train_Sets" / series / "Ground").iterdir())]
        found = [read_label(path)[0] for path in sorted((tmp_path / "out/Task4" / series / "Results").iterdir())]
        assert len(found) == 3
        for before, after in zip(truth, found, strict=True):  # each organ's range of grey is less than 16 wide
            assert (np.abs(before - after.astype(int)) < 16).all()
