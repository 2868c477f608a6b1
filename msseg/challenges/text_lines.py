"""Text files of somebody else, by lines."""

from __future__ import annotations

from pathlib import Path

_LONGEST_HEADER = 1000


def first_line(path: Path) -> str | None:
    """The first line without its end, None where the file does not begin with a short line of text."""
    with path.open("rb") as stream:
        line = stream.readline(_LONGEST_HEADER)
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        return None


def text_lines(text: str) -> list[str]:
    """The lines without their ends; what follows the last end is one only where there is something."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]
