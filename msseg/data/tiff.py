"""TIFF pictures and stacks, in and out, through tifffile, which is imported only when one is met."""

from __future__ import annotations

import logging
import lzma
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from msseg.data.colours import RGB, check_size, one_value, refuse_one_bit, without_alpha
from msseg.data.geometry import Geometry
from msseg.data.problems import FileError
from msseg.data.raw import RawImage, check_content
from msseg.data.tiff_spacing import spacing_of, spacing_tags
from msseg.data.turned import ORIENTATION, refuse_turned
from msseg.files import atomic_path

_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
)
_WHITE_IS_ZERO, _COLOUR, _PALETTE = 0, 2, 3
_READABLE = (_WHITE_IS_ZERO, 1, _COLOUR, _PALETTE, 6)
_UNSPECIFIED_SAMPLE = 0


def read_tiff(path: Path) -> RawImage:
    """The pixels of a TIFF as channels (c, z, y, x): colours, or the channels that its metadata name; pages are slices.

    8 to 64 bits, integers or reals; opaque alpha is dropped. FileError for 1-bit pixels, pages of different sizes,
    several time points of a stack, and what is damaged or cut off.
    """
    with _opened(path) as (file, series):
        page = series.keyframe
        if page.bitspersample == 1:
            raise refuse_one_bit(path)
        samples = _samples(path, series)
        if page.photometric == _PALETTE and page.colormap is not None:
            samples = _coloured(samples, page.colormap)
        return _picture(path, file, series, samples)


def read_tiff_label(path: Path) -> RawImage:
    """The numbers of a label; of a palette the indices, of 1 bit 0 (black) and 1; FileError where colours differ."""
    with _opened(path) as (file, series):
        if series.keyframe.bitspersample == 1:
            return _picture(path, file, series, _one_bit_samples(path, len(series.pages)))
        return one_value(path, _picture(path, file, series, _samples(path, series)))


def read_tiff_geometry(path: Path) -> Geometry:
    """The grid of a TIFF file; only its tags are read."""
    with _opened(path) as (file, series):
        slices = math.prod(size for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "SCYX")
        return _geometry(path, file, series, slices)


def tiff_channels(path: Path) -> int:
    """How many channels the file stores, by its tags; a palette's are its colours."""
    with _opened(path) as (_, series):
        if series.keyframe.photometric == _PALETTE:
            return len(RGB)
        sizes = dict(zip(series.axes, series.shape, strict=True))
        return sizes.get("S", 1) * sizes.get("C", 1)


def write_tiff(path: Path, array_czyx: np.ndarray, geometry: Geometry, is_label: bool) -> None:
    """Write channels (c, z, y, x), deflated, with the geometry's spacing where it has one.

    One slice, grey or of three 8- or 16-bit colours, is a plain TIFF; slices and other channels go by OME's metadata.
    """
    import tifffile

    channels, slices = array_czyx.shape[:2]
    is_colour = channels == len(RGB) and array_czyx.dtype in (np.uint8, np.uint16)
    options: dict[str, Any] = {"photometric": "rgb" if is_colour else "minisblack", "compression": "zlib"}
    pixels = np.moveaxis(array_czyx, 0, -1) if is_colour else array_czyx
    if slices == 1 and (is_colour or channels == 1):
        pixels, metadata = (pixels[0] if is_colour else pixels[0, 0]), {}
        options |= {"metadata": None, **spacing_tags(geometry)}
    else:
        metadata = {"axes": "ZYXS" if is_colour else "CZYX", **_physical_sizes(geometry)}
        options |= {"metadata": metadata, "ome": True}
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, np.ascontiguousarray(pixels), **options)


def _physical_sizes(geometry: Geometry) -> dict[str, Any]:
    if not geometry.has_spacing:
        return {}
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", geometry.spacing_mm, strict=True)}
    return {**sizes, **{f"PhysicalSize{axis}Unit": "mm" for axis in "ZYX"}}


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The file and its only series of pages of one size, of which the tags are read; any fault as FileError."""
    check_content(path, "TIFF")
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it logs, it raises too, or _check_series finds
    try:
        with tifffile.TiffFile(path) as file:
            series = _only_series(path, file)
            yield file, series
    except FileError:
        raise
    except _UNREADABLE as problem:
        text = " ".join(str(problem).split())
        raise FileError(path, f"damaged or cut off ({text})", "a complete image", "Copy or export it again.") from None


def _only_series(path: Path, file: Any) -> Any:
    found = file.series
    if not found:
        raise FileError(path, "no page", "a complete image", "Copy or export it again.")
    if len(found) > 1:
        sizes = ", ".join(" x ".join(map(str, series.shape[::-1])) for series in found[:3])
        raise FileError(
            path,
            f"pages of different kinds or sizes ({sizes})",
            "pages of one size",
            "Save them as files of their own.",
        )
    series = found[0]
    page = series.keyframe
    check_size(path, page.imagewidth, page.imagelength)
    refuse_turned(path, page.tags.valueof(ORIENTATION))
    if page.photometric not in _READABLE or series.dtype is None or series.dtype.kind == "c":
        kind = getattr(page.photometric, "name", page.photometric)
        raise FileError(path, f"{kind} pixels of {series.dtype}", "grey, RGB or palette", "Convert it to RGB.")
    return series


def _samples(path: Path, series: Any) -> np.ndarray:
    """The pixels as (t, c, z, y, x, s) of the series' axes."""
    try:
        pixels = series.asarray(maxworkers=1)
    except (ValueError, KeyError) as problem:
        if "imagecodecs" not in str(problem):
            raise
        pixels = _by_itk(path, series)
    return _ordered(path, series.axes, series.shape, pixels)


