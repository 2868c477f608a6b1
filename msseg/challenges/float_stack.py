"""Multi-page TIFF of 32-bit floats between 0 and 1: written, and checked page by page."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msseg.challenges.challenge import Fault

_WRITE_AGAIN = "Write the file again with msseg_submit."


def write_float_stack(path: Path, pages: Iterable[np.ndarray]) -> int:
    """Write pages (y, x) as float32, one after the other, uncompressed; how many there were."""
    import tifffile

    count = 0
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page.astype(np.float32), photometric="minisblack", metadata=None, contiguous=False)
            count += 1
    return count


def check_float_stack(path: Path, shapes_yx: Sequence[tuple[int, int]]) -> list[Fault]:
    """Every fault of the file, pages counted from 1, against the expected shape (y, x) of each page.

    Found are: a file that is no TIFF or ends too early, another number of pages, pages of another size or type, values
    that are no numbers or lie outside 0 to 1.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return _count_faults(path, len(file.pages), len(shapes_yx)) + [
                fault
                for number, (page, shape) in enumerate(zip(file.pages, shapes_yx, strict=False), start=1)
                for fault in _page_faults(path, number, page, shape)
            ]
    except (tifffile.TiffFileError, ValueError, OSError, struct.error) as error:
        return [Fault(path, None, f"no readable TIFF ({error})", "a multi-page TIFF", _WRITE_AGAIN)]


def _count_faults(path: Path, found: int, expected: int) -> list[Fault]:
    if found == expected:
        return []
    pages = f"{found} page" + ("s" if found != 1 else "")
    return [Fault(path, None, pages, f"{expected}, one an image", "Write a page for every image.")]


def _page_faults(path: Path, number: int, page: Any, shape_yx: tuple[int, int]) -> list[Fault]:
    def fault(found: str, expected: str, remedy: str) -> list[Fault]:
        return [Fault(path, number, found, expected, remedy, "page")]

    if page.dtype != np.float32:
        return fault(f"values of type {page.dtype}", "float32", _WRITE_AGAIN)
    if page.shape != shape_yx:
        return fault(_size(page.shape), _size(shape_yx), "Keep the size and order of the images.")
    try:
        values = page.asarray()
    except (ValueError, OSError, struct.error, zlib.error) as error:
        return fault(f"pixels that cannot be read ({error})", "a whole page", _WRITE_AGAIN)
    not_numbers = int(np.isnan(values).sum())
    if not_numbers:
        return fault(f"{not_numbers} values that are no numbers (NaN)", "0 to 1", "Replace them.")
    lowest, highest = float(values.min()), float(values.max())
    if lowest < 0 or highest > 1:
        return fault(f"values from {lowest:.6g} to {highest:.6g}", "0 to 1", "Divide by the largest possible value.")
    return []


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[::-1])) + " pixels"
