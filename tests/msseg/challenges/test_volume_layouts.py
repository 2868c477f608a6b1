"""KiTS, LiTS, BraTS and ACDC, as miniatures in the layouts that they are published in."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from msseg.challenges.acdc import ACDC
from msseg.challenges.brats import BRATS19, BRATS20, BRATS21, BRATS23, BRATS24
from msseg.challenges.brats_submission import BRATS_ARCHIVES
from msseg.challenges.case_folders import says_test
from msseg.challenges.challenge import Challenge, ConversionOptions
from msseg.challenges.conversion import ConversionReport, convert
from msseg.challenges.kits19 import KITS19, KITS23
from msseg.challenges.lits17 import LITS17
from msseg.data.dataset import read_dataset
from msseg.data.geometry import Geometry
from msseg.data.image import read_geometry, read_image, read_label, write_image, write_label
from msseg.errors import DatasetError
from msseg.evaluation.rankings import ranking_labels
from msseg.files import read_json
from msseg.folders import Task
from msseg.pipeline.splits import ensure_splits

GRID = Geometry((3, 4, 5), (2.5, 0.8, 0.7), (-10.0, 20.0, 5.0))
CT = np.random.default_rng(0).integers(-1000, 1000, (1, 3, 4, 5)).astype(np.int16)
LABEL = (np.arange(60).reshape(3, 4, 5) % 3).astype(np.uint8)


def volume(path: Path, image: np.ndarray = CT, grid: Geometry = GRID) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image, grid)
    return path


def label(path: Path, values: np.ndarray = LABEL, grid: Geometry = GRID) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label(path, values, grid)
    return path


def converted(challenge: Challenge, tmp_path: Path) -> tuple[ConversionReport, Path]:
    """The report, and the data set folder, which msseg reads again."""
    report = convert(challenge, tmp_path / "src", tmp_path / "set")
    if (tmp_path / "set/dataset.json").exists():
        read_dataset(tmp_path / "set")
    return report, tmp_path / "set"


def problems(report: ConversionReport) -> list[tuple[str, str]]:
    return [(problem.case, problem.found) for problem in report.problems]


@pytest.fixture
def kits(tmp_path):
    for number in (0, 17, 210):
        volume(tmp_path / f"src/data/case_{number:05d}/imaging.nii.gz")
    for number in (0, 17):
        label(tmp_path / f"src/data/case_{number:05d}/segmentation.nii.gz")
    return tmp_path / "src/data"


def test_kits_cases_of_210_and_more_are_test_images(kits, tmp_path):
    report, folder = converted(KITS19, tmp_path)
    assert report.is_complete and (report.converted, report.test) == (3, 1)
    assert (folder / "imagesTs/case_00210_0000.nii.gz").read_bytes() == (
        kits / "case_00210/imaging.nii.gz"
    ).read_bytes()
    found, grid = read_label(folder / "labelsTr/case_00017.nii.gz")
    assert np.array_equal(found, LABEL)
    assert np.allclose(grid.positions_mm(np.eye(3)), GRID.positions_mm(np.eye(3)))
    assert read_json(folder / "dataset.json") == {
        "name": "set",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "kidney": 1, "tumour": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }


def test_kits_without_images_says_that_they_are_downloaded_apart(kits, tmp_path):
    (kits / "case_00017/imaging.nii.gz").unlink()
    report, _ = converted(KITS19, tmp_path)
    assert problems(report) == [("case_00017", "no image")] and "script" in report.problems[0].remedy
    assert report.converted == 2


def test_kits23_has_cysts_and_no_test_images(kits, tmp_path):
    kits.rename(kits.with_name("dataset"))
    label(tmp_path / "src/dataset/case_00000/segmentation.nii.gz", np.full((3, 4, 5), 3, np.uint8))
    report, folder = converted(KITS23, tmp_path)
    assert problems(report) == [("case_00210", "no label")]
    assert read_json(folder / "dataset.json")["labels"]["cyst"] == 3


@pytest.mark.parametrize(
    ("values", "grid", "found"),
    [
        (LABEL + 2, GRID, "label values 3, 4"),
        (LABEL, Geometry((3, 4, 5), (2.5, 0.8, 0.8), (-10.0, 20.0, 5.0)), "a grid up to 0.4 mm away"),
        (LABEL[:2], Geometry((2, 4, 5), (2.5, 0.8, 0.7)), "shape 5 x 4 x 2 voxels"),
    ],
)
def test_a_mask_that_is_not_of_its_image_is_named_and_the_others_converted(kits, tmp_path, values, grid, found):
    label(kits / "case_00017/segmentation.nii.gz", values, grid)
    report, folder = converted(KITS19, tmp_path)
    (problem,) = report.problems
    assert problem.case == "case_00017" and problem.found.startswith(found)
    assert not (folder / "imagesTr/case_00017_0000.nii.gz").exists() and report.converted == 2


def test_a_second_conversion_reads_no_case_again(kits, tmp_path):
    converted(KITS19, tmp_path)
    report, _ = converted(KITS19, tmp_path)
    assert (report.converted, report.kept) == (0, 3)
    label(kits / "case_00000/segmentation.nii.gz", LABEL[::-1])
    report, _ = converted(KITS19, tmp_path)
    assert (report.converted, report.kept) == (1, 2)


def test_real_kits_labels_take_an_image_of_their_grid(test_data, tmp_path):
    case = tmp_path / "src/case_00061"
    shutil.copytree(test_data / "KiTS19_labels/case_00061", case)
    geometry = read_geometry(case / "segmentation.nii.gz")
    write_image(case / "imaging.nii.gz", np.zeros((1, *geometry.shape), np.int16), geometry)
    report, folder = converted(KITS19, tmp_path)
    assert report.is_complete
    assert read_geometry(folder / "labelsTr/case_00061.nii.gz") == geometry
    assert np.array_equal(
        read_label(folder / "labelsTr/case_00061.nii.gz")[0], read_label(case / "segmentation.nii.gz")[0]
    )


def test_real_kits_labels_alone_are_each_named(test_data, tmp_path):
    report = convert(KITS19, test_data / "KiTS19_labels", tmp_path / "set")
    assert {problem.found for problem in report.problems} == {"no image"} and len(report.problems) == 12
    assert not report.is_complete and not (tmp_path / "set").exists()


def test_lits_files_are_paired_by_number_in_any_folders(tmp_path):
    for number in (0, 10):
        volume(tmp_path / f"src/Training Batch 1/volume-{number}.nii")
    label(tmp_path / "src/segmentations/segmentation-0.nii")
    label(tmp_path / "src/segmentations/segmentation-10.nii", LABEL[::-1])
    volume(tmp_path / "src/test/test-volume-3.nii")
    report, folder = converted(LITS17, tmp_path)
    assert report.is_complete and (report.converted, report.test) == (3, 1)
    image, geometry = read_image([folder / "imagesTr/volume-10_0000.nii.gz"])
    assert np.array_equal(image, CT) and geometry.spacing_mm == pytest.approx(GRID.spacing_mm)
    assert np.array_equal(read_label(folder / "labelsTr/volume-10.nii.gz")[0], LABEL[::-1])
    assert (folder / "imagesTs/test-volume-3_0000.nii.gz").exists()


def test_a_written_volume_of_integers_takes_two_bytes_a_voxel(tmp_path):
    import nibabel

    volume(tmp_path / "src/volume-0.nii")
    label(tmp_path / "src/segmentation-0.nii")
    _, folder = converted(LITS17, tmp_path)
    assert nibabel.load(folder / "imagesTr/volume-0_0000.nii.gz").get_data_dtype() == np.int16


def test_lits_files_without_a_partner_are_named(tmp_path):
    for number in (0, 1):
        volume(tmp_path / f"src/volume-{number}.nii")
    for number in (0, 2):
        label(tmp_path / f"src/segmentation-{number}.nii")
    report, _ = converted(LITS17, tmp_path)
    assert problems(report) == [("volume-1", "no segmentation-1.nii"), ("volume-2", "no volume-2.nii")]
    assert report.converted == 1


def subject(folder: Path, endings: tuple[str, ...], seg: str | None, values: np.ndarray) -> None:
    for number, ending in enumerate(endings):
        volume(folder / f"{folder.name}{ending}.nii.gz", np.full_like(CT, number) + CT)
    if seg:
        label(folder / f"{folder.name}{seg}.nii.gz", values)


OLD, NEW = ("_t1", "_t1ce", "_t2", "_flair"), ("-t1n", "-t1c", "-t2w", "-t2f")
VALUES_OLD = np.choose(LABEL, [0, 1, 4]).astype(np.uint8)


def test_brats_channels_are_t1_t1ce_t2_flair_and_the_values_stay(tmp_path):
    subject(tmp_path / "src/HGG/BraTS19_CBICA_AAB_1", OLD, "_seg", VALUES_OLD)
    subject(tmp_path / "src/LGG/BraTS19_2013_8_1", OLD, "_seg", VALUES_OLD)
    report, folder = converted(BRATS19, tmp_path)
    assert report.is_complete and report.converted == 2
    for number in range(4):
        image, _ = read_image([folder / f"imagesTr/BraTS19_2013_8_1_{number:04d}.nii.gz"])
        assert np.array_equal(image, CT + number)
    assert np.array_equal(read_label(folder / "labelsTr/BraTS19_2013_8_1.nii.gz")[0], VALUES_OLD)
    description = read_json(folder / "dataset.json")
    assert list(description["channel_names"].values()) == ["T1", "T1ce", "T2", "FLAIR"]
    assert description["labels"] == {"background": 0, "whole": [1, 2, 4], "core": [1, 4], "enhancing": 4}
    assert description["regions_class_order"] == [2, 1, 4]


@pytest.mark.parametrize(
    ("challenge", "name", "endings"),
    [
        (BRATS19, "BraTS19_CBICA_AAB_1", (OLD, "_seg")),
        (BRATS21, "BraTS2021_00000", (OLD, "_seg")),
        (BRATS23, "BraTS-GLI-00000-000", (NEW, "-seg")),
        (BRATS24, "BraTS-GLI-00000-100", (NEW, "-seg")),
    ],
)
def test_the_regions_of_brats_are_those_that_rank_and_paint_every_label_as_it_was(challenge, name, endings, tmp_path):
    subject(tmp_path / "src" / name, *endings, LABEL)
    _, folder = converted(challenge, tmp_path)
    dataset = read_dataset(folder)
    ranked = ranking_labels(challenge.name, dataset.measured)
    assert ranked is not None and {region: ranked[region] for region in dataset.regions} == dataset.regions
    assert dataset.notes == ()  # none says that a value is painted over
    assert set(dataset.labels.values()) == set(BRATS_ARCHIVES[challenge.name].labels(name))


def test_labels_that_the_user_names_are_no_regions(tmp_path):
    subject(tmp_path / "src/BraTS2021_00000", OLD, "_seg", VALUES_OLD)
    convert(BRATS21, tmp_path / "src", tmp_path / "set", ConversionOptions(labels={"core": 1, "other": 4}))
    description = read_json(tmp_path / "set/dataset.json")
    assert description["labels"] == {"background": 0, "core": 1, "other": 4}
    assert "regions_class_order" not in description


def test_a_missing_sequence_is_named(tmp_path):
    for name in ("BraTS2021_00000", "BraTS2021_00002"):
        subject(tmp_path / "src" / name, OLD, "_seg", VALUES_OLD)
    (tmp_path / "src/BraTS2021_00002/BraTS2021_00002_t2.nii.gz").unlink()
    report, _ = converted(BRATS21, tmp_path)
    assert problems(report) == [("BraTS2021_00002", "no image BraTS2021_00002_t2.nii.gz")]
    assert report.converted == 1


def test_a_sequence_on_another_grid_is_named(tmp_path):
    subject(tmp_path / "src/BraTS2021_00000", OLD, "_seg", VALUES_OLD)
    volume(tmp_path / "src/BraTS2021_00000/BraTS2021_00000_t2.nii.gz", CT, Geometry((3, 4, 5), (3.0, 0.8, 0.7)))
    report, _ = converted(BRATS21, tmp_path)
    assert "mm away from that of BraTS2021_00000_t1.nii.gz" in report.problems[0].found


def test_labels_of_a_later_year_are_refused_in_an_earlier_one(tmp_path):
    subject(tmp_path / "src/BraTS2021_00000", OLD, "_seg", np.full((3, 4, 5), 3, np.uint8))
    report, _ = converted(BRATS21, tmp_path)
    assert problems(report) == [("BraTS2021_00000", "label values 3")]


def test_brats20_validation_has_no_labels_and_one_label_has_another_name(tmp_path):
    subject(tmp_path / "src/Train/BraTS20_Training_355", OLD, None, VALUES_OLD)
    label(tmp_path / "src/Train/BraTS20_Training_355/W39_1998.09.19_Segm.nii", VALUES_OLD)
    subject(tmp_path / "src/MICCAI_BraTS2020_ValidationData/BraTS20_Validation_001", OLD, None, VALUES_OLD)
    report, folder = converted(BRATS20, tmp_path)
    assert report.is_complete and (report.converted, report.test) == (2, 1)
    assert (folder / "labelsTr/BraTS20_Training_355.nii.gz").exists()


def test_visits_of_one_patient_stay_in_one_fold(tmp_path):
    for patient in range(6):
        for visit in (100, 101):
            subject(tmp_path / f"src/BraTS-GLI-{patient:05d}-{visit}", NEW, "-seg", LABEL * 2)
    report, folder = converted(BRATS24, tmp_path)
    assert report.is_complete and report.converted == 12
    names = [case.name for case in read_dataset(folder).training]
    for split in ensure_splits(Task("set", folder, tmp_path / "prepared", tmp_path / "models"), names):
        assert not {name[:15] for name in split.train} & {name[:15] for name in split.validation}


def test_a_real_case_of_four_channels_in_the_layout_of_2023(test_data, tmp_path):
    folder = tmp_path / "src/BraTS-GLI-00000-000"
    folder.mkdir(parents=True)
    for number, ending in enumerate(NEW):
        source = test_data / f"volumes/BraTS_4ch/images/glioma_case_{number:04d}.nii.gz"
        (folder / f"{folder.name}{ending}.nii.gz").symlink_to(source)
    (folder / f"{folder.name}-seg.nii.gz").symlink_to(
        test_data / "volumes/BraTS_4ch/algorithm_segmentations/glioma_case.nii.gz"
    )
    report, made = converted(BRATS23, tmp_path)
    assert report.is_complete
    for number in range(4):
        copy = made / f"imagesTr/BraTS-GLI-00000-000_{number:04d}.nii.gz"
        assert copy.read_bytes() == (folder / f"{folder.name}{NEW[number]}.nii.gz").read_bytes()
    assert set(np.unique(read_label(made / "labelsTr/BraTS-GLI-00000-000.nii.gz")[0])) == {0, 1, 2, 3}


def test_folders_of_no_subject_are_refused(tmp_path):
    subject(tmp_path / "src/BraTS2021_00000", OLD, "_seg", VALUES_OLD)
    with pytest.raises(DatasetError, match="not one case; expected folders of subjects called as BraTS19_"):
        convert(BRATS19, tmp_path / "src", tmp_path / "set")


@pytest.mark.parametrize(
    ("folder", "is_test"),
    [("testing", True), ("Test_Sets", True), ("BraTS2021ValidationData", True), ("latest", False), ("contest", False)],
)
def test_folders_called_after_tests_hold_images_to_segment(tmp_path, folder, is_test):
    assert says_test(tmp_path / "src" / folder / "patient001", tmp_path / "src") == is_test


def patient(folder: Path, frames: tuple[int, int], has_labels: bool = True) -> None:
    for frame in frames:
        volume(folder / f"{folder.name}_frame{frame:02d}.nii.gz", CT + frame)
        if has_labels:
            label(folder / f"{folder.name}_frame{frame:02d}_gt.nii.gz")
    volume(folder / f"{folder.name}_4d.nii.gz")
    lines = [f"ED: {frames[0]}", f"ES: {frames[1]}", "Group: DCM", "Height: 184.0", "NbFrame: 30", "Weight: 95.0"]
    (folder / "Info.cfg").write_text("\n".join(lines))


def test_acdc_moments_are_called_by_the_patients_info(tmp_path):
    patient(tmp_path / "src/training/patient001", (1, 12))
    patient(tmp_path / "src/training/patient002", (4, 2))
    patient(tmp_path / "src/testing/patient101", (1, 14), has_labels=False)
    patient(tmp_path / "src/testing/patient102", (1, 14))
    report, folder = converted(ACDC, tmp_path)
    assert report.is_complete and (report.converted, report.test) == (8, 4)
    assert np.array_equal(read_image([folder / "imagesTr/patient002_ED_0000.nii.gz"])[0], CT + 4)
    assert np.array_equal(read_image([folder / "imagesTr/patient002_ES_0000.nii.gz"])[0], CT + 2)
    assert [path.name for path in sorted((folder / "labelsTs").iterdir())] == [
        "patient102_ED.nii.gz",
        "patient102_ES.nii.gz",
    ]
    assert read_json(folder / "dataset.json")["group_by"] == r"^(patient\d+)"


def test_acdc_files_that_are_not_there_are_named(tmp_path):
    for number in (1, 2, 3):
        patient(tmp_path / f"src/patient{number:03d}", (1, 12))
    (tmp_path / "src/patient001/Info.cfg").write_text("ED: 1\n")
    (tmp_path / "src/patient002/patient002_frame12_gt.nii.gz").unlink()
    (tmp_path / "src/patient003/patient003_frame01.nii.gz").unlink()
    report, _ = converted(ACDC, tmp_path)
    assert problems(report) == [
        ("patient001_ES", "no frame of ES"),
        ("patient002_ES", "no label"),
        ("patient003_ED", "no image"),
    ]
    assert report.converted == 3


def test_real_heart_volumes_in_the_raw_layout_are_taken_whole(test_data, tmp_path):
    images = sorted((test_data / "volumes/ACDC_cardiac/imagesTr").glob("*.nii.gz"))[:2]
    folder = tmp_path / "src/training/patient001"
    folder.mkdir(parents=True)
    for image, frame in zip(images, ("01", "09"), strict=True):
        shutil.copy(image, folder / f"patient001_frame{frame}.nii.gz")
        found = test_data / f"volumes/ACDC_cardiac/labelsTr/{image.name.replace('_0000', '')}"
        shutil.copy(found, folder / f"patient001_frame{frame}_gt.nii.gz")
    (folder / "Info.cfg").write_text("ED: 1\nES: 9\n")
    report, made = converted(ACDC, tmp_path)
    assert report.is_complete and report.converted == 2
    assert (made / "imagesTr/patient001_ES_0000.nii.gz").read_bytes() == images[1].read_bytes()
