"""PNG and JPEG pictures, in and out, through Pillow, which is imported only when one is met.

A picture is a volume of one slice without a spacing: dots per inch are a printer's word.
"""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import numpy as np

from msseg.data.colours import check_size, one_value, refuse_one_bit, without_alpha
from msseg.data.geometry import Geometry
from msseg.data.png_chunks import GREY, PALETTE, SAMPLES, PngHeader, check_png_whole, read_png_header
from msseg.data.problems import FileError
from msseg.data.raw import RawImage, check_content
from msseg.data.turned import ORIENTATION, refuse_turned
from msseg.errors import DatasetError
from msseg.files import atomic_path

_UNREADABLE = (OSError, ValueError, SyntaxError, RuntimeError, EOFError)
_COMPRESSION_LEVEL = 6
_EXIF = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # where Pillow looks for the tags


def read_png(path: Path) -> RawImage:
    """The pixels of a grey, colour or palette PNG of 8 or 16 bits; opaque alpha is dropped, else FileError.

    FileError too where EXIF says that it is to be turned. Samples of 2 and 4 bits come as they are stored, 0 to 3 and
    0 to 15.
    """
    header = read_png_header(path)
    if header.bits == 1 and header.colour == GREY:
        raise refuse_one_bit(path)
    return _picture(path, _png_samples(path, header))


def read_png_label(path: Path) -> RawImage:
    """The numbers of a label; of a palette the indices, of 1 bit 0 and 1; FileError where colours differ."""
    header = read_png_header(path)
    if header.colour == PALETTE:
        check_png_whole(path, header)
        return _picture(path, _indices(path))
    return one_value(path, _picture(path, _png_samples(path, header)))


def read_png_geometry(path: Path) -> Geometry:
    """The grid of a PNG file; only its header is read."""
    header = read_png_header(path)
    return flat_geometry(header.width, header.height)


def png_channels(path: Path) -> int:
    """How many channels the file stores, by its header: 1 for grey, 3 for colour and palettes."""
    return SAMPLES[read_png_header(path).colour]


def read_jpeg(path: Path) -> RawImage:
    """The pixels of a grey or colour JPEG; FileError where EXIF says that it is to be turned."""
    with _open_jpeg(path) as picture:
        _refuse_turned(path, picture)
        return _picture(path, _decoded(path, picture))


def read_jpeg_label(path: Path) -> RawImage:
    """Nothing: FileError, for JPEG changes the numbers of a label."""
    raise FileError(path, "a label stored as JPEG, which changes its values", "PNG or TIFF", "Export the label again.")


def read_jpeg_geometry(path: Path) -> Geometry:
    """The grid of a JPEG file; only its header is read."""
    with _open_jpeg(path) as picture:
        return flat_geometry(*picture.size)


def jpeg_channels(path: Path) -> int:
    """How many channels the file stores, by its header."""
    with _open_jpeg(path) as picture:
        return len(picture.getbands())


def write_png(path: Path, array_czyx: np.ndarray, geometry: Geometry, is_label: bool) -> None:
    """Write grey of 8 or 16 bits, or colour of 8 bits; integers of other types where their values fit.

    Nothing of `geometry` but the shape is kept. DatasetError for what a PNG cannot hold.
    """
    from PIL import Image

    channels, slices = array_czyx.shape[:2]
    if slices != 1 or channels not in (1, 3):
        raise DatasetError(
            f"{path}: {channels} channels of {slices} slices; a PNG holds one slice, grey or colour. Write .tif."
        )
    pixels = np.moveaxis(_narrowed(path, array_czyx[:, 0], wide=channels == 1), 0, -1)
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels))
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", compress_level=_COMPRESSION_LEVEL)


def write_jpeg(path: Path, array_czyx: np.ndarray, geometry: Geometry, is_label: bool) -> None:
    """Nothing: DatasetError, for JPEG would change the values."""
    raise DatasetError(f"{path}: JPEG changes the values that are written. Write .png or .tif.")


def flat_geometry(width: int, height: int) -> Geometry:
    """The grid of one slice of pixels whose size nobody knows."""
    return Geometry((1, height, width), (1.0, 1.0, 1.0), has_spacing=False)


def _picture(path: Path, samples: np.ndarray) -> RawImage:
    """The samples (y, x) or (y, x, c), of which a second or fourth is alpha."""
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.shape[-1] in (2, 4):
        samples = without_alpha(path, samples, np.iinfo(samples.dtype).max)
    height, width = samples.shape[:2]
    return RawImage(np.moveaxis(samples, -1, 0)[:, None], 1.0, 0.0, flat_geometry(width, height), is_picture=True)


