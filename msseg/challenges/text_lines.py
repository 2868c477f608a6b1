"""Text files of somebody else, by lines."""

from __future__ import annotations

from pathlib import Path

from msseg.challenges.challenge import Fault

_LONGEST_HEADER = 1000
# Larger than any list of objects or candidates known, and small enough to be read as a whole.
MOST_TEXT_BYTES = 1 << 28


def first_line(path: Path) -> str | None:
    """The first line without its end, None where the file does not begin with a short line of text."""
    with path.open("rb") as stream:
        line = stream.readline(_LONGEST_HEADER)
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        return None


def read_submission_text(path: Path) -> str | Fault:
    """The text of a submission file in UTF-8, or what is wrong with it as a whole: too many bytes, or no text."""
    size = path.stat().st_size
    if size > MOST_TEXT_BYTES:
        return Fault(path, None, f"{size} bytes", f"at most {MOST_TEXT_BYTES}", "Give the submission file alone.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        found = f"a byte at {error.start} that is not UTF-8"
        return Fault(path, None, found, "a text file", "Write the file again with msseg_submit.")


def text_lines(text: str) -> list[str]:
    """The lines without their ends; what follows the last end is one only where there is something."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]
