"""A label map in NIfTI looked at as a stream: its grid from the header, its values a few megabytes at a time."""

from __future__ import annotations

import gzip
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from msseg.challenges.zip_members import MOST_MEMBER_BYTES
from msseg.data.nifti import NiftiHead, read_nifti_head
from msseg.data.problems import FileError

_STEP_BYTES = 1 << 22
_GZIP = ".gz"
MOST_VALUES = 64


@dataclass(frozen=True)
class NiftiMember:
    """A member of an archive whose header has been read; `values` reads the rest."""

    name: str
    head: NiftiHead
    stream: IO[bytes]

    def values(self) -> list[float]:
        """The different values, the first 64 in order; the checksums of the data are held by reading to the end.

        Raises FileError where the voxels are fewer than the header says, or more, or not finite.
        """
        self._skip(self.head.offset_bytes)
        found: set[float] = set()
        left, size = self.head.num_bytes, self.head.dtype.itemsize
        while left:
            data = self._read(min(_STEP_BYTES // size * size, left))
            left -= len(data)
            if len(found) <= MOST_VALUES:
                found.update(_different(np.frombuffer(data, self.head.dtype)))
        if self.stream.read(1):
            raise self._damaged("more data than its header says")
        return sorted(found)[:MOST_VALUES]

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self._read(min(_STEP_BYTES, count)))

    def _read(self, count: int) -> bytes:
        """Exactly so many bytes: a compressed stream may give fewer at a time."""
        parts = []
        while count:
            part = self.stream.read(count)
            if not part:
                raise self._damaged("fewer voxels than its header says")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _damaged(self, found: str) -> FileError:
        return FileError(self.name, found, "a complete file", "Export it again.")


def open_nifti(archive: zipfile.ZipFile, name: str) -> NiftiMember:
    """A member with its header read, which may announce no more than any label map holds.

    Raises FileError for no such image, and what `zip_members.UNREADABLE` lists.
    """
    stream = archive.open(name)
    if name.endswith(_GZIP):
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    head = read_nifti_head(Path(name), stream)
    announced = head.offset_bytes + head.num_bytes
    if announced > MOST_MEMBER_BYTES:
        raise FileError(name, f"{announced} bytes of voxels", f"at most {MOST_MEMBER_BYTES}", "Export it again.")
    return NiftiMember(name, head, stream)


def _different(values: np.ndarray) -> list[float]:
    """The different values of a piece; most pieces of a label map have one."""
    first = values[0]
    if (values == first).all():
        return [float(first)]
    if values.dtype == np.uint8:
        return [float(value) for value in np.flatnonzero(np.bincount(values))]
    return [float(value) for value in np.unique(values)]
