"""A source brought into the form of its data set, and written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msseg.challenges.form import Form
from msseg.challenges.source import (
    ImageReader,
    LabelReader,
    PageFinder,
    Source,
    label_grid,
    number_kind,
    read_source_image,
    read_source_label,
    same_number,
)
from msseg.data.geometry import Geometry
from msseg.data.image import PICTURE_ENDINGS, image_ending, write_image, write_label
from msseg.data.png_chunks import COLOUR, GREY, read_png_header
from msseg.data.problems import FileError, Problem
from msseg.files import atomic_path

_MOST_OBJECTS_IN_PNG = 65535
# Bits and colour type of pictures that are grey, or red, green and blue, and nothing else.
_PLAIN_PNG = {1: ((8, GREY), (16, GREY)), 3: ((8, COLOUR),)}


@dataclass(frozen=True)
class CaseWriter:
    """Writes sources into a data set folder; what it returns are notes."""

    destination: Path
    form: Form
    read_image: ImageReader = read_source_image
    read_label: LabelReader = read_source_label
    find_page: PageFinder = same_number

    def __call__(self, source: Source) -> list[Problem]:
        """Write the images and labels of one source, each file whole or not at all.

        Everything is read before the first file is written. Raises FileError for what cannot be taken.
        """
        image, geometry = self.read_image(source)
        self._check_channels(source, image)
        label, notes = self._label(source, geometry) if source.label is not None else (None, [])
        for name, files, page in self._pages(source, image, geometry):
            grid = _grid_of(geometry, files[0].shape[1:], page)
            for number, (path, channels) in enumerate(zip(self.image_paths(name, source.is_test), files, strict=True)):
                plain = None if page is not None else self._plain(source, number, len(channels), len(files))
                if plain is not None:
                    _copy(plain, path)
                else:
                    write_image(path, channels.astype(self._kind(channels)), grid)
            if label is not None:
                write_label(self.label_path(name, source.is_test), label if page is None else label[page], grid)
        return notes

    def image_paths(self, name: str, is_test: bool) -> list[Path]:
        """Where the images of a case go."""
        folder = self.destination / ("imagesTs" if is_test else "imagesTr")
        files = 1 if self.form.is_packed else len(self.form.channels)
        return [folder / f"{name}_{number:04d}{self.form.ending}" for number in range(files)]

    def label_path(self, name: str, is_test: bool) -> Path:
        """Where the label of a case goes."""
        return self.destination / ("labelsTs" if is_test else "labelsTr") / f"{name}{self.form.ending}"

    def outputs(self, source: Source) -> list[Path]:
        """Every file that a source becomes."""
        images = [path for name in source.names for path in self.image_paths(name, source.is_test)]
        labels = [self.label_path(name, source.is_test) for name in source.names if source.label is not None]
        return images + labels

    def _pages(
        self, source: Source, image: np.ndarray, geometry: Geometry
    ) -> Iterator[tuple[str, list[np.ndarray], slice | None]]:
        """The name of every case, its files (c, z, y, x), and the slice of the source that it is, None for all."""
        if self.form.is_packed:
            image = _with_colours(image, len(self.form.channels))
        elif self.form.pages == "channels":
            image = image.swapaxes(0, 1)
        files = [image] if self.form.is_packed else [channel[None] for channel in image]
        if not source.pages:
            yield source.name, files, None
        for number, name in enumerate(source.pages):
            start = self.find_page(source, number, geometry)
            page = slice(start, start + 1)
            yield name, [file[:, page] for file in files], page

    def _label(self, source: Source, geometry: Geometry) -> tuple[np.ndarray, list[Problem]]:
        label, notes = self.read_label(source, label_grid(geometry, self.form.pages))
        assert source.label is not None
        if self.form.instances:
            return _renumbered(source.label, label, self.form.ending), notes
        _refuse_undeclared(source.label, label, self.form.values)
        return label, notes

    def _plain(self, source: Source, number: int, channels: int, files: int) -> Path | None:
        """The file of the source that is already what would be written, None where there is none."""
        if len(source.images) != files or self.form.pages == "channels":
            return None
        path = source.images[number]
        if path.is_dir() or image_ending(path) != self.form.ending:
            return None
        return path if not self.form.is_packed or _is_plain_picture(path, channels) else None

    def _kind(self, channels: np.ndarray) -> str:
        """The type to write numbers in; volumes know negative integers beside what pictures know."""
        kind = number_kind(channels)
        return (
            "int16" if kind == "float32" and self.form.ending not in PICTURE_ENDINGS and _is_int16(channels) else kind
        )

    def _check_channels(self, source: Source, image: np.ndarray) -> None:
        wanted = len(self.form.channels)
        if not self.form.is_packed and self.form.pages != "channels" and len(image) != wanted:
            expected = f"{wanted} ({', '.join(self.form.channels)})"
            raise FileError(source.image, f"{len(image)} channels", expected, "Take the case out, or export it again.")


def _grid_of(geometry: Geometry, shape: tuple[int, int, int], page: slice | None) -> Geometry:
    """The grid of a case: that of its source, or of one slice in its place."""
    if page is None:
        return replace(geometry, shape=shape)
    x, y, z = geometry.positions_mm(np.array([[page.start, 0, 0]]))[0].tolist()
    return replace(geometry, shape=shape, origin_mm=(x, y, z))


def _is_int16(channels: np.ndarray) -> bool:
    limits = np.iinfo(np.int16)
    if channels.min() < limits.min or channels.max() > limits.max:
        return False
    return all((plane == np.rint(plane)).all() for plane in channels.reshape(-1, *channels.shape[-2:]))


def _is_plain_picture(path: Path, channels: int) -> bool:
    if image_ending(path) != ".png":
        return False
    header = read_png_header(path)
    return (header.bits, header.colour) in _PLAIN_PNG[channels]


def _with_colours(image: np.ndarray, channels: int) -> np.ndarray:
    """The image with one channel or three: grey repeated, or the first of three equal ones."""
    return image if len(image) == channels else np.repeat(image[:1], channels, axis=0)


def _renumbered(path: Path, ids: np.ndarray, ending: str) -> np.ndarray:
    """Object numbers 1 … N without gaps, uint16 where they fit."""
    if ids.min() < 0:
        raise FileError(path, f"the value {ids.min()}", "object numbers from 0 on", "Export the mask again.")
    numbers = np.unique(ids)
    numbers = numbers[numbers != 0]
    if ending == ".png" and len(numbers) > _MOST_OBJECTS_IN_PNG:
        found = f"{len(numbers)} objects"
        raise FileError(path, found, f"at most {_MOST_OBJECTS_IN_PNG}, which a PNG can number", "Cut the image.")
    new = np.zeros(ids.shape, np.uint16 if len(numbers) <= _MOST_OBJECTS_IN_PNG else np.int32)
    for old_row, new_row in zip(ids.reshape(-1, ids.shape[-1]), new.reshape(-1, ids.shape[-1]), strict=True):
        new_row[...] = np.searchsorted(numbers, old_row) + 1
        new_row[old_row == 0] = 0
    return new


def _refuse_undeclared(path: Path, label: np.ndarray, values: Sequence[int]) -> None:
    undeclared = np.setdiff1d(label, values)
    if undeclared.size:
        found = ", ".join(map(str, undeclared[:8].tolist())) + (" and more" if undeclared.size > 8 else "")
        expected = ", ".join(map(str, values))
        raise FileError(path, f"label values {found}", expected, "Declare them with --labels, or mend the label.")


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
