"""One case to be converted: its files, and what they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from msseg.challenges.challenge import Pages
from msseg.data.dicom_files import dicom_files
from msseg.data.geometry import Geometry
from msseg.data.image import PICTURE_ENDINGS, check_same_grid, image_ending, read_image, read_label
from msseg.data.mask_folders import MergedMasks, mask_files, merge_masks
from msseg.data.problems import FileError, Problem

if TYPE_CHECKING:  # it reads sources
    from msseg.challenges.form import Form

Kind = Literal["uint8", "uint16", "float32"]

MOST_VALUES = 32
_VOXEL_FILES = (".raw", ".zraw")  # of a MetaImage header
_COLOURS = 3


@dataclass(frozen=True)
class Source:
    """The files of a case; an image may be a folder of DICOM files, `label` one of masks.

    With `pages`, a case of each page. `further` are files of one more channel each. `facts` are what a label is made of
    whose file holds other cases too; the file itself then counts for nothing in telling whether the case changed.
    """

    name: str
    image: Path
    label: Path | None = None
    is_test: bool = False
    pages: tuple[str, ...] = ()
    further: tuple[Path, ...] = ()
    facts: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The cases that it becomes."""
        return self.pages or (self.name,)

    @property
    def images(self) -> tuple[Path, ...]:
        """The files of its channels, or folders of DICOM files."""
        return (self.image, *self.further)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is read from, the masks of objects among them."""
        images = [file for image in self.images for file in _files_of(image)]
        if self.label is None or self.facts:
            return tuple(images)
        return (*images, *(mask_files(self.label) if self.label.is_dir() else [self.label]))

    @property
    def is_flat(self) -> bool:
        """Whether its image is a picture, which knows no place in a patient."""
        return image_ending(self.image) in PICTURE_ENDINGS


def read_source_image(source: Source) -> tuple[np.ndarray, Geometry]:
    """The image float32 (c, z, y, x); FileError for a picture that is neither grey nor of three colours."""
    if source.image.is_dir():
        return read_dicom_image(source)
    image, geometry = read_image(source.images)
    if source.is_flat and len(image) not in (1, _COLOURS):
        remedy = "Save its channels as pages, or as files of their own."
        raise FileError(source.image, f"{len(image)} channels", "one, or red, green and blue", remedy)
    return image, geometry


def read_source_label(source: Source, grid: Geometry) -> tuple[np.ndarray, list[Problem]]:
    """The label map (z, y, x) on that grid, and notes on masks that were left out or lie over each other."""
    assert source.label is not None
    if source.label.is_dir():
        merged = merge_masks(source.label)
        label, geometry, notes = merged.label, merged.geometry, _merging_notes(source, merged)
    else:
        label, geometry = read_label(source.label)
        notes = []
    if not source.is_flat:
        check_same_grid(source.label, geometry, source.image, grid)
    elif label.shape != grid.shape:
        found, expected = (_size(one) for one in (label.shape, grid.shape))
        remedy = "Pair it with its own image, or export it again."
        raise FileError(source.label, found, f"{expected} as its image has", remedy)
    return label, notes


ImageReader = Callable[[Source], tuple[np.ndarray, Geometry]]
LabelReader = Callable[[Source, Geometry], tuple[np.ndarray, list[Problem]]]
PageFinder = Callable[[Source, int, Geometry], int]


def same_number(_source: Source, page: int, _grid: Geometry) -> int:
    """The slice that the case of a page is: that of its number."""
    return page


@dataclass(frozen=True)
class Listing:
    """What a challenge's folder holds: sources, what is wrong with others, and the labels, {} where they are found.

    With a `form` nothing has to be looked at to decide on it. `read_image` and `read_label` are how the challenge's
    sources are read, `find_page` which slice a page is; `extras` are further entries of the dataset.json, such as
    `group_by`.
    """

    sources: tuple[Source, ...]
    problems: tuple[Problem, ...]
    labels: dict[str, int]
    instances: bool
    pages: Pages = "slices"
    form: Form | None = None
    read_image: ImageReader = read_source_image
    read_label: LabelReader = read_source_label
    find_page: PageFinder = same_number
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """What an image and its label hold, as far as it decides on the form of the data set.

    `kind` is the smallest type that holds the numbers; `values` are those of a semantic label, at most 33.
    """

    channels: int
    is_colour: bool
    slices: int
    kind: Kind
    has_spacing: bool
    values: tuple[int, ...] = ()


def look_at(source: Source, instances: bool, pages: Pages) -> Look:
    """What a source holds; FileError where it cannot be read, or its label does not fit its image."""
    image, geometry = read_source_image(source)
    values: tuple[int, ...] = ()
    if source.label is not None and not instances:
        label, _ = read_source_label(source, label_grid(geometry, pages))
        values = tuple(np.unique(label)[: MOST_VALUES + 1].tolist())
    is_colour = len(image) == _COLOURS and bool((image[0] != image[1]).any() or (image[0] != image[2]).any())
    return Look(len(image), is_colour, image.shape[1], number_kind(image), geometry.has_spacing, values)


def label_grid(image: Geometry, pages: Pages) -> Geometry:
    """The grid that the label of an image has."""
    return replace(image, shape=(1, *image.shape[1:])) if pages == "channels" else image


def number_kind(image: np.ndarray) -> Kind:
    """The smallest type that holds the numbers of an image without a loss."""
    planes = image.reshape(-1, *image.shape[-2:])  # so that no copy is ever of the whole image
    if image.min() < 0 or image.max() > np.iinfo(np.uint16).max or any((p != np.rint(p)).any() for p in planes):
        return "float32"
    return "uint8" if image.max() <= np.iinfo(np.uint8).max else "uint16"


def _files_of(image: Path) -> list[Path]:
    """The file, with that of its voxels where it is a header alone, or the files of a folder of DICOM files."""
    if image.is_dir():
        return dicom_files(image)
    voxels = [image.with_suffix(suffix) for suffix in _VOXEL_FILES] if image.suffix.lower() == ".mhd" else []
    return [image, *(path for path in voxels if path.is_file())]


def read_dicom_image(source: Source, ignore_ids: bool = False) -> tuple[np.ndarray, Geometry]:
    """The series of one folder a channel, float32 (c, z, y, x), all on one grid; errors as `read_series` has them."""
    from msseg.data.dicom import read_series

    first, *others = [read_series(folder, ignore_ids=ignore_ids) for folder in source.images]
    for folder, series in zip(source.further, others, strict=True):
        check_same_grid(folder, series.geometry, source.image, first.geometry)
    return np.concatenate([first.image, *(series.image for series in others)]), first.geometry


def _merging_notes(source: Source, merged: MergedMasks) -> list[Problem]:
    notes = [
        _note(source, path, "a mask without a pixel of its own", "an object", "Left out.") for path in merged.empty
    ]
    if merged.overlap_pixels:
        found = f"{merged.overlap_pixels} pixels in more than one mask"
        notes.append(_note(source, source.label, found, "every pixel in one", "Left to the first mask by name."))
    return notes


def _note(source: Source, path: Path | None, found: str, expected: str, remedy: str) -> Problem:
    return Problem(source.name, str(path), found, expected, remedy, "note")


def _size(shape: tuple[int, ...]) -> str:
    pages, height, width = shape
    return f"{width} x {height} pixels" + (f" on {pages} pages" if pages > 1 else "")
