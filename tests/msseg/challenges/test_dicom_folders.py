import numpy as np
import pytest

from msseg.challenges.challenge import ConversionOptions
from msseg.challenges.conversion import convert
from msseg.challenges.cost import conversion_cost
from msseg.challenges.dicom import DICOM, list_cases
from msseg.data.dicom import read_series
from msseg.data.geometry import Geometry
from msseg.data.image import read_image, read_label, write_label
from msseg.errors import DatasetError
from msseg.files import read_json

IMAGE = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) - 60


def test_series_without_labels_become_images_to_segment(tmp_path, write_series):
    write_series(tmp_path / "src/patient1/visit1", IMAGE)
    write_series(tmp_path / "src/patient1/visit2", IMAGE + 1)
    report = convert(DICOM, tmp_path / "src", tmp_path / "set")
    assert report.is_complete and (report.converted, report.test) == (2, 2)
    image, geometry = read_image([tmp_path / "set/imagesTs/patient1_visit2_0000.nii.gz"])
    assert np.array_equal(image[0], IMAGE + 1) and geometry.spacing_mm == pytest.approx((2.5, 0.7, 0.8))


def test_series_with_labels_become_training_cases(tmp_path, write_series):
    for name in "ab":
        write_series(tmp_path / f"src/images/{name}", IMAGE)
    geometry = read_series(tmp_path / "src/images/a").geometry
    write_label(tmp_path / "src/labels/a.nii.gz", (IMAGE > 0).astype(np.uint8), geometry)
    write_label(tmp_path / "src/labels/c.nii.gz", (IMAGE > 0).astype(np.uint8), geometry)
    report = convert(DICOM, tmp_path / "src", tmp_path / "set")
    assert [(problem.case, problem.found) for problem in report.problems] == [("b", "no label"), ("c", "no series")]
    assert np.array_equal(read_label(tmp_path / "set/labelsTr/a.nii.gz")[0], IMAGE > 0)
    assert read_json(tmp_path / "set/dataset.json")["labels"] == {"background": 0, "foreground": 1}


def test_a_label_drawn_on_other_axes_is_refused(tmp_path, write_series):
    write_series(tmp_path / "src/images/a", IMAGE)
    turned = Geometry(IMAGE.shape, (2.5, 0.7, 0.8), (-10, -20, 30), ((0, 0, 1), (0, -1, 0), (1, 0, 0)))
    write_label(tmp_path / "src/labels/a.nii.gz", (IMAGE > 0).astype(np.uint8), turned)
    report = convert(DICOM, tmp_path / "src", tmp_path / "set", ConversionOptions({"organ": 1}))
    assert report.problems[0].found.startswith("a grid up to 5.6 mm away from that of a")


def test_a_series_with_a_gap_is_named_and_the_others_converted(tmp_path, write_series):
    write_series(tmp_path / "src/a", IMAGE)
    write_series(tmp_path / "src/b", IMAGE)[1].unlink()
    report = convert(DICOM, tmp_path / "src", tmp_path / "set")
    assert report.problems[0].found == "5 mm between 0.dcm and 2.dcm (1 slice missing)" and report.converted == 1


def test_real_series_are_converted_or_named(test_data, tmp_path):
    report = convert(DICOM, test_data / "dicom", tmp_path / "set")
    left_out = {"ct_4slice_no_extension", "ct_liver_3slice_SEG", "prostate_dwi_missing_slice"}
    assert {problem.case for problem in report.problems} == left_out and report.converted == 5
    image, _ = read_image([tmp_path / "set/imagesTs/tiny_23x38x3_multiframe_0000.nii.gz"])
    assert np.array_equal(image, read_series(test_data / "dicom/tiny_23x38x3").image)


def test_folders_without_series_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="folders of DICOM files"):
        convert(DICOM, tmp_path, tmp_path / "set")


def test_what_a_conversion_takes_is_known_from_the_sizes_of_files(tmp_path, write_series, make_machine):
    write_series(tmp_path / "a", IMAGE)
    listing = list_cases(tmp_path, ConversionOptions())
    assert conversion_cost(listing, make_machine(), workers=1).disk_bytes > IMAGE.nbytes
