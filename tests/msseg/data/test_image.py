from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import (
    image_ending,
    output_ending,
    read_channels,
    read_image,
    read_label,
    smallest_integer_type,
    write_image,
    write_label,
)
from msseg.errors import DatasetError

GRID = Geometry(shape=(2, 3, 4), spacing_mm=(2.0, 1.0, 1.0))


def _save(path, values, geometry=GRID):
    write_image(path, np.asarray(values, np.float32).reshape(-1, *geometry.shape), geometry)
    return path


def test_several_files_are_channels_in_their_order(tmp_path):
    paths = [_save(tmp_path / f"a_{channel:04d}.nii.gz", np.full(24, channel)) for channel in range(3)]
    image, geometry = read_image(paths)
    assert image.shape == (3, 2, 3, 4)
    assert image[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert geometry.shape == (2, 3, 4)


def test_a_channel_of_another_shape_is_refused_with_both_shapes(tmp_path):
    first = _save(tmp_path / "a.nii", np.zeros(24))
    second = _save(tmp_path / "b.nii", np.zeros(60), dataclasses.replace(GRID, shape=(3, 4, 5)))
    with pytest.raises(DatasetError, match=r"b\.nii: shape 5 x 4 x 3 .* expected 4 x 3 x 2 as in a\.nii"):
        read_image([first, second])


def test_a_channel_on_another_grid_is_refused_with_the_distance_in_mm(tmp_path):
    first = _save(tmp_path / "a.nii", np.zeros(24))
    second = _save(tmp_path / "b.nii", np.zeros(24), dataclasses.replace(GRID, origin_mm=(0.0, 0.0, 1.5)))
    with pytest.raises(DatasetError, match=r"1\.5 mm away from that of a\.nii"):
        read_image([first, second])


def test_a_grid_half_a_micrometre_away_is_taken_and_measured(tmp_path):
    first = _save(tmp_path / "a.nii", np.zeros(24))
    second = _save(tmp_path / "b.nii", np.zeros(24), dataclasses.replace(GRID, origin_mm=(0.0, 0.0, 5e-4)))
    channels = read_channels([first, second])
    assert channels.errors == ()
    assert list(channels.distances_mm.values()) == [0.0, pytest.approx(5e-4)]


def test_every_files_error_is_collected(tmp_path):
    good = _save(tmp_path / "a.nii", np.zeros(24))
    (tmp_path / "empty.nii").touch()
    channels = read_channels([tmp_path / "missing.nii", good, tmp_path / "empty.nii"])
    assert channels.image is None
    assert channels.geometry is not None
    assert [error.found for error in channels.errors] == ["no such file", "an empty file (0 bytes)"]


def test_a_4d_file_among_several_files_is_refused(tmp_path):
    first = _save(tmp_path / "a.nii", np.zeros(24))
    second = _save(tmp_path / "b.nii", np.zeros(48))
    with pytest.raises(DatasetError, match="a 4-D file of 2 volumes"):
        read_image([first, second])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_the_first_is_placed(tmp_path, value):
    image = np.zeros((2, 3, 4))
    image[1, 2, 3] = image[1, 0, 2] = value
    with pytest.raises(DatasetError, match=rf"2 values .* first {value} at voxel \(2, 0, 1\)"):
        read_image([_save(tmp_path / "a.nii", image)])


def test_float64_values_beyond_float32_are_refused(tmp_path):
    write_image(tmp_path / "a.nii", np.full((1, 2, 3, 4), 1e300), GRID)
    with pytest.raises(DatasetError, match="24 values that are not finite in float32"):
        read_image([tmp_path / "a.nii"])


def test_a_label_of_reals_within_a_thousandth_of_integers_is_rounded(tmp_path):
    values = np.resize([0, 0.99999997, 2.0009, -0.0005], 24)
    label, _ = read_label(_save(tmp_path / "a.nii", values))
    assert label.dtype == np.uint8
    assert label.ravel()[:4].tolist() == [0, 1, 2, 0]


def test_a_label_with_values_between_integers_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"no integers, such as 0\.5"):
        read_label(_save(tmp_path / "a.nii", np.resize([0, 0.5], 24)))


def test_a_label_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="not finite"):
        read_label(_save(tmp_path / "a.nii", np.resize([0, np.nan], 24)))


def test_a_label_beyond_32_bits_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="label values from 0 to 1e\\+20"):
        read_label(_save(tmp_path / "a.nii", np.resize([0, 1e20], 24)))


def test_a_label_of_several_volumes_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="a 4-D file of 2 volumes"):
        read_label(_save(tmp_path / "a.nii", np.zeros(48)))


@pytest.mark.parametrize(
    ("dtype", "highest", "want"),
    [
        ("uint8", 255, "uint8"),
        ("int32", 7, "int32"),
        ("bool", 1, "uint8"),
        ("int64", 1, "uint8"),
        ("int64", 300, "int16"),
    ],
)
def test_label_types_that_viewers_read_are_written(tmp_path, dtype, highest, want):
    label = np.zeros(GRID.shape, dtype)
    label[0, 0, 0] = highest
    write_label(tmp_path / "a.nii.gz", label, GRID)
    got, _ = read_label(tmp_path / "a.nii.gz")
    assert got.dtype == want
    assert np.array_equal(got, label)


def test_a_label_of_another_shape_than_its_grid_is_not_written(tmp_path):
    with pytest.raises(DatasetError, match="on a grid of shape"):
        write_label(tmp_path / "a.nii.gz", np.zeros((4, 3, 2), np.uint8), GRID)


def test_a_label_of_reals_is_not_written(tmp_path):
    with pytest.raises(DatasetError, match="expected integers"):
        write_label(tmp_path / "a.nii.gz", np.zeros(GRID.shape), GRID)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    write_label(path, np.ones(GRID.shape, np.uint8), GRID)
    monkeypatch.setattr("msseg.data.nifti._compressed", lambda *_: iter([b"half", 1]))
    with pytest.raises(TypeError):
        write_label(path, np.zeros(GRID.shape, np.uint8), GRID)
    monkeypatch.undo()
    assert read_label(path)[0].all()
    assert [file.name for file in tmp_path.iterdir()] == ["a.nii.gz"]


def test_endings_are_told_apart_without_regard_to_case():
    assert image_ending("a.b.nii.gz") == ".nii.gz"
    assert image_ending(Path("A.NII")) == ".nii"
    assert image_ending("a.ome.TIFF") == ".ome.tiff"
    assert image_ending("a.bmp") is None
    assert output_ending(".mhd") == ".mha"
    assert output_ending(".nii.gz") == ".nii.gz"
    assert output_ending(".jpg") == ".png"
    assert output_ending(".tif") == ".tif"


def test_an_unknown_ending_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(DatasetError, match=r"ending \.bmp; expected \.nii\.gz"):
        read_image([tmp_path / "a.bmp"])


def test_no_files_are_no_image():
    with pytest.raises(DatasetError, match="at least one file"):
        read_image([])


def test_the_smallest_integer_type_holds_both_ends():
    assert smallest_integer_type(0, 255) is np.uint8
    assert smallest_integer_type(-1, 255) is np.int16
    assert smallest_integer_type(0, 70_000) is np.int32
    with pytest.raises(DatasetError, match="exceed"):
        smallest_integer_type(0, 1 << 70)
