"""What an image file holds before any conversion, and the checks on a file that need no format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.geometry import Geometry
from msseg.data.problems import FileError

_LFS_POINTER = b"version https://git-lfs"
_KINDS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"\x1f\x8b": "gzip",
    b"NRRD": "NRRD",
    b"%PDF": "PDF",
}
_EXCERPT = 20


@dataclass(frozen=True)
class RawImage:
    """Stored numbers (c, z, y, x) in their stored type; the values are `stored * slope + intercept`.

    The channels of a picture (PNG, JPEG, TIFF) are its colours.
    """

    stored: np.ndarray
    slope: float
    intercept: float
    geometry: Geometry
    is_picture: bool = False

    @property
    def is_scaled(self) -> bool:
        """Whether the values differ from the stored numbers."""
        return (self.slope, self.intercept) != (1.0, 0.0)


def check_is_image_file(path: Path) -> bytes:
    """The first bytes of the file; FileError where it is missing, empty, or the pointer that git LFS leaves."""
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except FileNotFoundError:
        raise FileError(path, "no such file", "an image file", "Put it there, or take the case out.") from None
    except OSError as problem:
        raise FileError(
            path, f"cannot be opened ({problem.strerror})", "a readable file", "Check its type and permissions."
        ) from None
    if not head:
        raise FileError(path, "an empty file (0 bytes)", "an image", "Copy or export it again.")
    if head.startswith(_LFS_POINTER):
        raise FileError(
            path, "a git LFS pointer (a few lines of text)", "the image itself", "Fetch it with `git lfs pull`."
        )
    return head


def check_content(path: Path, expected: str) -> None:
    """FileError where the first bytes are not those of the kind that the file's name promises ("PNG")."""
    head = check_is_image_file(path)
    found = _kind_of(head)
    if found != expected:
        known = found in _KINDS.values()
        raise FileError(
            path,
            f"{found} data" if known else found,
            f"{expected} data, as the name says",
            "Name the file after its format." if known else "Put the image there, or take the case out.",
        )


def _kind_of(head: bytes) -> str:
    """The kind of file that begins like this, in words."""
    kind = next((kind for start, kind in _KINDS.items() if head.startswith(start)), None)
    if kind is not None:
        return kind
    try:
        text = " ".join(head[:_EXCERPT].decode("utf-8").split())
    except UnicodeDecodeError:
        return "data of an unknown kind"
    return f"text ({text!r} ...)" if text.isprintable() else "data of an unknown kind"
