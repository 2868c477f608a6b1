"""What is said of volumes in folders: layouts that are none, and files that a case lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from msseg.data.problems import Problem
from msseg.errors import DatasetError

VOLUMES = (".nii.gz", ".nii")
# As a word of its own, or with a capital inside of one: Test_Sets, testing, BraTS2021ValidationData; not latest.
_TEST_WORD = re.compile(r"(?<![A-Za-z])(test|valid)|Test|Valid|TEST|VALID")


def other_layout(source: Path, expected: str) -> DatasetError:
    """The error for a folder in which not one case of a challenge lies."""
    return DatasetError(f"{source}: not one case; expected {expected}. Unpack the archives, and name their folder.")


def missing(case: str, path: Path, what: str, remedy: str) -> Problem:
    """The error for a case without one of its files."""
    return Problem(case, str(path), f"no {what}", "all files of the case", remedy)


def folders_below(source: Path) -> Iterator[Path]:
    """The folder itself and all below it, by name; hidden ones are left out."""
    yield source
    for path in sorted(source.iterdir()) if source.is_dir() else []:
        if path.is_dir() and not path.name.startswith("."):
            yield from folders_below(path)


def volume(stem: Path) -> Path | None:
    """The NIfTI file of that path without its ending, compressed or not; None where there is none."""
    files = (stem.with_name(stem.name + ending) for ending in VOLUMES)
    return next((path for path in files if path.is_file()), None)


def says_test(path: Path, source: Path) -> bool:
    """Whether a folder between the source's and the path is called after tests or validation."""
    parts = [source.resolve().name, *path.relative_to(source).parts]
    return any(_TEST_WORD.search(part) for part in parts)
