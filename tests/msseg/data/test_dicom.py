import subprocess
import sys

import numpy as np
import pytest

from msseg.data.dicom import list_series, read_series, slice_files
from msseg.data.dicom_files import dicom_files
from msseg.data.image import read_image
from msseg.errors import DatasetError

IMAGE = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) - 60


def test_slices_come_in_the_order_of_their_positions_whatever_their_files_are_called(tmp_path, write_series):
    write_series(tmp_path / "s", IMAGE, names=["c", "a", "d", "b"])
    series = read_series(tmp_path / "s")
    assert np.array_equal(series.image[0], IMAGE)
    assert [path.stem for path in series.files] == ["c", "a", "d", "b"]
    assert slice_files(tmp_path / "s") == series.files
    assert series.geometry.spacing_mm == pytest.approx((2.5, 0.7, 0.8))
    assert series.geometry.origin_mm == pytest.approx((-10, -20, 30))
    assert np.allclose(series.geometry.direction, np.eye(3)[::-1])


def test_files_without_an_ending_are_known_by_their_first_bytes(tmp_path, write_series):
    for path in write_series(tmp_path / "s", IMAGE):
        path.rename(path.with_suffix(""))
    (tmp_path / "s/notes.txt").write_text("no image")
    (tmp_path / "s/.hidden.dcm").write_text("no image")
    assert len(dicom_files(tmp_path / "s")) == 4
    assert np.array_equal(read_series(tmp_path / "s").image[0], IMAGE)


def test_a_missing_slice_is_named_by_its_neighbours(tmp_path, write_series):
    write_series(tmp_path / "s", IMAGE)[1].unlink()
    with pytest.raises(DatasetError, match=r"5 mm between 0\.dcm and 2\.dcm \(1 slice missing\); expected 2\.5 mm"):
        read_series(tmp_path / "s")


def test_slices_that_are_unevenly_far_apart_are_refused(tmp_path, write_series):
    write_series(tmp_path / "s", IMAGE, places=[0, 1, 2.3, 3])
    with pytest.raises(DatasetError, match="mm between"):
        read_series(tmp_path / "s")


def test_a_hundredth_of_unevenness_is_a_scanners_rounding(tmp_path, write_series):
    write_series(tmp_path / "s", IMAGE, places=[0, 1.01, 1.99, 3])
    assert read_series(tmp_path / "s").geometry.spacing_mm[0] == pytest.approx(2.5)


def test_two_slices_in_one_place_are_refused(tmp_path, write_series):
    write_series(tmp_path / "s", IMAGE, places=[0, 1, 1, 2])
    with pytest.raises(DatasetError, match=r"2\.dcm: a slice in the place of 1\.dcm"):
        read_series(tmp_path / "s")


def test_several_series_are_listed_and_one_can_be_named(tmp_path, write_series):
    write_series(tmp_path / "s", IMAGE, series="1.2.3", description="T1")
    write_series(tmp_path / "s", IMAGE[:2] + 7, series="1.2.4", description="scout", names=["x", "y"])
    with pytest.raises(DatasetError, match=r"2 series \(T1, 4 files such as 0\.dcm, id 1\.2\.3; scout, 2 files"):
        read_series(tmp_path / "s")
    assert [(one.uid, one.description, len(one.files)) for one in list_series(tmp_path / "s")] == [
        ("1.2.3", "T1", 4),
        ("1.2.4", "scout", 2),
    ]
    assert np.array_equal(read_series(tmp_path / "s", "1.2.4").image[0], IMAGE[:2] + 7)
    with pytest.raises(DatasetError, match=r"expected the series 1\.2\.5"):
        read_series(tmp_path / "s", "1.2.5")


