"""What the chunks of a PNG file say, read without decoding a pixel: its header, and whether it is whole.

Pillow reads on past a wrong checksum and halves 16-bit colours without a word, so both are looked at here.
Source: PNG specification, third edition (W3C 2025), sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from msseg.data.colours import check_size
from msseg.data.problems import FileError
from msseg.data.raw import check_content

_SIGNATURE_BYTES = 8
_STEP_BYTES = 1 << 20
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
SAMPLES = {GREY: 1, COLOUR: 3, PALETTE: 3, GREY_ALPHA: 1, COLOUR_ALPHA: 3}


@dataclass(frozen=True)
class PngHeader:
    """Size in pixels, bits per sample, and the colour type (one of the constants here)."""

    width: int
    height: int
    bits: int
    colour: int


def read_png_header(path: Path) -> PngHeader:
    """The header of a PNG file; FileError where it is none, or larger than `check_size` allows."""
    check_content(path, "PNG")
    with path.open("rb") as stream:
        stream.seek(_SIGNATURE_BYTES)
        kind, size = _chunk_start(path, stream)
        if kind != b"IHDR" or size != 13:
            raise _damaged(path, "no image header at its start")
        content = stream.read(size)
        _check_sum(path, stream, kind, zlib.crc32(content, zlib.crc32(kind)))
    width, height, bits, colour = struct.unpack(">IIBB", content[:10])
    if colour not in SAMPLES or bits not in (1, 2, 4, 8, 16):
        raise _damaged(path, f"an impossible header (colour type {colour}, {bits} bits)")
    check_size(path, width, height)
    return PngHeader(width, height, bits, colour)


def check_png_whole(path: Path) -> None:
    """FileError where the file ends before its last chunk, or a chunk's checksum is wrong."""
    with path.open("rb") as stream:
        stream.seek(_SIGNATURE_BYTES)
        kind = b""
        while kind != b"IEND":
            kind, size = _chunk_start(path, stream)
            checksum = zlib.crc32(kind)
            while size > 0:
                piece = stream.read(min(size, _STEP_BYTES))
                if not piece:
                    raise _cut_off(path)
                checksum = zlib.crc32(piece, checksum)
                size -= len(piece)
            _check_sum(path, stream, kind, checksum)


def _chunk_start(path: Path, stream: BinaryIO) -> tuple[bytes, int]:
    head = stream.read(8)
    if len(head) < 8:
        raise _cut_off(path)
    size, kind = struct.unpack(">I4s", head)
    return kind, size


def _check_sum(path: Path, stream: BinaryIO, kind: bytes, checksum: int) -> None:
    stored = stream.read(4)
    if len(stored) < 4:
        raise _cut_off(path)
    if int.from_bytes(stored, "big") != checksum:
        raise _damaged(path, f"damaged: the checksum of its part {kind.decode('latin-1')!r} is wrong")


def _cut_off(path: Path) -> FileError:
    return FileError(
        path, f"a PNG file cut off after {path.stat().st_size} bytes", "a complete image", "Copy or export it again."
    )


def _damaged(path: Path, found: str) -> FileError:
    return FileError(path, found, "a complete image", "Copy or export it again.")
