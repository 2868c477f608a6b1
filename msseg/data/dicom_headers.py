"""What one DICOM file says about its slices, and their voxels, through SimpleITK (imported when one is met)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msseg.data.itk import simple_itk
from msseg.data.problems import FileError
from msseg.data.raw import check_is_image_file

# Tags of PS3.6 of the standard: group and element, as GDCM spells them.
_CLASS, _SERIES, _DESCRIPTION = "0008|0016", "0020|000e", "0008|103e"
_POSITION, _PIXEL_SPACING, _THICKNESS = "0020|0032", "0028|0030", "0018|0050"
_OBJECTS = {
    "1.2.840.10008.5.1.4.1.1.66": "a segmentation or registration object",
    "1.2.840.10008.5.1.4.1.1.88": "a structured report",
    "1.2.840.10008.5.1.4.1.1.481": "an object of radiotherapy",
}
# Image Position (Patient) of every frame of a file of many: explicit VR with its length, or implicit with a longer one.
_FRAME_POSITION = re.compile(rb"\x20\x00\x32\x00(?:DS(..)|(..)\x00\x00)([-+0-9.eE \\]+)", re.DOTALL)
_PIXEL_DATA = b"\xe0\x7f\x10\x00"


@dataclass(frozen=True)
class Header:
    """Where the slices of a file lie: `axes` are unit vectors along its columns' index and its rows' index, as x and y;
    `positions_mm` (frames, 3) their first voxels, left-back-up; `size` and `pixel_mm` are (x, y)."""

    file: Path
    series: str
    description: str
    size: tuple[int, int]
    pixel_mm: tuple[float, float]
    thickness_mm: float | None
    axes: np.ndarray
    positions_mm: np.ndarray


def read_header(path: Path) -> Header:
    """The header of a file; FileError for one that is damaged, holds no grey image, or does not say where it lies."""
    reader = _reader(path)
    kind = next((text for uid, text in _OBJECTS.items() if _text(reader, _CLASS).startswith(uid)), None)
    if kind is not None:
        raise FileError(path, kind, "an image", "Move it out of the folder.")
    if reader.GetNumberOfComponents() != 1:
        raise FileError(path, f"{reader.GetNumberOfComponents()} colours", "grey voxels", "Leave the series out.")
    positions_mm = _positions(path, reader)
    size, spacing = reader.GetSize(), reader.GetSpacing()
    axes = np.asarray(reader.GetDirection()).reshape(3, 3).T[:2]
    return Header(
        file=path,
        series=_text(reader, _SERIES),
        description=_text(reader, _DESCRIPTION),
        size=(int(size[0]), int(size[1])),
        pixel_mm=(float(spacing[0]), float(spacing[1])),
        thickness_mm=_thickness(reader),
        axes=axes,
        positions_mm=positions_mm,
    )


def read_frames(path: Path) -> np.ndarray:
    """The voxels (frames, y, x) with the rescaling of the file applied."""
    reader = _reader(path)
    try:
        array = simple_itk().GetArrayFromImage(reader.Execute())
    except RuntimeError as problem:
        raise _unreadable(path, problem) from None
    return array.reshape(-1, *array.shape[-2:])


def _reader(path: Path) -> Any:
    check_is_image_file(path)
    reader = simple_itk().ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as problem:
        raise _unreadable(path, problem) from None
    return reader


def _positions(path: Path, reader: Any) -> np.ndarray:
    frames = int(reader.GetSize()[2]) if reader.GetDimension() > 2 else 1
    if frames > 1:
        return _frame_positions(path, frames)
    if not _text(reader, _POSITION):
        if found := _positions_within(path):
            return np.array(found[:1])
        remedy = "Leave it out: without a position the order of slices is unknown."
        raise FileError(path, "no position in the patient", "Image Position (0020,0032)", remedy)
    if not _text(reader, _PIXEL_SPACING):
        raise FileError(path, "no size of a pixel", "Pixel Spacing (0028,0030)", "Leave the series out.")
    return np.array([reader.GetOrigin()[:3]])


def _frame_positions(path: Path, frames: int) -> np.ndarray:
    """The positions of the frames of a file, which GDCM reads as evenly spaced whatever they are."""
    found = _positions_within(path)
    if len(found) != frames:
        expected = f"a position for each of {frames} frames"
        raise FileError(path, f"{len(found)} positions", expected, "Export it as one file a slice.")
    return np.array(found)


def _positions_within(path: Path) -> list[tuple[float, float, float]]:
    head = path.read_bytes().rpartition(_PIXEL_DATA)[0]
    found = []
    for match in _FRAME_POSITION.finditer(head):
        length = int.from_bytes(match[1] or match[2], "little")
        numbers = match[3][:length].decode("ascii").split("\\")
        try:
            x, y, z = (float(number) for number in numbers)
        except ValueError:
            continue
        found.append((x, y, z))
    return found


def _thickness(reader: Any) -> float | None:
    text = _text(reader, _THICKNESS)
    try:
        return float(text) or None
    except ValueError:
        return None


def _text(reader: Any, tag: str) -> str:
    """The value of a tag without the padding of the format, "" where it is absent."""
    text = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
    return str(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")).strip(" \0")


def _unreadable(path: Path, problem: RuntimeError) -> FileError:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return FileError(path, f"no DICOM image ({lines[-1]})", "a complete DICOM image", "Copy it again, or move it away.")
