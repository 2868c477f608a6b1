"""Zip archives: those of others looked at member by member without a file being made of one, and those written here."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from msseg.challenges.challenge import Fault

# What reading a member may raise: damage, another method, a password.
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)
# Larger than any submission known; label maps shrink a thousandfold, so that no ratio tells them from a bomb.
MOST_MEMBERS = 50_000
MOST_MEMBER_BYTES = 4 << 30
MOST_BYTES = 128 << 30
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_COMPRESSED = (".gz", ".png")
_STEP_BYTES = 1 << 20
_MADE = (1980, 1, 1, 0, 0, 0)  # zip's first day, so that equal predictions make equal archives
_ZIP_AGAIN = "Zip plain files again, without a password, by relative names."


def zip_members(path: Path) -> tuple[list[zipfile.ZipInfo], list[Fault]]:
    """The members of an archive that may be read, folders left out, and a fault for every one that may not.

    Faults are: no zip file; names that are absolute, leave the folder or occur twice; links and other special files;
    encryption, unusual compression; more or larger members than any submission has; members that share their bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except UNREADABLE as error:
        return [], [Fault(path, None, f"no readable zip file ({error})", "a zip file", "Zip it again.")]
    whole = _bounds(path, infos)
    if whole:
        return [], whole
    files = [info for info in infos if not (info.is_dir() and info.file_size == 0)]
    counts = Counter(info.filename for info in files)
    faults = {info.filename: fault for info in files if (fault := _fault(path, info, counts[info.filename]))}
    return [info for info in files if info.filename not in faults], list(faults.values())


def member_names(path: Path) -> list[str]:
    """The names in an archive, folders left out; none where it is no zip file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name for name in archive.namelist() if not name.endswith("/")]
    except UNREADABLE:
        return []


def pack(path: Path, members: Iterable[tuple[str, Path]]) -> int:
    """Write an archive of files under their names; how many. What is compressed already is stored."""
    count = 0
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in members:
            info = zipfile.ZipInfo(name, _MADE)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            if not name.endswith(_COMPRESSED):
                info.compress_type = zipfile.ZIP_DEFLATED
            with file.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, _STEP_BYTES)
            count += 1
    return count


def _bounds(path: Path, infos: list[zipfile.ZipInfo]) -> list[Fault]:
    """What speaks against reading any of it."""
    total, packed = sum(info.file_size for info in infos), sum(info.compress_size for info in infos)
    limits = (
        (len(infos), MOST_MEMBERS, "members"),
        (total, MOST_BYTES, "bytes unpacked"),
        (packed, path.stat().st_size, "compressed bytes, in members that share them,"),
    )
    return [
        Fault(path, None, f"{found} {what}", f"at most {most}", "Zip the files of the submission alone.")
        for found, most, what in limits
        if found > most
    ]


def _fault(path: Path, info: zipfile.ZipInfo, count: int) -> Fault | None:
    """Why a member may not be read, None where it may."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    reasons = (
        (not _is_plain(info.filename), "a name that leads out of its folder", "a relative name"),
        (count > 1, f"{count} members of one name", "one"),
        (kind not in (0, stat.S_IFREG), "a link or special file", "a plain file"),
        (bool(info.flag_bits & _ENCRYPTED), "an encrypted member", "no password"),
        (info.compress_type not in _METHODS, f"compression method {info.compress_type}", "deflate, or none"),
        (info.file_size > MOST_MEMBER_BYTES, f"{info.file_size} bytes", f"at most {MOST_MEMBER_BYTES}"),
    )
    for is_wrong, found, expected in reasons:
        if is_wrong:
            return Fault(path, None, found, expected, _ZIP_AGAIN, member=_shown(info.filename))
    return None


def _is_plain(name: str) -> bool:
    """Whether a name stays below the folder that it is unpacked in, on every system."""
    return name.isprintable() and not set("\\:") & set(name) and ".." not in name.split("/") and name[:1] not in "/"


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)
