from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from msseg.data.geometry import Geometry
from msseg.data.image import read_geometry, read_image, read_label, shown_channels, write_image, write_label
from msseg.errors import DatasetError

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


@pytest.fixture
def save(tmp_path):
    def write(array, name="a.tif", **options):
        tifffile.imwrite(tmp_path / name, array, **options)
        return tmp_path / name

    return write


def _micrometres(geometry):
    return [round(1000 * mm, 6) for mm in geometry.spacing_mm] if geometry.has_spacing else None


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.float16, np.float32, np.float64]
)
def test_every_type_of_pixel_gives_its_values(save, dtype):
    path = save(GREY.astype(dtype))
    image, geometry = read_image([path])
    assert np.array_equal(image[0, 0], GREY)
    assert geometry == read_geometry(path) == Geometry((1, 3, 4), (1.0, 1.0, 1.0), has_spacing=False)


@pytest.mark.parametrize(
    "options",
    [{"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"bigtiff": True}, {"byteorder": ">"}],
)
def test_every_way_to_store_pixels_gives_the_same(save, options):
    values = GREY.astype(np.uint16) * 257
    assert np.array_equal(read_image([save(values, **options)])[0][0, 0], values)
    assert read_label(save(values, **options))[0].dtype == np.dtype("=u2")


@pytest.mark.parametrize("array", [GREY, COLOUR, COLOUR.astype(np.uint16) * 257])
def test_lzw_is_read(tmp_path, array):
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.tif"))
    writer.SetUseCompression(True)
    writer.SetCompressor("LZW")
    writer.Execute(SimpleITK.GetImageFromArray(array, isVector=array.ndim == 3))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].compression == 5
    image, _ = read_image([tmp_path / "a.tif"])
    assert np.array_equal(image[:, 0], np.moveaxis(array.reshape(3, 4, -1), -1, 0))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_are_channels_whether_stored_together_or_apart(save, planar):
    stored = COLOUR if planar == "contig" else np.moveaxis(COLOUR, -1, 0)
    path = save(stored, photometric="rgb", planarconfig=planar)
    assert np.array_equal(read_image([path])[0][:, 0], np.moveaxis(COLOUR, -1, 0))
    assert read_geometry(path).shape == (1, 3, 4)
    assert shown_channels(path) == 3


def test_pages_are_slices_and_channels_where_so_many_are_wanted(save):
    path = save(np.stack([GREY, GREY // 2]), photometric="minisblack")
    assert read_image([path])[0].shape == read_image([path], 1)[0].shape == (1, 2, 3, 4)
    image, geometry = read_image([path], 2)
    assert image.shape == (2, 1, 3, 4)
    assert geometry.shape == (1, 3, 4)
    assert np.array_equal(image[1, 0], GREY // 2)
    assert read_geometry(path).shape == (2, 3, 4)


def test_the_channels_and_slices_of_a_hyperstack_are_told_apart(save):
    stack = np.arange(4 * 2 * 3 * 5, dtype=np.uint16).reshape(4, 2, 3, 5)
    image, _ = read_image([save(stack, imagej=True, metadata={"axes": "ZCYX"})])
    assert np.array_equal(image, stack.swapaxes(0, 1))


def test_time_points_of_a_stack_are_refused(save):
    path = save(np.zeros((4, 2, 3, 5), np.uint16), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(DatasetError, match=r"a stack in 2 directions \(T, Z\)"):
        read_image([path])


def test_pages_of_several_sizes_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY)
        writer.write(np.zeros((5, 6), np.uint8))
    with pytest.raises(DatasetError, match=r"different kinds or sizes \(4 x 3, 6 x 5\)"):
        read_image([tmp_path / "a.tif"])


def test_opaque_alpha_is_dropped_and_other_alpha_refused(save):
    for alpha, is_taken in ((255, True), (100, False)):
        samples = np.concatenate([COLOUR, np.full((3, 4, 1), alpha, np.uint8)], axis=-1)
        path = save(samples, photometric="rgb", extrasamples=["unassalpha"])
        if is_taken:
            assert np.array_equal(read_image([path])[0][:, 0], np.moveaxis(COLOUR, -1, 0))
        else:
            with pytest.raises(DatasetError, match="not opaque in 12 of 12 pixels"):
                read_image([path])


def test_a_palette_is_colours_in_an_image_and_indices_in_a_label(save):
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 20] = [65535, 0, 7 << 8]
    path = save(GREY, photometric="palette", colormap=colours)
    assert read_image([path])[0][:, 0, 0, 1].tolist() == [255, 0, 7]
    assert np.array_equal(read_label(path)[0][0], GREY)


@pytest.mark.parametrize("options", [{}, {"compression": "group4"}, {"compression": "tiff_lzw"}])
def test_one_bit_is_a_label_where_light_is_1_and_no_image(tmp_path, options):
    Image.fromarray(GREY > 100).save(tmp_path / "a.tif", **options)
    label, _ = read_label(tmp_path / "a.tif")
    assert label.dtype == np.uint8
    assert np.array_equal(label[0], GREY > 100)
    with pytest.raises(DatasetError, match="1-bit pixels"):
        read_image([tmp_path / "a.tif"])


def _imagej(unit, **more):
    return {"imagej": True, "resolution": (2, 4), "metadata": {"unit": unit, **more}}


@pytest.mark.parametrize(
    ("options", "want_um"),
    [
        (_imagej("um"), [0.5, 0.25, 0.5]),
        (_imagej("micron"), [0.5, 0.25, 0.5]),
        (_imagej("\\u00B5m"), [0.5, 0.25, 0.5]),
        (_imagej("nm"), [0.0005, 0.00025, 0.0005]),
        (_imagej("pixel"), None),
        (_imagej("inch"), None),
        ({"resolution": (20_000, 40_000), "resolutionunit": "CENTIMETER"}, [0.5, 0.25, 0.5]),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (118.11, 118.11), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (28.3465, 28.3465), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (1, 1), "resolutionunit": "CENTIMETER"}, None),
        (
            {"ome": True, "metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}},
            [2.0, 0.25, 0.5],
        ),
        ({"ome": True, "metadata": {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm"}}, None),
    ],
)
def test_a_spacing_is_taken_from_tags_that_are_of_the_specimen(save, options, want_um):
    assert _micrometres(read_geometry(save(GREY, **options))) == want_um


def test_the_slices_of_imagej_have_their_distance(save):
    path = save(np.stack([GREY] * 2), **_imagej("um", spacing=3.0, axes="ZYX"))
    assert _micrometres(read_geometry(path)) == [3.0, 0.25, 0.5]


@pytest.mark.parametrize("keep", [3, 100, -5])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"bigtiff": True}])
def test_a_tiff_cut_off_anywhere_is_refused(save, keep, options):
    path = save(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8), **options)
    path.write_bytes(path.read_bytes()[:keep])
    for read in (read_label, lambda path: read_image([path])):
        with pytest.raises(DatasetError, match=r"a\.tif: .*expected"):
            read(path)


def test_a_bit_that_flipped_in_deflated_data_is_found(save):
    path = save(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8), compression="zlib")
    content = bytearray(path.read_bytes())
    content[-300] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged or cut off"):
        read_image([path])


def test_values_that_are_not_finite_are_refused(save):
    with pytest.raises(DatasetError, match="12 values that are not finite"):
        read_image([save(np.full((3, 4), np.nan, np.float32))])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_a_label_comes_back_with_its_spacing(tmp_path, dtype):
    geometry = Geometry((1, 3, 4), (0.0005, 0.00025, 0.0005))
    label = GREY.astype(dtype)[None]
    write_label(tmp_path / "a.tif", label, geometry)
    got, grid = read_label(tmp_path / "a.tif")
    assert got.dtype == dtype
    assert np.array_equal(got, label)
    assert grid.spacing_mm == pytest.approx(geometry.spacing_mm)


def test_a_label_without_spacing_gets_none(tmp_path):
    write_label(tmp_path / "a.tif", GREY[None], Geometry((1, 3, 4), (1.0, 1.0, 1.0), has_spacing=False))
    assert not read_geometry(tmp_path / "a.tif").has_spacing


def test_the_slices_of_a_label_come_back_with_their_distance(tmp_path):
    geometry = Geometry((2, 3, 4), (0.002, 0.00025, 0.0005))
    write_label(tmp_path / "a.tif", np.stack([GREY, GREY // 2]), geometry)
    label, grid = read_label(tmp_path / "a.tif")
    assert np.array_equal(label, [GREY, GREY // 2])
    assert grid.spacing_mm == pytest.approx(geometry.spacing_mm)


@pytest.mark.parametrize(
    ("channels", "slices", "dtype"), [(3, 1, np.uint8), (3, 2, np.uint16), (2, 1, np.float32), (3, 4, float)]
)
def test_channels_come_back(tmp_path, channels, slices, dtype):
    image = (np.random.default_rng(0).random((channels, slices, 3, 4)) * 200).astype(dtype)
    write_image(tmp_path / "a.tif", image, Geometry(image.shape[1:], (1.0, 1.0, 1.0), has_spacing=False))
    assert np.array_equal(read_image([tmp_path / "a.tif"])[0], image.astype(np.float32))


def test_an_image_with_a_spacing_takes_a_mask_without(tmp_path, save):
    tifffile.imwrite(tmp_path / "b.tif", GREY, **_imagej("um"))
    Image.fromarray(GREY).save(tmp_path / "c.png")
    image, geometry = read_image([tmp_path / "b.tif", tmp_path / "c.png"])
    assert len(image) == 2
    assert geometry.has_spacing
