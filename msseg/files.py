"""Files that matter: written to a temporary name beside their place, then renamed; JSON; content hashes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from msseg.errors import MssegError

_HASH_CHUNK_BYTES = 1 << 20
_TEMPORARY = ".writing-"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` with the same ending; renamed to it on success, removed on failure.

    Parent folders are made. The ending is kept because image writers choose their format by it. An OSError that names
    no file, as on a full disk, or the temporary one names `path`.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_beside(path) as temporary:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    except OSError as error:
        if error.errno is not None and Path(error.filename or _TEMPORARY).name.startswith(_TEMPORARY):
            error.filename = str(path)
        raise


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=_TEMPORARY, suffix="".join(path.suffixes[-2:]), dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that takes its place, and that of what lay there, on success; removed on failure."""
    path = Path(path)
    temporary, before = (path.with_name(f"{_TEMPORARY}{os.getpid()}-{part}") for part in ("new", "old"))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            path.replace(before)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused, as JSON has none."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, error: type[MssegError] = MssegError) -> Any:
    """The JSON value in `path`; what cannot be read is raised as `error`, with the place.

    NaN and Infinity, which Python would read, are refused: JSON has none, and `write_json` could not write them again.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise error(f"{path}: no such file.") from None
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not valid JSON ({problem}). Write the file again.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def content_hash(*paths: Path) -> str:
    """A hash of the bytes of the files, in order (BLAKE2b, 32 hex digits)."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        with Path(path).open("rb") as stream:
            while chunk := stream.read(_HASH_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def value_hash(value: Any) -> str:
    """A hash of a JSON value that does not depend on the order of its keys (32 hex digits)."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()
