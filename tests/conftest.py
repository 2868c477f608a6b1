"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real test data: $MSSEG_TEST_DATA, else ../shared/data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("MSSEG_TEST_DATA", _BESIDE_THE_REPOSITORY))
    if not folder.is_dir():
        pytest.skip(f"no real test data in {folder}; set MSSEG_TEST_DATA to its folder")
    return folder
