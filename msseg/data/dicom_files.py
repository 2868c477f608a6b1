"""Which files of a folder are DICOM, told by their first bytes: many have no ending (nothing heavy is imported)."""

from __future__ import annotations

from pathlib import Path

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_ENDINGS = (".dcm", ".ima")
_INDEX = "DICOMDIR"


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder by name, not of those below it; the index of a disc is none."""
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in files if path.name.upper() != _INDEX and _is_dicom(path))


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in _ENDINGS:  # files of before 1993 have no preamble
        return True
    with path.open("rb") as stream:
        return stream.read(_PREAMBLE_BYTES + len(_MAGIC)).endswith(_MAGIC)
