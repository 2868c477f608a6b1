"""The images of a challenge by name, with their shapes, from headers alone."""

from __future__ import annotations

import re
from pathlib import Path

from msseg.data.cases import find_images, list_images
from msseg.data.image import read_geometry
from msseg.errors import DatasetError


def image_shapes(folder: Path) -> dict[str, tuple[int, int, int]]:
    """The shapes (z, y, x) of a folder's images by case name.

    Images lie flat (`x.png` or `x_0000.png` is x), or as the Data Science Bowl has them, `x/images/x.png`. Raises
    DatasetError where the folder is missing, holds none, or an image's header cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected the images of the challenge. Name them with -r.")
    files = _flat(folder) if list_images(folder) else _in_folders(folder)
    return {name: read_geometry(path).shape for name, path in sorted(files.items())}


def in_natural_order(names: list[str]) -> list[str]:
    """The names sorted as people count: em_2 before em_10."""
    return sorted(names, key=lambda name: ([_counted(part) for part in re.split(r"(\d+)", name)], name))


def _counted(part: str) -> tuple[int, int, str]:
    return (0, int(part), "") if part.isdecimal() else (1, 0, part)


def _flat(folder: Path) -> dict[str, Path]:
    cases, problems = find_images(folder, 1)
    if problems:
        first = problems[0]
        raise DatasetError(f"{folder}: case {first.case}: {first.found}; expected {first.expected}. {first.remedy}")
    return {case.name: case.image_paths[0] for case in cases}


def _in_folders(folder: Path) -> dict[str, Path]:
    found = {case.name: list_images(case / "images") for case in folder.iterdir() if (case / "images").is_dir()}
    if not found:
        raise DatasetError(f"{folder}: no images; expected the images of the challenge. Name their folder with -r.")
    for name, paths in found.items():
        if len(paths) != 1:
            raise DatasetError(f"{folder / name / 'images'}: {len(paths)} images; expected one. Copy it again.")
    return {name: paths[0] for name, paths in found.items()}
