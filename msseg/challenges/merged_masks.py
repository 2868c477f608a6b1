"""One mask an object, each in a file of its own, as one map of object numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.image import read_label
from msseg.data.problems import FileError

_COPY_AGAIN = "Copy or unpack the masks again."


@dataclass(frozen=True)
class MergedMasks:
    """Object numbers (z, y, x) int32 from 1 in the order of the files, and what was met on the way.

    `overlap_px` pixels lay in more than one mask; the first kept them. `empty` masks have no pixel, `hidden` ones none
    that an earlier mask does not have; neither is an object.
    """

    ids: np.ndarray
    overlap_px: int
    empty: tuple[Path, ...]
    hidden: tuple[Path, ...]


def merge_masks(folder: Path, paths: Sequence[Path], shape: tuple[int, int, int]) -> MergedMasks:
    """The masks of an image of shape (z, y, x); every value but 0 is the object.

    Raises FileError where there is no mask, or one that cannot be read or is of another size.
    """
    if not paths:
        raise FileError(folder, "no masks", "one for every object", _COPY_AGAIN)
    ids = np.zeros(shape, np.int32)
    overlap_px, objects = 0, 0
    empty: list[Path] = []
    hidden: list[Path] = []
    for path in paths:
        is_object = _mask(path, shape)
        is_free = is_object & (ids == 0)
        overlap_px += int(is_object.sum() - is_free.sum())
        if not is_free.any():
            (hidden if is_object.any() else empty).append(path)
            continue
        objects += 1
        ids[is_free] = objects
    return MergedMasks(ids, overlap_px, tuple(empty), tuple(hidden))


def _mask(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    label, _ = read_label(path)
    if label.shape != shape:
        found, expected = (" x ".join(map(str, one[:0:-1])) for one in (label.shape, shape))
        raise FileError(path, f"{found} pixels", f"{expected} as the image has", _COPY_AGAIN)
    return label != 0
