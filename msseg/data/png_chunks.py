"""What the chunks of a PNG file say, read without decoding a pixel: its header, and whether it is whole.

Pillow reads on past a wrong checksum, leaves rows that are missing black and halves 16-bit colours without a word, so
all of that is looked at here.
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
_STORED_SAMPLES = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
# First pixel and step of each pass, x and y.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True)
class PngHeader:
    """Size in pixels, bits per sample, and the colour type (one of the constants here)."""

    width: int
    height: int
    bits: int
    colour: int
    is_interlaced: bool

    @property
    def pixel_bytes(self) -> int:
        """Bytes of all rows before compression, each with a byte for its filter; seven smaller pictures interlaced."""
        bits = self.bits * _STORED_SAMPLES[self.colour]
        passes = _ADAM7 if self.is_interlaced else ((0, 0, 1, 1),)
        sizes = ((-(-(self.width - x) // by_x), -(-(self.height - y) // by_y)) for x, y, by_x, by_y in passes)
        return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0)


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
    width, height, bits, colour, _, _, interlace = struct.unpack(">IIBBBBB", content)
    if colour not in SAMPLES or bits not in (1, 2, 4, 8, 16):
        raise _damaged(path, f"an impossible header (colour type {colour}, {bits} bits)")
    check_size(path, width, height)
    return PngHeader(width, height, bits, colour, bool(interlace))


def check_png_whole(path: Path, header: PngHeader) -> None:
    """FileError where the file ends before its last chunk, a checksum is wrong, or rows are missing."""
    rows = _Inflated(path)
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
                if kind == b"IDAT":
                    rows.count(piece)
                size -= len(piece)
            _check_sum(path, stream, kind, checksum)
    if rows.bytes < header.pixel_bytes:
        raise _damaged(path, f"{rows.bytes} of {header.pixel_bytes} bytes of pixels")


class _Inflated:
    """Counts the bytes that pieces of deflated data make, a megabyte at a time."""

    def __init__(self, path: Path) -> None:
        self.path, self.bytes, self._inflate = path, 0, zlib.decompressobj()

    def count(self, piece: bytes) -> None:
        try:
            while piece:
                self.bytes += len(self._inflate.decompress(piece, _STEP_BYTES))
                piece = self._inflate.unconsumed_tail
        except zlib.error as problem:
            raise _damaged(self.path, f"damaged compressed data ({problem})") from None


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
