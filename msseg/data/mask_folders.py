"""A folder of one mask per object, as one map of object numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.cases import case_name, list_images
from msseg.data.geometry import Geometry
from msseg.data.image import check_same_grid, read_label, smallest_integer_type
from msseg.data.problems import FileError


@dataclass(frozen=True)
class MergedMasks:
    """Object numbers (z, y, x), 1 for the first file by name, and what was met on the way.

    `overlap_pixels` were claimed by more than one mask and went to the first; `empty` are the masks without a pixel
    of their own.
    """

    label: np.ndarray
    geometry: Geometry
    overlap_pixels: int
    empty: tuple[Path, ...]


def mask_files(folder: Path) -> list[Path]:
    """The mask files of a folder, by name."""
    return list_images(Path(folder))


def merge_masks(folder: Path) -> MergedMasks:
    """The masks of a folder, each not 0 where its object is, as one map; numbers follow the names, without gaps.

    Raises FileError for a folder without masks, for two files of one name, and for masks that cannot be read or are not
    of one size.
    """
    files = mask_files(folder)
    _check_names(Path(folder), files)
    label, geometry, overlap_pixels = np.zeros(0, np.int32), None, 0
    empty: list[Path] = []
    count = 0
    for path in files:
        mask, grid = read_label(path)
        if geometry is None:
            geometry, label = grid, np.zeros(mask.shape, np.int32)
        check_same_grid(path, grid, files[0], geometry)
        claimed = mask != 0
        free = claimed & (label == 0)
        overlap_pixels += int(np.count_nonzero(claimed)) - int(np.count_nonzero(free))
        if free.any():
            count += 1
            label[free] = count
        else:
            empty.append(path)
    assert geometry is not None
    return MergedMasks(label.astype(smallest_integer_type(0, count)), geometry, overlap_pixels, tuple(empty))


def _check_names(folder: Path, files: list[Path]) -> None:
    if not files:
        raise FileError(
            folder,
            "a folder without masks",
            "one mask per object",
            "Put them there; for an image without objects one mask of nothing but 0.",
        )
    seen: dict[str, Path] = {}
    for path in files:
        first = seen.setdefault(case_name(path), path)
        if first is not path:
            raise FileError(path, f"the name of {first.name} again", "one file per object", "Keep one of the two.")
