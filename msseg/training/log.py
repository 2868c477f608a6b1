"""The training log: one JSON object a line, appended, readable after a kill in mid-line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LOG = "log.jsonl"


def append_entry(path: Path, entry: dict[str, Any]) -> None:
    """Add one entry; a half line that a kill left at the end is closed first, so that it spoils itself only."""
    line = json.dumps(entry, allow_nan=False) + "\n"
    with path.open("ab") as stream:
        if not _ends_with_newline(path):
            stream.write(b"\n")
        stream.write(line.encode())


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        if stream.seek(0, 2) == 0:
            return True
        stream.seek(-1, 2)
        return stream.read(1) == b"\n"


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries in order; lines that are not whole are left out, a missing file gives none."""
    if not path.is_file():
        return []
    return [entry for line in path.read_bytes().splitlines() if (entry := _parsed(line)) is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return entry if isinstance(entry, dict) else None


def latest_by_step(entries: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    """The entries of one kind, by step; of a step that was trained again after a kill, the last."""
    return [
        entry for _, entry in sorted({entry["step"]: entry for entry in entries if entry["event"] == event}.items())
    ]
