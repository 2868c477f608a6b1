"""Cases as the examination read them, kept until they are prepared: inflated, checked and hashed once.

A kept case is NAME.image.npy and NAME.label.npy and, written last, NAME.json, without which the others do not count.
It is a convenience: what is not there, or not whole, is read from the data set again.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.errors import MssegError
from msseg.files import read_json, write_json

_LOG = logging.getLogger("msseg")

_PREFIX = ".decoded-"
_ABANDONED_AFTER_S = 3600.0
_DISK_SHARE = 0.25  # of what is free
_NARROW_BYTES = 2


@dataclass(frozen=True)
class Decoded:
    """The folder of kept cases, and the bytes that one may take."""

    folder: Path
    most_bytes: int


@dataclass(frozen=True)
class DecodedCase:
    """A case read before: image float32 (c, z, y, x), class indices (z, y, x), and the hash of the files' content."""

    image: np.ndarray
    label: np.ndarray
    spacing_mm: tuple[float, ...]
    content: str


@contextlib.contextmanager
def decoded_cases(parent: Path, cases: int, memory_bytes: int) -> Iterator[Decoded]:
    """A folder in `parent` for so many cases, gone at the end; what a killed run left is removed an hour later.

    All cases together take at most `memory_bytes`, for they are worth keeping only in the system's page cache, and
    a quarter of the free disk.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent)
    most_bytes = int(min(memory_bytes, shutil.disk_usage(parent).free * _DISK_SHARE)) // max(cases, 1)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        yield Decoded(folder, most_bytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep(decoded: Decoded, name: str, case: DecodedCase) -> bool:
    """Whether the case is kept: it is not where it is too large or the disk will not take it."""
    if case.image.size * _NARROW_BYTES + case.label.nbytes > decoded.most_bytes:
        return False
    image = _narrow(case.image)
    if image.nbytes + case.label.nbytes > decoded.most_bytes:
        return False
    try:
        np.save(_image_path(decoded, name), image, allow_pickle=False)
        np.save(_label_path(decoded, name), case.label, allow_pickle=False)
        write_json(_record_path(decoded, name), {"spacing_mm": list(case.spacing_mm), "content": case.content})
    except OSError as problem:
        _LOG.debug("%s: not kept decoded (%s)", name, problem)
        return False
    return True


def content_of(decoded: Decoded, name: str) -> str | None:
    """The hash of the content of a kept case's files, None where the case is not kept."""
    try:
        return str(read_json(_record_path(decoded, name))["content"])
    except (MssegError, OSError, KeyError, TypeError):
        return None


def recall(decoded: Decoded, name: str) -> DecodedCase | None:
    """The case as it was kept, and its files removed; None where it is not there."""
    try:
        record = read_json(_record_path(decoded, name))
        image = np.load(_image_path(decoded, name), allow_pickle=False).astype(np.float32, copy=False)
        label = np.load(_label_path(decoded, name), allow_pickle=False)
        case = DecodedCase(image, label, tuple(record["spacing_mm"]), record["content"])
    except (MssegError, OSError, ValueError, EOFError, KeyError, TypeError):
        return None
    for path in (_record_path(decoded, name), _image_path(decoded, name), _label_path(decoded, name)):
        path.unlink(missing_ok=True)
    return case


def _narrow(image_czyx: np.ndarray) -> np.ndarray:
    """The image as int16 where that gives every bit back, as for CT and most MR; else as it is."""
    limits = np.iinfo(np.int16)
    if image_czyx.min(initial=0) < limits.min or image_czyx.max(initial=0) > limits.max:
        return image_czyx
    narrow = np.empty(image_czyx.shape, np.int16)
    for channel, target in zip(image_czyx, narrow, strict=True):
        for values, whole in zip(channel, target, strict=True):
            np.copyto(whole, values, casting="unsafe")
            back = whole.astype(np.float32)
            if not np.array_equal(back.view(np.int32), np.ascontiguousarray(values).view(np.int32)):
                return image_czyx
    return narrow


def _record_path(decoded: Decoded, name: str) -> Path:
    return decoded.folder / f"{name}.json"


def _image_path(decoded: Decoded, name: str) -> Path:
    return decoded.folder / f"{name}.image.npy"


def _label_path(decoded: Decoded, name: str) -> Path:
    return decoded.folder / f"{name}.label.npy"


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another run may have finished with it by now
            if time.time() - folder.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(folder, ignore_errors=True)
