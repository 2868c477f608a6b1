from __future__ import annotations

import gzip
import zlib

import numpy as np
import pytest

from msseg.data.gunzip import GunzipReader

DATA = np.random.default_rng(0).integers(0, 16, 500_000, np.uint8).tobytes()


def _read_all(path, step):
    parts = []
    with GunzipReader(path) as stream:
        while part := stream.read(step):
            parts.append(part)
            assert len(part) <= step
    return b"".join(parts)


@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_what_gzip_wrote_is_read_whole(tmp_path, step):
    path = tmp_path / "data.gz"
    path.write_bytes(gzip.compress(DATA))
    assert _read_all(path, step) == DATA


def test_members_one_after_another_are_one_stream_and_zeros_are_padding(tmp_path):
    path = tmp_path / "data.gz"
    path.write_bytes(gzip.compress(DATA[:300_000]) + b"\0" * 9 + gzip.compress(DATA[300_000:]) + b"\0" * 200_000)
    assert _read_all(path, 1 << 16) == DATA


def test_a_file_cut_off_is_an_error(tmp_path):
    path = tmp_path / "data.gz"
    path.write_bytes(gzip.compress(DATA)[:-4])
    with pytest.raises(EOFError):
        _read_all(path, 1 << 16)


def test_a_wrong_checksum_is_an_error(tmp_path):
    path = tmp_path / "data.gz"
    compressed = bytearray(gzip.compress(DATA))
    compressed[-8] ^= 1
    path.write_bytes(compressed)
    with pytest.raises(zlib.error):
        _read_all(path, 1 << 16)
