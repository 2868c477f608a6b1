"""NIfTI files against nibabel (an independent reader of the voxels) and SimpleITK (of the space)."""

from __future__ import annotations

import gzip
import itertools

import nibabel
import numpy as np
import pytest

from msseg.data.image import read_geometry, read_image, read_label, write_image, write_label
from msseg.errors import DatasetError

AXIS_ORDERS = list(itertools.permutations(range(3)))
SIGNS = list(itertools.product((1, -1), repeat=3))
ORIENTATIONS = list(itertools.product(AXIS_ORDERS, SIGNS))


def _affine(order, signs):
    """RAS affine whose array axis i runs along patient axis order[i], forwards or backwards."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * (0.5, 0.75, 2.5)[axis]
    affine[:3, 3] = (-30.5, 12.25, 101.0)
    return affine


def _oblique_affine():
    turn = nibabel.eulerangles.euler2mat(0.3, -0.2, 0.5)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag((0.8, 0.9, 3.0))
    affine[:3, 3] = (11.1, -22.2, 33.3)
    return affine


def _sheared_affine():
    affine = _oblique_affine()
    affine[:3, 2] += 0.7 * affine[:3, 1]
    return affine


def _save(path, array_xyz, affine=None, **fields):
    image = nibabel.Nifti1Image(array_xyz, _oblique_affine() if affine is None else affine)
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def _volume(dtype=np.int16, shape=(5, 6, 7)):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_all_48_axis_orientations_come_back_bit_for_bit(tmp_path, order, signs):
    source = _save(tmp_path / "source.nii.gz", _volume(), _affine(order, signs))
    _, geometry = read_image([source])
    label = np.arange(210, dtype=np.uint8).reshape(geometry.shape)
    write_label(tmp_path / "label.nii.gz", label, geometry)
    want, got = nibabel.load(source), nibabel.load(tmp_path / "label.nii.gz")
    assert np.array_equal(got.affine, want.affine)
    assert np.array_equal(np.asarray(got.dataobj).T, label)
    assert read_label(tmp_path / "label.nii.gz")[1] == geometry


@pytest.mark.parametrize("affine", [_affine((2, 0, 1), (1, -1, 1)), _oblique_affine(), _sheared_affine()])
def test_voxel_positions_are_the_affines(tmp_path, affine):
    geometry = read_geometry(_save(tmp_path / "a.nii", _volume(), affine))
    for x, y, z in [(0, 0, 0), (4, 0, 0), (0, 5, 0), (1, 2, 6)]:
        right, front, up = (affine @ (x, y, z, 1))[:3]
        assert geometry.positions_mm(np.array([[z, y, x]]))[0] == pytest.approx((-right, -front, up), abs=1e-4)


@pytest.mark.parametrize(("order", "signs"), [ORIENTATIONS[0], ORIENTATIONS[13], ORIENTATIONS[46]])
def test_simple_itk_sees_the_same_voxel_at_the_same_place(tmp_path, order, signs):
    sitk = pytest.importorskip("SimpleITK")
    path = _save(tmp_path / "a.nii.gz", _volume(), _affine(order, signs))
    image, geometry = read_image([path])
    other = sitk.ReadImage(str(path))
    for x, y, z in [(0, 0, 0), (4, 5, 6), (2, 1, 3)]:
        position = geometry.positions_mm(np.array([[z, y, x]]))[0]
        assert position == pytest.approx(other.TransformIndexToPhysicalPoint((x, y, z)), abs=1e-4)
        assert image[0, z, y, x] == other[x, y, z]


@pytest.mark.parametrize("fields", [{"qform_code": 1, "sform_code": 0}, {"qform_code": 0, "sform_code": 4}])
@pytest.mark.parametrize("units", [0, 2, 10])
def test_codes_and_units_come_back(tmp_path, fields, units):
    source = _save(tmp_path / "source.nii", _volume(), xyzt_units=units, **fields)
    write_label(tmp_path / "out.nii", np.zeros((7, 6, 5), np.uint8), read_geometry(source))
    want, got = nibabel.load(source).header, nibabel.load(tmp_path / "out.nii").header
    for name in ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "xyzt_units"):
        assert np.array_equal(got[name], want[name]), name
    for name in ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):
        assert np.array_equal(got[name], want[name]), name


def test_micrometres_are_turned_into_mm_and_written_back_as_they_were(tmp_path):
    source = _save(tmp_path / "source.nii", _volume(), np.diag((4.0, 4.0, 50.0, 1.0)), xyzt_units=3)
    geometry = read_geometry(source)
    assert geometry.spacing_mm == pytest.approx((0.05, 0.004, 0.004))
    write_label(tmp_path / "out.nii", np.zeros((7, 6, 5), np.uint8), geometry)
    assert np.array_equal(nibabel.load(tmp_path / "out.nii").affine, nibabel.load(source).affine)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "float32", "float64", ">i2", ">f4"])
def test_every_voxel_type_gives_nibabels_values(tmp_path, dtype):
    source = tmp_path / "a.nii.gz"
    header = nibabel.Nifti1Header(endianness=">") if dtype.startswith(">") else None
    image = nibabel.Nifti1Image(_volume(np.dtype(dtype).newbyteorder("=")), np.eye(4), header)
    image.set_data_dtype(np.dtype(dtype))
    nibabel.save(image, source)
    values, _ = read_image([source])
    assert values.dtype == np.float32
    assert values.flags.writeable
    assert np.array_equal(values[0], nibabel.load(source).get_fdata().T)


def test_slope_and_intercept_are_honoured(tmp_path):
    source = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(_volume(), np.eye(4))
    image.header.set_slope_inter(2.5, -7)
    nibabel.save(image, source)
    raw = bytearray(source.read_bytes())
    assert np.frombuffer(raw, "<f4", 2, 112).tolist() == [2.5, -7]
    want = nibabel.load(source).get_fdata().T
    assert np.allclose(read_image([source])[0][0], want)


def test_the_volumes_of_a_4d_file_are_channels(tmp_path):
    source = _save(tmp_path / "a.nii.gz", _volume(shape=(5, 6, 7, 3)))
    image, geometry = read_image([source])
    assert image.shape == (3, 7, 6, 5)
    assert geometry.shape == (7, 6, 5)
    assert np.array_equal(image, nibabel.load(source).get_fdata().T)


def test_a_fourth_axis_of_one_volume_is_dropped(tmp_path):
    source = _save(tmp_path / "a.nii.gz", _volume(np.uint8, shape=(5, 6, 7, 1)))
    assert read_image([source])[0].shape == (1, 7, 6, 5)
    assert read_label(source)[0].shape == (7, 6, 5)


def test_nifti_2_is_read_and_written_as_nifti_2(tmp_path):
    nibabel.save(nibabel.Nifti2Image(_volume(), _oblique_affine()), tmp_path / "a.nii.gz")
    image, geometry = read_image([tmp_path / "a.nii.gz"])
    write_image(tmp_path / "b.nii.gz", image, geometry)
    got = nibabel.load(tmp_path / "b.nii.gz")
    assert isinstance(got, nibabel.Nifti2Image)
    assert np.array_equal(got.affine, nibabel.load(tmp_path / "a.nii.gz").affine)


def test_channels_are_written_as_one_4d_file(tmp_path):
    image = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    source = _save(tmp_path / "a.nii", np.zeros((5, 4, 3), np.int16))
    write_image(tmp_path / "b.nii.gz", image, read_geometry(source))
    assert np.array_equal(nibabel.load(tmp_path / "b.nii.gz").get_fdata().T, image)


def test_equal_labels_make_equal_files(tmp_path):
    geometry = read_geometry(_save(tmp_path / "a.nii", _volume()))
    for name in ("b.nii.gz", "c.nii.gz"):
        write_label(tmp_path / name, np.ones((7, 6, 5), np.uint8), geometry)
    assert (tmp_path / "b.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()


def _header_field(offset, dtype, values):
    def damage(data):
        data[offset : offset + np.dtype(dtype).itemsize * len(values)] = np.array(values, dtype).tobytes()
        return data

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:200], "within the header"),
        (lambda data: data[:-5], "ends after 415 of 420 bytes"),
        (lambda data: bytearray(500), "no NIfTI header"),
        (_header_field(344, "S4", [b"ni1"]), "hdr/.img pair"),
        (_header_field(344, "S4", [b""]), "Analyze"),
        (_header_field(80, "<f4", [1, 0, 1]), "voxel sizes"),
        (_header_field(80, "<f4", [np.nan, 1, 1]), "voxel sizes"),
        (_header_field(280, "<f4", [0] * 12), "spans no volume"),
        (_header_field(280, "<f4", [np.inf] * 12), "spans no volume"),
        (_header_field(70, "<i2", [128]), "RGB colour voxels"),
        (_header_field(70, "<i2", [32]), "complex voxels"),
        (_header_field(70, "<i2", [999]), "unknown voxels"),
        (_header_field(40, "<i2", [2, 5, 42]), "2 dimensions"),
        (_header_field(40, "<i2", [3, 5, -6, 7]), "3 dimensions (5 x -6 x 7)"),
        (_header_field(40, "<i2", [3, 32000, 32000, 32000]), "too few"),
        (_header_field(108, "<f4", [np.nan]), "offset nan"),
        (_header_field(108, "<f4", [1e9]), "within the header"),
        (_header_field(112, "<f4", [2.0, np.nan]), "scl_inter"),
    ],
)
def test_a_file_that_is_no_plain_volume_is_refused_with_the_reason(tmp_path, damage, message):
    path = _save(tmp_path / "a.nii", _volume())
    path.write_bytes(damage(bytearray(path.read_bytes())))
    with pytest.raises(DatasetError) as caught:
        read_image([path])
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "; expected " in str(caught.value)


@pytest.mark.parametrize("keep", [30, 400, -1])
def test_compressed_data_cut_off_anywhere_are_refused(tmp_path, keep):
    path = _save(tmp_path / "a.nii.gz", _volume())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DatasetError, match="damaged or cut off"):
        read_image([path])


def test_a_bit_that_flipped_in_compressed_data_is_found(tmp_path):
    path = tmp_path / "a.nii.gz"
    _save(tmp_path / "a.nii", _volume())
    data = bytearray(gzip.compress((tmp_path / "a.nii").read_bytes(), 0))  # stored: every byte still decodes
    data[450] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="damaged or cut off"):
        read_image([path])


def test_an_uncompressed_file_named_gz_is_refused_with_advice(tmp_path):
    _save(tmp_path / "a.nii", _volume()).rename(tmp_path / "a.nii.gz")
    with pytest.raises(DatasetError, match=r"name it \.nii"):
        read_image([tmp_path / "a.nii.gz"])


def test_a_compressed_file_named_nii_is_read(tmp_path):
    _save(tmp_path / "a.nii.gz", np.zeros((20, 20, 20), np.uint8)).rename(tmp_path / "a.nii")
    assert read_image([tmp_path / "a.nii"])[0].shape == (1, 20, 20, 20)


def test_a_5d_file_is_refused_with_its_shape(tmp_path):
    path = _save(tmp_path / "a.nii", np.zeros((3, 4, 5, 1, 2), np.float32))
    with pytest.raises(DatasetError, match=r"5 dimensions \(3 x 4 x 5 x 1 x 2\)"):
        read_image([path])
