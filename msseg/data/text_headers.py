"""The text headers of MetaImage and NRRD, read to see that the data they promise are there and undamaged.

ITK cannot be asked: it reads a compressed MetaImage or NRRD file with a flipped bit without an error, with wrong voxels
from there on, and says of a MetaImage that is cut off "No such file or directory", with text on the process's standard
error past every switch.
"""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path

from msseg.data.problems import FileError

_HEADER_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 18
_SIZES = re.compile(r"[0-9]{1,9}( +[0-9]{1,9})*")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32
_COPY_AGAIN = "Copy or export it again."
_META_TYPE_BYTES = {
    "CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4,
    "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8,
}  # fmt: skip


def check_meta_image_header(path: Path) -> None:
    """FileError for a MetaImage header that does not give size, type and data."""
    fields, _ = _meta_fields(_head(path))
    wanted = ["DimSize", "ElementType", "ElementDataFile"]
    if _is_compressed(fields):
        wanted.append("CompressedDataSize")  # without it ITK inflates nothing and gives the memory as it finds it
    missing = [name for name in wanted if name not in fields]
    if missing:
        raise FileError(path, f"a MetaImage header without {', '.join(missing)}", "a complete file", _COPY_AGAIN)
    if not _SIZES.fullmatch(fields["DimSize"]):
        raise FileError(path, f"DimSize = {fields['DimSize']!r}", "the sizes of the axes", _COPY_AGAIN)


def check_meta_image_data(path: Path) -> None:
    """FileError for the data of a MetaImage with a good header where they are absent, cut off or damaged."""
    fields, data_start = _meta_fields(_head(path))
    is_local = fields["ElementDataFile"].upper() == "LOCAL"
    data_path = path if is_local else _data_file(path, fields["ElementDataFile"])
    if data_path is None:
        return
    start = data_start if is_local else 0
    is_compressed = _is_compressed(fields)
    stored = data_path.stat().st_size - start
    promised = fields.get("CompressedDataSize", str(stored))
    if is_compressed and not (promised.isascii() and promised.isdigit() and int(promised) <= stored):
        raise FileError(path, f"{stored} of {promised} bytes of data", "a complete file", _COPY_AGAIN)
    found = _inflated_bytes(path, data_path, start, int(promised)) if is_compressed else stored
    item = _META_TYPE_BYTES.get(fields["ElementType"].removeprefix("MET_"), 0)
    expected = math.prod(int(size) for size in fields["DimSize"].split()) * item
    if found < expected:
        raise FileError(path, f"{found} of {expected} bytes of voxels", "a complete file", _COPY_AGAIN)


def check_nrrd_data(path: Path) -> None:
    """FileError for an NRRD file whose gzip data are cut off or damaged; ITK checks everything else well."""
    head = _head(path)
    blank = _BLANK_LINE.search(head)
    lines = head[: blank.start() if blank else None].decode("latin-1").splitlines()
    fields = {name.lower(): value.strip() for name, mark, value in (line.partition(":") for line in lines) if mark}
    if fields.get("encoding", "").lower() not in ("gzip", "gz") or {"byte skip", "line skip"} & fields.keys():
        return
    detached = fields.get("data file", fields.get("datafile"))
    if detached:
        data_path = _data_file(path, detached)
        if data_path is not None:
            _inflated_bytes(path, data_path, 0, data_path.stat().st_size)
    elif blank:
        _inflated_bytes(path, path, blank.end(), path.stat().st_size - blank.end())


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEADER_BYTES)


def _meta_fields(head: bytes) -> tuple[dict[str, str], int]:
    """The `name = value` lines up to ElementDataFile, which is the last, and where the data begin after it."""
    fields: dict[str, str] = {}
    position = 0
    for line in head.splitlines(keepends=True):
        position += len(line)
        name, mark, value = line.decode("latin-1").partition("=")
        if not mark:
            break
        fields[name.strip()] = value.strip()
        if name.strip() == "ElementDataFile":
            break
    return fields, position


def _is_compressed(fields: dict[str, str]) -> bool:
    return fields.get("CompressedData", "False")[:1].lower() in ("t", "1")


def _data_file(path: Path, name: str) -> Path | None:
    """The file beside a header that holds its data; None for a series or list of files, which ITK finds itself."""
    data_path = path.parent / name
    if data_path.is_file():
        return data_path
    if any(mark in name for mark in ("%", "LIST", " ")):
        return None
    raise FileError(path, f"no data file {name} beside it", "header and data", "Copy both files.")


def _inflated_bytes(path: Path, data_path: Path, start: int, length: int) -> int:
    """The inflated bytes of the zlib or gzip stream that takes `length` bytes from `start`.

    FileError unless it has an end and its checksum is right.
    """
    count = 0
    inflate = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        with data_path.open("rb") as stream:
            stream.seek(start)
            while not inflate.eof:
                compressed = inflate.unconsumed_tail or stream.read(min(_CHUNK_BYTES, start + length - stream.tell()))
                if not compressed:
                    raise FileError(path, "compressed data that end too soon", "a complete file", _COPY_AGAIN)
                count += len(inflate.decompress(compressed, 4 * _CHUNK_BYTES))
    except zlib.error as problem:
        raise FileError(path, f"damaged compressed data ({problem})", "a complete file", _COPY_AGAIN) from None
    return count
