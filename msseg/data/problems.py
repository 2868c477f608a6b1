"""What is wrong with a file: one row (file, found, expected, what to do), an error that carries it, a table of many."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msseg.errors import DatasetError

Severity = Literal["error", "note"]

_HEADINGS = ("", "case", "file", "found", "expected", "what to do")
_COLUMN_LIMITS = (5, 24, 36, 40, 30, 40)


@dataclass(frozen=True)
class Problem:
    """One row of the check's table; an `error` keeps the case from being used, a `note` does not."""

    case: str
    file: str
    found: str
    expected: str
    remedy: str
    severity: Severity = "error"


class FileError(DatasetError):
    """A file that cannot be taken as it is: the message is `file: found; expected …. remedy`."""

    def __init__(self, file: Path | str, found: str, expected: str, remedy: str) -> None:
        super().__init__(str(file), found, expected, remedy)
        self.file, self.found, self.expected, self.remedy = str(file), found, expected, remedy

    def __str__(self) -> str:
        return f"{self.file}: {self.found}; expected {self.expected}. {self.remedy}"

    def as_problem(self, case: str) -> Problem:
        """The row of this error for a case."""
        return Problem(case, self.file, self.found, self.expected, self.remedy)


def problems_table(problems: Sequence[Problem]) -> str:
    """The problems as a text table, errors first, long cells wrapped; "" when there are none.

    Files are given below the folder that all of them share, which is named above the table.
    """
    if not problems:
        return ""
    folder = _common_folder([problem.file for problem in problems if problem.file])
    ordered = sorted(problems, key=lambda problem: (problem.severity != "error", problem.case, problem.file))
    rows = [_HEADINGS, *(_cells(problem, folder) for problem in ordered)]
    widths = [min(limit, max(len(row[column]) for row in rows)) for column, limit in enumerate(_COLUMN_LIMITS)]
    lines = [line for row in rows for line in _wrapped(row, widths)]
    lines.insert(1, "  ".join("-" * width for width in widths))
    heading = [f"Files are below {folder}"] if folder else []
    return "\n".join(heading + lines)


def _cells(problem: Problem, folder: str) -> tuple[str, ...]:
    file = os.path.relpath(problem.file, folder) if folder and problem.file else problem.file
    return (problem.severity, problem.case, file, problem.found, problem.expected, problem.remedy)


def _common_folder(files: Sequence[str]) -> str:
    folders = {str(Path(file).parent) for file in files}
    if not folders or not all(Path(folder).is_absolute() for folder in folders):
        return ""
    try:
        return os.path.commonpath(sorted(folders))
    except ValueError:  # two drives of Windows
        return ""


def _wrapped(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = [
        textwrap.wrap(text, width, break_on_hyphens=False) or [""] for text, width in zip(row, widths, strict=True)
    ]
    height = max(len(cell) for cell in cells)
    padded = [cell + [""] * (height - len(cell)) for cell in cells]
    return [
        "  ".join(cell[line].ljust(width) for cell, width in zip(padded, widths, strict=True)).rstrip()
        for line in range(height)
    ]
