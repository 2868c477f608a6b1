"""Pixels of several samples: opaque alpha dropped, grey that is stored as colour taken as grey."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from msseg.data.geometry import Geometry
from msseg.data.problems import FileError
from msseg.data.raw import RawImage

RGB = ("red", "green", "blue")
MOST_PIXELS = 1 << 31


def check_size(path: Path, width: int, height: int) -> None:
    """FileError for a picture of 2^31 pixels or more.

    One channel of them is 8 GiB of float32 and their numbers no longer fit 32 bits, which the search for components
    counts with; a damaged or malicious header claims more within a few bytes.
    """
    if not (width > 0 and height > 0):
        raise FileError(path, f"{width} x {height} pixels", "a picture", "Export it again.")
    if width * height >= MOST_PIXELS:
        raise FileError(
            path,
            f"{width} x {height} pixels, {width * height / 1e6:.0f} megapixels",
            f"fewer than {MOST_PIXELS / 1e6:.0f} megapixels",
            "Cut it into tiles, or check the file if it is not meant to be that large.",
        )


def refuse_one_bit(path: Path) -> FileError:
    """The error for an image of 1-bit pixels, which a mask may be and an image not."""
    return FileError(
        path,
        "1-bit pixels (black and white)",
        "an image of 8 bits or more",
        "If it is a mask, put it among the labels; else export the image in grey or colour.",
    )


def without_alpha(path: Path, samples: np.ndarray, opaque: float) -> np.ndarray:
    """The samples (y, x, c) or (z, y, x, c) without the last one, which is `opaque` in every pixel; else FileError."""
    alpha = samples[..., -1]
    lowest = alpha.min()
    if lowest != opaque:
        clear = int(np.count_nonzero(alpha != opaque))
        raise FileError(
            path,
            f"alpha that is not opaque in {clear} of {alpha.size} pixels (lowest {lowest:g} of {opaque:g})",
            "an opaque image",
            "Flatten it onto a background colour, or save it without alpha.",
        )
    return samples[..., :-1]


def is_grey(stored_czyx: np.ndarray) -> bool:
    """Whether all channels are equal in every pixel."""
    return all(np.array_equal(stored_czyx[0], other) for other in stored_czyx[1:])


def one_value(path: Path, raw: RawImage) -> RawImage:
    """The picture of a label with one number per pixel; FileError where its colours differ."""
    if len(raw.stored) == 1:
        return raw
    if is_grey(raw.stored):
        return _with_stored(raw, raw.stored[:1].copy())
    raise FileError(
        path,
        f"a label in colours, such as {_first_colour(raw.stored)}",
        "one number per pixel",
        "Save class numbers in grey, or as a palette image.",
    )


def fitted(path: Path, raw: RawImage, channels: int | None) -> RawImage:
    """The picture with as many channels as are wanted, where there is one meaning to that; else as it is.

    One wanted: equal colours are one grey channel; FileError for a real colour. Several wanted: the pages of a grey
    picture of so many pages; grey repeated where three are wanted.
    """
    stored = raw.stored
    if not raw.is_picture or channels is None or len(stored) == channels:
        return raw
    pages = stored.shape[1]
    if channels == 1 and len(stored) == len(RGB):
        if not is_grey(stored):
            raise _is_colour(path, stored)
        return _with_stored(raw, stored[:1].copy())
    if len(stored) == 1 and pages == channels:
        return _with_stored(raw, stored.swapaxes(0, 1))
    if len(stored) == 1 and channels == len(RGB):
        return _with_stored(raw, np.broadcast_to(stored, (channels, *stored.shape[1:])))
    return raw


def _with_stored(raw: RawImage, stored: np.ndarray) -> RawImage:
    grid = raw.geometry
    geometry = Geometry(
        (stored.shape[1], *grid.shape[1:]),
        grid.spacing_mm,
        grid.origin_mm,
        grid.direction,
        has_spacing=grid.has_spacing,
    )
    return RawImage(stored, raw.slope, raw.intercept, geometry, is_picture=True)


def _is_colour(path: Path, stored: np.ndarray) -> FileError:
    return FileError(
        path,
        f"a colour image ({_first_colour(stored)})",
        "a grey image, as there is one channel",
        "Convert it to grey, or declare the channels red, green, blue and train on colour.",
    )


def _first_colour(stored_czyx: np.ndarray) -> str:
    """The first pixel whose samples differ, in words."""
    differs = np.zeros(stored_czyx.shape[1:], bool)
    for other in stored_czyx[1:]:
        differs |= other != stored_czyx[0]
    z, y, x = np.unravel_index(int(differs.argmax()), differs.shape)
    values = ", ".join(f"{value:g}" for value in stored_czyx[:, z, y, x].tolist())
    return f"{values} at pixel ({x}, {y})"