def test_series_ids_can_be_ignored(tmp_path, write_series):
    for number in range(4):
        write_series(tmp_path / "s", IMAGE[number : number + 1], [number], [str(number)], series=f"1.2.{number}")
    assert np.array_equal(read_series(tmp_path / "s", ignore_ids=True).image[0], IMAGE)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"axes": ((0, 1, 0), (0, 0, 1))}, "the orientation 0 1 0 0 0 1"),
        ({"pixel_mm": (0.9, 0.8)}, "pixels of 0.8 x 0.9 mm"),
        ({"crop": 4}, "4 x 5 pixels"),
    ],
)
def test_slices_of_another_scan_are_refused(tmp_path, write_series, change, found):
    write_series(tmp_path / "s", IMAGE)
    crop = change.pop("crop", 6)
    write_series(tmp_path / "s", IMAGE[:1, :, :crop], [9], ["z"], **change)
    with pytest.raises(DatasetError, match=rf"z\.dcm: {found}"):
        read_series(tmp_path / "s")


def test_tilted_planes_keep_their_axes(tmp_path, write_series):
    axes = ((1.0, 0.0, 0.0), (0.0, 0.6, 0.8))
    write_series(tmp_path / "s", IMAGE, axes=axes)
    geometry = read_series(tmp_path / "s").geometry
    assert np.allclose(geometry.direction, [np.cross(*axes), axes[1], axes[0]])


def test_one_slice_is_as_thick_as_it_says(tmp_path, write_series):
    write_series(tmp_path / "s", IMAGE[:1])
    assert read_series(tmp_path / "s").geometry.spacing_mm[0] == pytest.approx(5)


def test_damaged_files_and_empty_folders_are_named(tmp_path, write_series):
    with pytest.raises(DatasetError, match="no DICOM files"):
        read_series(tmp_path)
    path = write_series(tmp_path / "s", IMAGE)[2]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match=r"2\.dcm"):
        read_series(tmp_path / "s")
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"2\.dcm: an empty file"):
        read_series(tmp_path / "s")


def test_pixels_that_are_cut_off_are_an_error(tmp_path, write_series):
    path = write_series(tmp_path / "s", IMAGE)[2]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DatasetError, match=r"2\.dcm"):
        read_series(tmp_path / "s")


def test_the_prostate_lies_where_its_nifti_has_it(test_data):
    series = read_series(test_data / "dicom/prostate_t2_tra")
    image, geometry = read_image([test_data / "volumes/Prostate_MR/ProstateX-0000_t2_tse_tra.nii.gz"])
    assert np.array_equal(series.image, image[:, :, ::-1])
    corners = np.array([[0, 0, 0], [18, 383, 0], [3, 100, 250]])
    flipped = corners * (1, -1, 1) + (0, 383, 0)
    assert np.allclose(series.geometry.positions_mm(corners), geometry.positions_mm(flipped), atol=1e-4)


def test_a_file_of_many_frames_is_the_series_of_single_ones(test_data):
    many = read_series(test_data / "dicom/tiny_23x38x3_multiframe")
    single = read_series(test_data / "dicom/tiny_23x38x3")
    assert np.array_equal(many.image, single.image) and many.geometry == single.geometry
    assert len(many.files) == 3 and len(set(many.files)) == 1


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("prostate_dwi_missing_slice", r"6 mm between 1-07\.dcm and 1-05\.dcm \(1 slice missing\)"),
        ("ct_4slice_no_extension", r"202\.5 mm between 7106 and 7136"),
        ("ct_liver_3slice_SEG", r"liver_SEG\.dcm: a segmentation or registration object"),
    ],
)
def test_real_series_that_are_no_volume_are_refused(test_data, folder, found):
    with pytest.raises(DatasetError, match=found):
        read_series(test_data / "dicom" / folder)


def test_the_liver_label_of_the_nrrd_lies_on_its_series(test_data):
    series = read_series(test_data / "dicom/ct_liver_3slice")
    assert series.image.min() == -3024 and series.geometry.spacing_mm == pytest.approx((1, 0.810547, 0.810547))
    _, geometry = read_image([test_data / "dicom/ct_liver_3slice_SEG/liver_seg.nrrd"])
    assert geometry.shape == series.geometry.shape
    assert np.allclose(geometry.positions_mm(np.eye(3)), series.geometry.positions_mm(np.eye(3)), atol=1e-3)


def test_simple_itk_is_imported_only_when_a_series_is_read():
    code = "import sys, msseg.data.dicom, msseg.challenges.source; assert 'SimpleITK' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
