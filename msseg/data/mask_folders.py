"""A folder of one mask per object, as one map of object numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.cases import case_name, list_images, split_channel
from msseg.data.found_layouts import IMAGES, MASKS
from msseg.data.geometry import Geometry
from msseg.data.image import check_same_grid, read_geometry, read_label, smallest_integer_type
from msseg.data.problems import FileError

_IMAGE_ROOMS = ("imagesTr", "imagesTs")


@dataclass(frozen=True)
class MergedMasks:
    """Object numbers (z, y, x), 1 for the first file by name, and what was met on the way.

    `overlap_pixels` were claimed by more than one mask and went to the first; `empty` are the masks without a pixel
    of their own. Without `masks` there was no file, and the grid is the image's.
    """

    label: np.ndarray
    geometry: Geometry
    overlap_pixels: int
    empty: tuple[Path, ...]
    masks: int


def mask_files(folder: Path) -> list[Path]:
    """The mask files of a folder, by name."""
    return list_images(Path(folder))


def merge_masks(folder: Path) -> MergedMasks:
    """The masks of a folder, each not 0 where its object is, as one map; numbers follow the names, without gaps.

    An empty folder is no object at all, on the grid of its image (see `_image_of`). Raises FileError where that image
    is not found or the folder holds other files alone, for two files of one name, and for masks that cannot be read or
    are not of one size.
    """
    files = mask_files(folder)
    if not files:
        return _no_masks(Path(folder))
    _check_names(files)
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
    return MergedMasks(
        label.astype(smallest_integer_type(0, count)), geometry, overlap_pixels, tuple(empty), len(files)
    )


def _no_masks(folder: Path) -> MergedMasks:
    image = None if any(path.name[0] != "." for path in folder.iterdir()) else _image_of(folder)
    if image is None:
        raise FileError(
            folder,
            "a folder without masks",
            "one mask per object",
            "Put them there; for an image without objects one mask of nothing but 0, or nothing beside the image.",
        )
    geometry = read_geometry(image)
    return MergedMasks(np.zeros(geometry.shape, np.uint8), geometry, 0, (), 0)


def _image_of(folder: Path) -> Path | None:
    """The image that a folder of masks belongs to, by its place, None where there is none.

    The only one of `images/` beside `masks/`, or the one of its name in the folder of images beside that of labels.
    """
    if folder.name == MASKS:
        found = list_images(folder.parent / IMAGES)
        if len(found) == 1:
            return found[0]
    rooms = (folder.parent.parent / name for name in (IMAGES, *_IMAGE_ROOMS))
    files = (path for room in rooms for path in list_images(room))
    return next((path for path in files if folder.name in (case_name(path), split_channel(case_name(path))[0])), None)


def _check_names(files: list[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in files:
        first = seen.setdefault(case_name(path), path)
        if first is not path:
            raise FileError(path, f"the name of {first.name} again", "one file per object", "Keep one of the two.")
