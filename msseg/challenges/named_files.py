"""Predictions and images by the case that their names stand for, wherever below a folder they lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from msseg.data.cases import case_name, split_channel
from msseg.data.image import image_ending
from msseg.errors import DatasetError

CaseOf = Callable[[str], str | None]


def case_by(pattern: str) -> CaseOf:
    """The function that gives the group `case` of a name that the pattern describes as a whole, and None of others."""
    compiled = re.compile(pattern)

    def case_of(name: str) -> str | None:
        match = compiled.fullmatch(name)
        return match["case"] if match else None

    return case_of


def named_predictions(folder: Path, case_of: CaseOf, example: str, kind: str = "label map") -> dict[str, Path]:
    """The image files below a folder by case; DatasetError for none, for other names, and for two of one case."""
    found: dict[str, Path] = {}
    for name, path in _image_files(folder):
        case = case_of(name)
        if case is None:
            raise DatasetError(
                f"{path}: a name of no case; expected one from which {example} follows. Name it as its image, or move "
                "it away."
            )
        if case in found:
            raise DatasetError(f"{path}: the same case as {found[case]}; expected one file a case. Keep one of them.")
        found[case] = path
    if not found:
        raise DatasetError(f"{folder}: no {kind}s; expected one of every image. Predict them with msseg_predict.")
    return found


def named_images(folder: Path, case_of: CaseOf) -> dict[str, Path]:
    """The first image file by name of every case below a folder; files of other names are none of the challenge's.

    Raises DatasetError where there is no such folder.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected the images of the challenge. Name them with -r.")
    found: dict[str, Path] = {}
    for name, path in _image_files(folder):
        case = case_of(name)
        if case is not None:
            found.setdefault(case, path)
    return found


def _image_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Image files below a folder, each with its name below it without channel and ending; hidden ones left out."""
    for path in sorted(Path(folder).rglob("*")):
        below = path.relative_to(folder)
        if image_ending(path) and not any(part.startswith(".") for part in below.parts) and path.is_file():
            yield below.with_name(split_channel(case_name(path))[0]).as_posix(), path
