"""The container of `torch.save`: a zip of one pickle and the tensors' numbers, read without unpacking it anywhere."""

from __future__ import annotations

import contextlib
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from msseg.errors import CheckpointError
from msseg.nnunet.opcodes import plain_data
from msseg.nnunet.stored import VALUES, StorageRef, TensorRef, storage_ref

_AGAIN = "Copy the file again from where it was trained."
_ENTRY = re.compile(r"[^/\\]+/(data\.pkl|byteorder|version|\.[a-z_]+|data/\d+|\.data/[a-z_]+)")
_PICKLE, _BYTE_ORDER = "data.pkl", "byteorder"
_LEGACY_STARTS = (b"\x80", b"PK\x00", b"././@PaxHeader")
_ENCRYPTED = 0x1
# What zipfile raises at a damaged or doctored file.
_UNREADABLE = (zipfile.BadZipFile, EOFError, ValueError, RuntimeError)


@dataclass
class Archive:
    """An open checkpoint: its plain data, and its tensors on demand. Made by `open_archive`."""

    path: Path
    zipped: zipfile.ZipFile
    entries: Mapping[str, zipfile.ZipInfo]
    _storages: dict[StorageRef, torch.Tensor] = field(default_factory=dict)

    def data(self) -> Any:
        """The pickle's value, tensors as TensorRef. Raises CheckpointError at anything that is not plain data."""
        return plain_data(self._read(_PICKLE), VALUES, storage_ref, self.path)

    def tensor(self, ref: TensorRef) -> torch.Tensor:
        """The tensor's numbers, contiguous. Raises CheckpointError where the file holds fewer or more than it says."""
        storage = self._storages.get(ref.storage)
        if storage is None:
            storage = self._storages[ref.storage] = self._storage(ref.storage)
        return torch.as_strided(storage, ref.shape, ref.stride, ref.offset).clone()

    def _storage(self, ref: StorageRef) -> torch.Tensor:
        entry = self.entries.get(f"data/{ref.key}")
        wanted = ref.elements * ref.dtype.itemsize
        if entry is None or entry.file_size != wanted:
            found = "nothing" if entry is None else f"{entry.file_size} bytes"
            raise CheckpointError(f"{self.path}: data/{ref.key}: found {found}, expected {wanted} bytes. {_AGAIN}")
        if not wanted:
            return torch.empty(0, dtype=ref.dtype)
        return torch.frombuffer(bytearray(self._read(f"data/{ref.key}")), dtype=ref.dtype)

    def _read(self, name: str) -> bytes:
        return _content(self.path, self.zipped, self.entries[name])


def _content(path: Path, zipped: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        return zipped.read(entry)
    except _UNREADABLE as problem:
        name = entry.filename.partition("/")[2]
        raise CheckpointError(f"{path}: {name} cannot be read ({problem}). {_AGAIN}") from None


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """The checkpoint in `path`, open.

    CheckpointError where it is missing, cut short, of another format, or its table of contents is not torch's:
    names that lead elsewhere, entries that are compressed, doubled, or larger than the file.
    """
    try:
        zipped = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint. Name another fold or --checkpoint.") from None
    except _UNREADABLE as problem:
        raise CheckpointError(_not_a_zip(path, problem)) from None
    with zipped:
        yield Archive(path, zipped, _checked_entries(path, zipped))


def _not_a_zip(path: Path, problem: Exception) -> str:
    with path.open("rb") as stream:
        start = stream.read(16)
    if start.startswith(_LEGACY_STARTS):
        return (
            f"{path}: written in torch's old format, expected the zip of torch 1.6 and later, which nnU-Net v2 writes. "
            "Save it again where it was trained, with torch.save and its defaults."
        )
    return f"{path}: not a whole checkpoint of torch ({problem}). {_AGAIN}"


def _checked_entries(path: Path, zipped: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries by name below the archive's folder, each checked."""
    entries: dict[str, zipfile.ZipInfo] = {}
    left = path.stat().st_size
    for info in zipped.infolist():
        if not _ENTRY.fullmatch(info.filename) or info.filename.startswith("../"):
            raise CheckpointError(f"{path}: holds {info.filename!r}, which no checkpoint of torch does. {_AGAIN}")
        name = info.filename.split("/", 1)[1]
        left -= info.file_size
        stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        if not stored or info.flag_bits & _ENCRYPTED or name in entries or left < 0:
            raise CheckpointError(
                f"{path}: {name} is compressed, encrypted, doubled or larger than the file. torch writes no such "
                f"entries. {_AGAIN}"
            )
        entries[name] = info
    if _PICKLE not in entries:
        raise CheckpointError(f"{path}: a zip without {_PICKLE}; expected a checkpoint of torch.save. {_AGAIN}")
    _check_byte_order(path, zipped, entries)
    return entries


def _check_byte_order(path: Path, zipped: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]) -> None:
    if _BYTE_ORDER not in entries:
        return
    order = _content(path, zipped, entries[_BYTE_ORDER])[:16].decode("latin-1")
    if order != sys.byteorder:
        raise CheckpointError(
            f"{path}: numbers in {order}-endian order, expected {sys.byteorder}-endian. Save it again on a machine "
            "like this one."
        )