def _png_samples(path: Path, header: PngHeader) -> np.ndarray:
    check_png_whole(path, header)
    with _open_png(path) as picture:
        if header.bits == 16 and header.colour != GREY:
            _refuse_turned(path, picture)
            return _deep_colours(path)
        samples = _decoded(path, picture)
        _refuse_turned(path, picture)
    if header.colour == GREY and header.bits in (2, 4):
        samples = samples // (255 // ((1 << header.bits) - 1))  # Pillow spreads them over 0 to 255
    return samples


def _deep_colours(path: Path) -> np.ndarray:
    """Colours of 16 bits, which Pillow would halve."""
    from msseg.data.itk import read_pixels

    return read_pixels(path)


def _indices(path: Path) -> np.ndarray:
    with _open_png(path) as picture:
        try:
            indices = np.asarray(picture)
        except _UNREADABLE as problem:
            raise _damaged(path, problem) from None
        _refuse_turned(path, picture)
    return indices


def _open_png(path: Path) -> Any:
    from PIL import PngImagePlugin

    return _opened(path, PngImagePlugin.PngImageFile)


def _open_jpeg(path: Path) -> Any:
    from PIL import JpegImagePlugin

    check_content(path, "JPEG")
    picture = _opened(path, JpegImagePlugin.JpegImageFile)
    check_size(path, *picture.size)
    if picture.mode not in ("L", "RGB"):
        raise FileError(path, f"{picture.mode} colours", "grey or RGB", "Convert it to RGB.")
    return picture


def _opened(path: Path, reader: Any) -> Any:
    """An image of which the header is read.

    Not by `Image.open`, whose limit on pixels is one of the whole process and a warning at first; ours has been held.
    """
    try:
        picture = reader(str(path))
    except _UNREADABLE as problem:
        raise _damaged(path, problem) from None
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        picture.close()
        raise FileError(path, f"an animation of {frames} pictures", "one picture", "Save each as a file of its own.")
    return picture


def _decoded(path: Path, picture: Any) -> np.ndarray:
    """The samples (y, x) or (y, x, c), with the alpha of a transparent colour."""
    clear = picture.info.get("transparency")
    try:
        if picture.mode == "P":
            picture = picture.convert("RGB" if clear is None else "RGBA")
            clear = None
        samples = np.asarray(picture)
    except _UNREADABLE as problem:
        raise _damaged(path, problem) from None
    if samples.dtype == bool:
        samples = (samples.view(np.uint8) != 0).view(np.uint8)  # Pillow's true is 255
    if clear is None:
        return samples
    return _with_alpha(samples, clear)


def _refuse_turned(path: Path, picture: Any) -> None:
    """FileError for a turn in EXIF; a PNG keeps it in front of its pixels, or shows it once they are decoded."""
    if not _EXIF & set(picture.info):
        return
    orientation = None
    with contextlib.suppress(*_UNREADABLE, struct.error):  # damaged tags say nothing
        orientation = picture.getexif().get(ORIENTATION)
    refuse_turned(path, orientation)


def _with_alpha(samples: np.ndarray, clear: Any) -> np.ndarray:
    """The samples with an alpha of 0 in the pixels of the colour that the file declares transparent."""
    if samples.ndim == 2:
        samples = samples[..., None]
    alpha = np.full((*samples.shape[:2], 1), np.iinfo(samples.dtype).max, samples.dtype)
    alpha[(samples == np.asarray(clear)).all(axis=-1)] = 0
    return np.concatenate([samples, alpha], axis=-1)


def _narrowed(path: Path, values: np.ndarray, wide: bool) -> np.ndarray:
    """The integers as uint8, or uint16 where `wide` allows and they need it."""
    if values.dtype in (np.uint8, np.uint16) and (wide or values.dtype == np.uint8):
        return values
    if values.dtype.kind not in "ui":
        raise DatasetError(f"{path}: values of type {values.dtype}; a PNG holds integers. Write .tif.")
    lowest, highest = int(values.min()), int(values.max())
    most = 65535 if wide else 255
    if lowest < 0 or highest > most:
        raise DatasetError(f"{path}: values from {lowest} to {highest}; a PNG holds 0 to {most}. Write .tif.")
    return values.astype(np.uint8 if highest <= 255 else np.uint16)


def _damaged(path: Path, problem: Exception) -> FileError:
    return FileError(path, f"damaged or cut off ({problem})", "a complete image", "Copy or export it again.")