def _by_itk(path: Path, series: Any) -> np.ndarray:
    """Pixels of a compression that tifffile alone does not read (LZW and others): ITK brings libtiff's."""
    from msseg.data.itk import read_pixels

    pixels = read_pixels(path)
    if pixels.dtype != series.dtype or pixels.size != math.prod(series.shape):
        compression = getattr(series.keyframe.compression, "name", series.keyframe.compression)
        bits = series.keyframe.bitspersample
        raise FileError(
            path,
            f"pixels of {bits} bits compressed by {compression}",
            "a TIFF without compression, or deflated",
            "Save it again so.",
        )
    return pixels.reshape(series.shape)


def _ordered(path: Path, axes: str, shape: tuple[int, ...], pixels: np.ndarray) -> np.ndarray:
    """The pixels as (c, z, y, x, s): all axes of pages but the channels are slices, of which one may be long."""
    pages = [axis for axis in axes if axis not in "CYXS"]
    long = [axis for axis in pages if shape[axes.index(axis)] > 1]
    if len(long) > 1:
        raise FileError(
            path,
            f"a stack in {len(long)} directions ({', '.join(long)})",
            "slices in one direction",
            "Save every time point as a file of its own.",
        )
    order = [axes.index(axis) for axis in ("C", *pages, "Y", "X", "S") if axis in axes]
    sizes = dict(zip(axes, shape, strict=True))
    slices = math.prod(sizes[axis] for axis in pages)
    new_shape = (sizes.get("C", 1), slices, sizes["Y"], sizes["X"], sizes.get("S", 1))
    return pixels.transpose(order).reshape(new_shape)


def _coloured(indices: np.ndarray, colormap: np.ndarray) -> np.ndarray:
    """The colours (c, z, y, x, 3), 8 bits, of a palette's indices (c, z, y, x, 1)."""
    return (colormap >> 8).astype(np.uint8).T[indices[..., 0]]


def _one_bit_samples(path: Path, pages: int) -> np.ndarray:
    """0 (black) and 1 as (1, z, y, x, 1), through Pillow, which knows the compressions of 1-bit pages."""
    from PIL import Image, TiffImagePlugin

    slices = []
    with TiffImagePlugin.TiffImageFile(str(path)) as picture:
        for page in range(pages):
            picture.seek(page)
            if picture.mode != "1":
                raise FileError(path, f"1-bit pixels as {picture.mode}", "black and white", "Save it in 8 bits.")
            slices.append(np.asarray(Image.Image.copy(picture)).view(np.uint8) != 0)
    return np.stack(slices).view(np.uint8)[None, ..., None]


def _picture(path: Path, file: Any, series: Any, samples: np.ndarray) -> RawImage:
    """Channels (c, z, y, x) of samples (c, z, y, x, s); of several samples the last may be alpha."""
    if _has_alpha(series.keyframe):
        kind = samples.dtype.kind
        samples = without_alpha(path, samples, 1.0 if kind == "f" else np.iinfo(samples.dtype).max)
    if samples.shape[0] > 1 and samples.shape[-1] > 1:
        raise FileError(
            path, f"{samples.shape[0]} channels of {samples.shape[-1]} samples", "either", "Save grey channels."
        )
    stored = samples[..., 0] if samples.shape[-1] == 1 else np.moveaxis(samples[0], -1, 0)
    return RawImage(stored, 1.0, 0.0, _geometry(path, file, series, stored.shape[1]), is_picture=True)


def _has_alpha(page: Any) -> bool:
    """Whether the last sample is alpha: said so, or the fourth of a colour picture that says nothing."""
    extra = page.extrasamples
    if not extra:
        return False
    is_fourth = page.photometric == _COLOUR and page.samplesperpixel == len(RGB) + 1
    return extra[-1] != _UNSPECIFIED_SAMPLE or is_fourth


def _geometry(path: Path, file: Any, series: Any, slices: int) -> Geometry:
    page = series.keyframe
    spacing_mm = spacing_of(file, page)
    shape = (slices, page.imagelength, page.imagewidth)
    if spacing_mm is None:
        return Geometry(shape, (1.0, 1.0, 1.0), has_spacing=False)
    z_mm, y_mm, x_mm = spacing_mm
    return Geometry(shape, (z_mm or max(y_mm, x_mm), y_mm, x_mm))
