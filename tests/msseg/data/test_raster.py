from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from msseg.data.geometry import Geometry
from msseg.data.image import read_geometry, read_image, read_label, shown_channels, write_image, write_label
from msseg.errors import DatasetError

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
OPAQUE = np.full((3, 4, 1), 255, np.uint8)


@pytest.fixture
def save(tmp_path):
    def write(array, name="a.png", **options):
        Image.fromarray(np.ascontiguousarray(array)).save(tmp_path / name, **options)
        return tmp_path / name

    return write


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_png_is_one_slice_without_a_spacing(save, dtype):
    image, geometry = read_image([save(GREY.astype(dtype) * (np.iinfo(dtype).max // 255))])
    assert image.shape == (1, 1, 3, 4)
    assert image.dtype == np.float32
    assert np.array_equal(image[0, 0], GREY * float(np.iinfo(dtype).max // 255))
    assert geometry == Geometry((1, 3, 4), (1.0, 1.0, 1.0), has_spacing=False)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_header_alone_gives_the_geometry(save, name):
    path = save(COLOUR, name)
    assert read_geometry(path) == read_image([path])[1]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "late.png"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 9])
def test_a_picture_that_is_to_be_shown_turned_is_refused(save, name, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    path = save(COLOUR, name, **({} if orientation is None else {"exif": exif}))
    if name == "late.png":  # the tags behind the pixels
        content = path.read_bytes()
        start, end = content.find(b"eXIf") - 4, content.find(b"IDAT") - 4
        if start > 0:
            path.write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    if orientation in (3, 6):
        with pytest.raises(DatasetError, match=rf"{name}: a picture to be shown turned by .*orientation {orientation}"):
            read_image([path])
    else:
        assert read_image([path])[0].shape == (3, 1, 3, 4)


def test_a_turn_is_seen_in_labels_deep_colours_and_xmp_and_not_in_damaged_tags(save, tmp_path):
    exif = Image.Exif()
    exif[274] = 8
    for name in ("a.png", "a.tif"):
        with pytest.raises(DatasetError, match="turned by a quarter to the left"):
            read_label(save(GREY, name, exif=exif))
    palette = Image.fromarray(GREY // 20).convert("P")
    palette.save(tmp_path / "palette.png", exif=exif)
    with pytest.raises(DatasetError, match="turned by a quarter to the left"):
        read_label(tmp_path / "palette.png")
    deep = SimpleITK.GetImageFromArray(COLOUR.astype(np.uint16) * 257, isVector=True)
    SimpleITK.WriteImage(deep, str(tmp_path / "deep.png"))
    content = (tmp_path / "deep.png").read_bytes()
    (tmp_path / "deep.png").write_bytes(content[:33] + _chunk(b"eXIf", exif.tobytes()[6:]) + content[33:])
    with pytest.raises(DatasetError, match="turned by a quarter to the left"):
        read_image([tmp_path / "deep.png"])
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="2"/></x:xmpmeta>'
    with pytest.raises(DatasetError, match="mirrored left to right"):
        read_image([save(GREY, "xmp.jpg", xmp=xmp)])
    assert read_image([save(GREY, "damaged.jpg", exif=b"Exif\0\0II*\0")])[0].shape == (1, 1, 3, 4)


def test_colours_are_three_channels_and_opaque_alpha_is_dropped(save):
    for array in (COLOUR, np.concatenate([COLOUR, OPAQUE], axis=-1)):
        image, _ = read_image([save(array)])
        assert image.flags.c_contiguous
        assert np.array_equal(image[:, 0], np.moveaxis(COLOUR, -1, 0))


def test_16_bit_colours_keep_all_their_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (3, 4, 3), dtype=np.uint16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values, isVector=True), str(tmp_path / "a.png"))
    image, _ = read_image([tmp_path / "a.png"])
    assert np.array_equal(image[:, 0], np.moveaxis(values, -1, 0))


@pytest.mark.parametrize(("bits", "row"), [(2, 0b00011011), (4, 0b00011110)])
def test_narrow_samples_come_as_they_are_stored(tmp_path, bits, row):
    (tmp_path / "a.png").write_bytes(_png(8 // bits, 1, bits, 0, bytes([0, row])))
    want = {2: [0, 1, 2, 3], 4: [1, 14]}[bits]
    assert read_image([tmp_path / "a.png"])[0].ravel().tolist() == want
    assert read_label(tmp_path / "a.png")[0].ravel().tolist() == want


def test_a_palette_is_colours_in_an_image_and_indices_in_a_label(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 7])
    picture.save(tmp_path / "a.png")
    assert read_image([tmp_path / "a.png"])[0][:, 0, 1, 0].tolist() == [0, 255, 7]
    assert read_label(tmp_path / "a.png")[0].tolist() == [[[0, 1], [2, 1]]]


def test_a_clear_background_of_a_palette_does_not_matter_to_a_label(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.save(tmp_path / "a.png", transparency=0)
    assert read_label(tmp_path / "a.png")[0].tolist() == [[[0, 1]]]
    with pytest.raises(DatasetError, match="alpha that is not opaque in 1 of 2 pixels"):
        read_image([tmp_path / "a.png"])


def test_alpha_that_is_not_opaque_is_refused(save):
    clear = OPAQUE.copy()
    clear[1, 2] = 17
    with pytest.raises(DatasetError, match=r"not opaque in 1 of 12 pixels \(lowest 17 of 255\).*Flatten"):
        read_image([save(np.concatenate([COLOUR, clear], axis=-1))])


def test_a_colour_that_is_declared_clear_is_refused_where_it_occurs(save):
    path = save(GREY, transparency=20)
    with pytest.raises(DatasetError, match="not opaque in 1 of 12 pixels"):
        read_image([path])
    assert np.array_equal(read_image([save(GREY, transparency=21)])[0][0, 0], GREY)


def test_one_bit_is_a_label_and_no_image(save):
    path = save(GREY > 100)
    label, _ = read_label(path)
    assert label.dtype == np.uint8
    assert np.array_equal(label[0], GREY > 100)
    with pytest.raises(DatasetError, match="1-bit pixels"):
        read_image([path])


def test_a_label_in_grey_may_be_stored_as_colour_and_real_colours_are_refused(save):
    assert np.array_equal(read_label(save(np.stack([GREY] * 3, axis=-1)))[0][0], GREY)
    with pytest.raises(DatasetError, match="a label in colours, such as 0, 160, 255 at pixel"):
        read_label(save(COLOUR))


def test_jpeg_is_read_as_an_image_and_refused_as_a_label(save):
    path = save(np.full((16, 16, 3), 77, np.uint8), "a.JPG")
    assert np.abs(read_image([path])[0] - 77).max() <= 2
    with pytest.raises(DatasetError, match="stored as JPEG"):
        read_label(path)


def test_grey_is_repeated_where_colours_are_wanted(save):
    image, _ = read_image([save(GREY)], 3)
    assert [np.array_equal(channel[0], GREY) for channel in image] == [True] * 3
    image[0] = 0  # the channels are not one memory
    assert image[1].any()


def test_equal_colours_are_grey_where_one_channel_is_wanted_and_others_refused(save):
    assert np.array_equal(read_image([save(np.stack([GREY] * 3, axis=-1))], 1)[0], GREY[None, None])
    with pytest.raises(DatasetError, match=r"a colour image .*expected a grey image, as there is one channel"):
        read_image([save(COLOUR)], 1)


def test_several_files_are_one_channel_each_and_may_store_grey_as_colour(save):
    paths = [save(GREY, "a_0000.png"), save(np.stack([GREY // 2] * 3, axis=-1), "a_0001.png")]
    assert np.array_equal(read_image(paths, 2)[0][:, 0], [GREY, GREY // 2])


def test_shown_channels_are_colours_only_where_there_are_some(save):
    assert [shown_channels(save(array)) for array in (GREY, np.stack([GREY] * 3, axis=-1), COLOUR)] == [1, 1, 3]


@pytest.mark.parametrize("keep", [5, 20, 40, -13, -4])
def test_a_png_cut_off_anywhere_is_refused(save, keep):
    path = save(GREY)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DatasetError, match=r"a\.png: .*(cut off|unknown kind).*expected"):
        read_image([path])


def test_a_bit_that_flipped_in_a_png_is_found(save):
    path = save(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged compressed data"):
        read_image([path])


def test_a_wrong_checksum_of_a_part_is_found(save):
    path = save(GREY)
    content = bytearray(path.read_bytes())
    content[content.index(b"IEND") - 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="checksum of its part 'IDAT' is wrong"):
        read_image([path])


def test_a_png_with_too_few_rows_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(_png(4, 3, 8, 0, bytes(5)))
    with pytest.raises(DatasetError, match="5 of 15 bytes of pixels"):
        read_image([tmp_path / "a.png"])


def test_a_damaged_stream_behind_a_right_checksum_is_refused(tmp_path):
    content = _png(4, 3, 8, 0, bytes(15))
    start = content.index(b"IDAT") + 4
    stream = bytearray(zlib.compress(bytes(15)))
    stream[4] ^= 255
    (tmp_path / "a.png").write_bytes(content[: start - 8] + _chunk(b"IDAT", bytes(stream)) + _chunk(b"IEND", b""))
    with pytest.raises(DatasetError, match="damaged compressed data"):
        read_image([tmp_path / "a.png"])


def test_interlaced_pixels_are_read(tmp_path):
    # Adam7 of 3 × 3: pixel (0, 0), then (2, 0), then (0, 2) and (2, 2), then (1, 0), then (1, 2), then the middle row.
    rows = [[0, 10], [0, 12], [0, 30, 32], [0, 11], [0, 31], [0, 20, 21, 22]]
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 3, 8, 0, 0, 0, 1))
    stream = zlib.compress(bytes(value for row in rows for value in row))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", stream) + _chunk(b"IEND", b""))
    assert read_image([tmp_path / "a.png"])[0].ravel().tolist() == [10, 11, 12, 20, 21, 22, 30, 31, 32]


def test_a_jpeg_cut_off_is_refused(save):
    path = save(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8), "a.jpg")
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DatasetError, match="damaged or cut off"):
        read_image([path])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x,y\n1,2\n", r"text \('x,y 1,2' ...\); expected PNG data"),
        (b"\xff\xd8\xff\xe0", "JPEG data; expected PNG data, as the name says. Name the file after its format"),
        (b"\0\1\2\3", "data of an unknown kind"),
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git LFS pointer"),
    ],
)
def test_a_file_that_is_no_png_is_refused_by_what_it_is(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_label, read_geometry, lambda path: read_image([path])):
        with pytest.raises(DatasetError, match=message):
            read(tmp_path / "a.png")


def test_a_header_that_claims_two_thousand_megapixels_is_refused_before_anything_is_inflated(tmp_path):
    (tmp_path / "a.png").write_bytes(_png(60_000, 60_000, 8, 2, bytes(100)))
    with pytest.raises(DatasetError, match="60000 x 60000 pixels, 3600 megapixels; expected fewer than 2147"):
        read_geometry(tmp_path / "a.png")


def test_more_pixels_than_pillow_warns_of_are_read_without_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(GREY).save(tmp_path / "a.jpg")
    assert [read_image([tmp_path / name])[0].shape for name in ("a.png", "a.jpg")] == [(1, 1, 3, 4)] * 2


@pytest.mark.parametrize(("highest", "want"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
def test_a_label_comes_back_from_a_png_in_the_narrowest_type(tmp_path, highest, want):
    label = np.zeros((1, 3, 4), np.int32)
    label[0, 1, 2] = highest
    write_label(tmp_path / "a.png", label, Geometry(label.shape, (1.0, 0.5, 0.5)))
    got, geometry = read_label(tmp_path / "a.png")
    assert got.dtype == want
    assert np.array_equal(got, label)
    assert not geometry.has_spacing


def test_colours_come_back_from_a_png(tmp_path):
    image = np.moveaxis(COLOUR, -1, 0)[:, None]
    write_image(tmp_path / "a.png", image, Geometry((1, 3, 4), (1.0, 1.0, 1.0)))
    assert np.array_equal(read_image([tmp_path / "a.png"])[0], image)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((1, 1, 3, 4), 65536, np.int32), "a PNG holds 0 to 65535"),
        (np.full((1, 1, 3, 4), -1, np.int16), "a PNG holds 0 to 65535"),
        (np.zeros((1, 2, 3, 4), np.uint8), "1 channels of 2 slices"),
        (np.zeros((2, 1, 3, 4), np.uint8), "2 channels of 1 slices"),
        (np.zeros((1, 1, 3, 4), np.float32), "values of type float32"),
    ],
)
def test_what_a_png_cannot_hold_is_not_written(tmp_path, array, message):
    with pytest.raises(DatasetError, match=message):
        write_image(tmp_path / "a.png", array, Geometry(array.shape[1:], (1.0, 1.0, 1.0)))
    assert list(tmp_path.iterdir()) == []


def test_jpeg_is_never_written(tmp_path):
    with pytest.raises(DatasetError, match=r"JPEG changes the values.*\.png"):
        write_label(tmp_path / "a.jpg", np.zeros((1, 3, 4), np.uint8), Geometry((1, 3, 4), (1.0, 1.0, 1.0)))
