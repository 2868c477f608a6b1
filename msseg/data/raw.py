"""What an image file holds before any conversion, and the checks on a file that need no format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.geometry import Geometry
from msseg.data.problems import FileError

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class RawImage:
    """Stored numbers (c, z, y, x) in their stored type; the values are `stored * slope + intercept`."""

    stored: np.ndarray
    slope: float
    intercept: float
    geometry: Geometry

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
