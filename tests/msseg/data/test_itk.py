from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from msseg.data.geometry import grid_distance_mm
from msseg.data.image import read_geometry, read_image, read_label, write_image, write_label
from msseg.errors import DatasetError

sitk = pytest.importorskip("SimpleITK")

TURN = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def _save(path, array_zyx, compress=False):
    image = sitk.GetImageFromArray(array_zyx)
    image.SetSpacing((0.7, 0.8, 5.0))
    image.SetOrigin((-10.1, 20.2, 33.3))
    image.SetDirection(TURN)
    sitk.WriteImage(image, str(path), compress)
    return path


def _volume(dtype=np.int16):
    return np.random.default_rng(0).integers(0, 100, (4, 5, 6)).astype(dtype)


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("compress", [False, True])
def test_values_and_positions_are_simple_itks(tmp_path, ending, compress):
    path = _save(tmp_path / f"a{ending}", _volume(), compress)
    image, geometry = read_image([path])
    other = sitk.ReadImage(str(path))
    assert np.array_equal(image[0], _volume())
    assert geometry.spacing_mm == other.GetSpacing()[::-1]
    for x, y, z in [(0, 0, 0), (5, 4, 3), (1, 2, 0)]:
        position = geometry.positions_mm(np.array([[z, y, x]]))[0]
        assert position == pytest.approx(other.TransformIndexToPhysicalPoint((x, y, z)), abs=1e-9)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_spacing_origin_and_direction_come_back(tmp_path, ending):
    source = _save(tmp_path / f"a{ending}", _volume())
    label = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
    write_label(tmp_path / f"b{ending}", label, read_geometry(source))
    want, got = sitk.ReadImage(str(source)), sitk.ReadImage(str(tmp_path / f"b{ending}"))
    assert got.GetSpacing() == pytest.approx(want.GetSpacing(), abs=1e-12)
    assert got.GetOrigin() == want.GetOrigin()
    assert got.GetDirection() == pytest.approx(want.GetDirection(), abs=1e-12)
    assert np.array_equal(sitk.GetArrayFromImage(got), label)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_a_grid_changes_format_without_moving(tmp_path, ending):
    geometry = read_geometry(_save(tmp_path / "a.mha", _volume()))
    write_label(tmp_path / f"b{ending}", _volume(np.uint8), geometry)
    there = read_geometry(tmp_path / f"b{ending}")
    write_label(tmp_path / "c.mha", _volume(np.uint8), there)
    assert grid_distance_mm(there, geometry) < 1e-4  # NIfTI keeps single precision
    assert grid_distance_mm(read_geometry(tmp_path / "c.mha"), geometry) < 1e-4
    assert np.array_equal(read_label(tmp_path / "c.mha")[0], _volume())


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_4d_file_holds_channels(tmp_path, ending):
    geometry = read_geometry(_save(tmp_path / "a.mha", _volume()))
    channels = np.random.default_rng(0).random((3, 4, 5, 6), np.float32)
    write_image(tmp_path / f"b{ending}", channels, geometry)
    image, got = read_image([tmp_path / f"b{ending}"])
    assert np.array_equal(image, channels)
    assert grid_distance_mm(got, geometry) < 1e-9


def test_colour_and_vector_voxels_are_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True), str(tmp_path / "a.nrrd"))
    with pytest.raises(DatasetError, match="voxels of 3 components"):
        read_image([tmp_path / "a.nrrd"])


def test_a_2d_image_is_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4), np.uint8)), str(tmp_path / "a.mha"))
    with pytest.raises(DatasetError, match="2 dimensions"):
        read_image([tmp_path / "a.mha"])


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("keep", [0, 30, 0.6])
def test_a_file_cut_off_is_refused_and_nothing_is_printed(tmp_path, capfd, ending, compress, keep):
    path = _save(tmp_path / f"a{ending}", np.random.default_rng(0).random((9, 20, 20), np.float32), compress)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(DatasetError, match="; expected "):
        read_image([path])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_a_bit_that_flipped_in_compressed_data_is_found_though_itk_reads_on(tmp_path, capfd, ending):
    path = _save(tmp_path / f"a{ending}", np.random.default_rng(0).random((9, 20, 20), np.float32), compress=True)
    (data_path,) = [file for file in tmp_path.iterdir() if file.stat().st_size > 10_000]
    data = bytearray(data_path.read_bytes())
    data[len(data) * 3 // 4] ^= 0x55
    data_path.write_bytes(data)
    with pytest.raises(DatasetError, match="damaged compressed data"):
        read_image([path])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"DimSize = 6 5 4", b"DimSize = 6 x 4", "DimSize = '6 x 4'"),
        (b"DimSize = 6 5 4", b"DimSize = 6 5 9", "240 of 540 bytes"),
        (b"ElementType", b"ElementKind", "without ElementType"),
        (b"CompressedDataSize", b"CompressedDataSite", "without CompressedDataSize"),
        (b"CompressedDataSize = ", b"CompressedDataSize = 9", r"of 9\d* bytes of data"),
    ],
)
def test_a_meta_image_header_that_makes_no_sense_is_refused(tmp_path, old, new, message):
    path = _save(tmp_path / "a.mha", _volume(), compress=b"Compressed" in old)
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    with pytest.raises(DatasetError, match=message):
        read_image([path])


def test_a_meta_image_header_without_its_data_file_is_refused(tmp_path):
    path = _save(tmp_path / "a.mhd", _volume())
    (tmp_path / "a.raw").unlink()
    with pytest.raises(DatasetError, match=r"no data file a\.raw"):
        read_image([path])


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_two_file_formats_are_not_written(tmp_path, ending):
    geometry = read_geometry(_save(tmp_path / "a.mha", _volume()))
    with pytest.raises(DatasetError, match="is two files"):
        write_label(tmp_path / f"b{ending}", _volume(), geometry)


def test_nifti_is_read_without_importing_simple_itk(tmp_path):
    _save(tmp_path / "a.nii.gz", _volume())
    program = (
        "import sys; from pathlib import Path; from msseg.data.checks import check_case; "
        "from msseg.data.image import read_image; read_image([Path(sys.argv[1])]); "
        "sys.exit('SimpleITK' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.nii.gz")], check=False).returncode == 0
