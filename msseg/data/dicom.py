"""A DICOM series as a volume: slices in the order of their positions, on a grid that is even, or an error.

SimpleITK reads the files one by one. Its own series reader takes the mean distance of the slices, whatever is missing
between them, so positions are held against each other here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.dicom_files import dicom_files
from msseg.data.dicom_headers import Header, read_frames, read_header
from msseg.data.geometry import Geometry
from msseg.data.problems import FileError

_UNEVEN = 0.05  # of the distance of slices: scanners round table positions to about a hundredth of it
_SAME_PLACE_MM = 1e-3
_SAME_AXES = 1e-4  # cosines; the standard's decimal strings have 16 characters
_SERIES_NAMED = 6


@dataclass(frozen=True)
class Series:
    """A volume float32 (1, z, y, x), its geometry, and the file of each slice (a file of many frames repeats)."""

    image: np.ndarray
    geometry: Geometry
    files: tuple[Path, ...]


@dataclass(frozen=True)
class SeriesEntry:
    """One series of a folder: its unique id, what its scanner called it, and its files."""

    uid: str
    description: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Slice:
    header: Header
    frame: int
    position_mm: np.ndarray


def list_series(folder: Path) -> list[SeriesEntry]:
    """The series of the files of a folder, by id; FileError for a file that cannot be read, or where there is none."""
    by_uid: dict[str, list[Header]] = {}
    for header in _headers(Path(folder)):
        by_uid.setdefault(header.series, []).append(header)
    return [
        SeriesEntry(uid, headers[0].description, tuple(header.file for header in headers))
        for uid, headers in sorted(by_uid.items())
    ]


def read_series(folder: Path, uid: str | None = None, ignore_ids: bool = False) -> Series:
    """The one series of a folder, or that of an id; with `ignore_ids` all its files, whatever series they claim.

    Raises FileError for a folder without DICOM files, a file that is damaged or holds no image, several series, slices
    of several sizes, voxel sizes or orientations, two slices in one place, and for slices that are missing or uneven.
    """
    folder = Path(folder)
    headers = _headers(folder)
    if not ignore_ids:
        headers = _of_one_series(folder, headers, uid)
    _check_alike(headers)
    slices = _by_position(headers)
    geometry = _geometry(folder, slices)
    return Series(_voxels(slices, geometry), geometry, tuple(one.header.file for one in slices))


def slice_files(folder: Path, ignore_ids: bool = False) -> tuple[Path, ...]:
    """The file of each slice of a series as `read_series` orders them; only headers are read, errors as there."""
    headers = _headers(Path(folder))
    if not ignore_ids:
        headers = _of_one_series(Path(folder), headers, None)
    _check_alike(headers)
    return tuple(one.header.file for one in _by_position(headers))


def _headers(folder: Path) -> list[Header]:
    files = dicom_files(folder) if folder.is_dir() else []
    if not files:
        raise FileError(folder, "no DICOM files", "a folder with those of one series", "Unpack or copy it again.")
    return [read_header(path) for path in files]


def _of_one_series(folder: Path, headers: list[Header], uid: str | None) -> list[Header]:
    found = sorted({header.series for header in headers})
    if uid is not None and uid in found:
        return [header for header in headers if header.series == uid]
    if uid is None and len(found) == 1:
        return headers
    named = [_series_text([one for one in headers if one.series == series]) for series in found[:_SERIES_NAMED]]
    rest = f" and {len(found) - _SERIES_NAMED} more" if len(found) > _SERIES_NAMED else ""
    expected = "one series" if uid is None else f"the series {uid}"
    remedy = "Keep one, or give each a folder of its own."
    raise FileError(folder, f"{len(found)} series ({'; '.join(named)}{rest})", expected, remedy)


def _series_text(headers: list[Header]) -> str:
    first = headers[0]
    return f"{first.description or 'no description'}, {len(headers)} files such as {first.file.name}, id {first.series}"


def _check_alike(headers: list[Header]) -> None:
    """FileError for the first file of another size, voxel size or orientation than the one before it by name."""
    first = headers[0]
    for other in headers[1:]:
        same_axes = np.allclose(other.axes, first.axes, rtol=0, atol=_SAME_AXES)
        if other.size != first.size:
            found, expected = f"{other.size[0]} x {other.size[1]} pixels", f"{first.size[0]} x {first.size[1]}"
        elif not np.allclose(other.pixel_mm, first.pixel_mm, rtol=1e-4, atol=0):
            found, expected = f"pixels of {_numbers(other.pixel_mm)} mm", f"{_numbers(first.pixel_mm)} mm"
        elif not same_axes:
            found, expected = f"the orientation {_numbers(other.axes.ravel())}", _numbers(first.axes.ravel())
        else:
            continue
        remedy = "It is of another scan: give each a folder of its own."
        raise FileError(other.file, found, f"{expected} as in {first.file.name}", remedy)


def _by_position(headers: list[Header]) -> list[_Slice]:
    """The slices along the normal of their planes; FileError for two in one place."""
    normal = np.cross(headers[0].axes[0], headers[0].axes[1])
    slices = [_Slice(header, frame, place) for header in headers for frame, place in enumerate(header.positions_mm)]
    slices.sort(key=lambda one: (float(one.position_mm @ normal), one.header.file, one.frame))
    for one, other in itertools.pairwise(slices):
        if abs(float((other.position_mm - one.position_mm) @ normal)) < _SAME_PLACE_MM:
            found = f"a slice in the place of {one.header.file.name} ({_numbers(other.position_mm)} mm)"
            remedy = "Keep one: several echoes, phases or times each need a folder of their own."
            raise FileError(other.header.file, found, "one slice a place", remedy)
    return slices


def _geometry(folder: Path, slices: list[_Slice]) -> Geometry:
    header, count = slices[0].header, len(slices)
    columns, rows = header.size
    first, last = slices[0].position_mm, slices[-1].position_mm
    if count > 1:
        _check_even(folder, slices)
        step_mm = (last - first) / (count - 1)
    else:
        step_mm = np.cross(header.axes[0], header.axes[1]) * (header.thickness_mm or max(header.pixel_mm))
    distance_mm = float(np.linalg.norm(step_mm))
    axes = (step_mm / distance_mm, header.axes[1], header.axes[0])
    return Geometry(
        shape=(count, rows, columns),
        spacing_mm=(distance_mm, header.pixel_mm[1], header.pixel_mm[0]),
        origin_mm=(float(first[0]), float(first[1]), float(first[2])),
        direction=tuple((float(axis[0]), float(axis[1]), float(axis[2])) for axis in axes),
    )


def _check_even(folder: Path, slices: list[_Slice]) -> None:
    """FileError where a slice is further from its place on an even grid than scanners round, naming the gap."""
    places = np.stack([one.position_mm for one in slices])
    even = np.linspace(places[0], places[-1], len(places))
    gaps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])  # of two, the one without a slice missing
    off = float(np.linalg.norm(places - even, axis=1).max())
    if off <= _UNEVEN * usual:
        return
    widest = int(np.argmax(np.abs(gaps - usual)))
    missing = round(float(gaps[widest]) / usual) - 1
    is_whole = missing > 0 and abs(gaps[widest] / usual - missing - 1) < _UNEVEN
    between = f"{slices[widest].header.file.name} and {slices[widest + 1].header.file.name}"
    found = f"{gaps[widest]:.4g} mm between {between}" + (f" ({_count(missing)} missing)" if is_whole else "")
    remedy = (
        "Copy the missing slices, or leave the series out." if is_whole else "Leave the series out, or resample it."
    )
    raise FileError(folder, found, f"{usual:.4g} mm as between most slices", remedy)


def _voxels(slices: list[_Slice], geometry: Geometry) -> np.ndarray:
    volume = np.empty((1, *geometry.shape), np.float32)
    frames: tuple[Path, np.ndarray] | None = None
    for place, one in enumerate(slices):
        if frames is None or frames[0] != one.header.file:
            frames = one.header.file, read_frames(one.header.file)
        volume[0, place] = frames[1][one.frame]
    return volume


def _count(slices: int) -> str:
    return f"{slices} slice" if slices == 1 else f"{slices} slices"


def _numbers(values: np.ndarray | tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values) if len(values) == 2 else " ".join(f"{v:.4g}" for v in values)
