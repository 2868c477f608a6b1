"""What a conversion and a submission will take, from the headers of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msseg.challenges.source import Listing, Source
from msseg.data.dicom_files import dicom_files
from msseg.data.image import PICTURE_ENDINGS, image_ending, read_geometry
from msseg.data.problems import FileError
from msseg.errors import DatasetError
from planning.costs.estimate import Estimate, Part, estimate_of
from planning.costs.machine import Machine

# Time of a pixel in units of the time in which preparation examines a voxel, and of a file beside its pixels, as
# measured on PNG pictures of 0.07 to 1.4 megapixels.
_READ_IMAGE, _READ_MASK, _WRITE_IMAGE, _WRITE_LABEL = 6.0, 0.7, 45.0, 5.0
_FILE_S = 0.0003
_LOOKS = 2  # once to decide on the form of the data set, once to write
_PIXEL_BYTES = 40  # in memory: stored colours, float32, what is written
_PACK_LABEL, _LABEL_BYTES = 2.5, 4  # of a volume's label map: read, brought into values, written, checked
_DICOM_BYTES = 2  # of a voxel, as nearly all are stored
_CSV_SHARE = 0.5  # of a submission to its predictions


@dataclass(frozen=True)
class _Size:
    image_px: int
    masks: int
    file_bytes: int


def conversion_cost(listing: Listing, machine: Machine, workers: int) -> Estimate:
    """msseg_convert: every image read twice and written once, every mask read, a label written.

    Files whose header cannot be read count nothing. Raises DatasetError where there is no case.
    """
    sizes = [_size(source) for source in listing.sources]
    if not sizes:
        raise DatasetError("no case to convert; expected at least one. See what the folder holds.")
    pixel_s, workers = 1 / machine.cases.examine_voxels_per_s, min(workers, len(sizes))
    looks = 1 if listing.instances else _LOOKS
    reading_s = sum(
        pixel_s * size.image_px * (_LOOKS * _READ_IMAGE + looks * size.masks * _READ_MASK)
        + _FILE_S * (_LOOKS + looks * size.masks)
        for size in sizes
    )
    writing_s = sum(pixel_s * size.image_px * (_WRITE_IMAGE + _WRITE_LABEL * bool(size.masks)) for size in sizes)
    process = machine.processes["prepare"]
    parts = [
        Part("start", process.start_s),
        Part("read", reading_s / workers),
        Part("write", writing_s / workers),
    ]
    memory = process.resident_bytes + workers * (
        process.private_bytes + _PIXEL_BYTES * max(size.image_px for size in sizes)
    )
    disk = sum(size.file_bytes for size in sizes)
    return estimate_of(
        parts,
        memory,
        disk,
        settings=[("workers", str(workers))],
        assumptions=["pictures take as much on disk as they do now"],
    )


def submission_cost(source: Path, machine: Machine) -> Estimate:
    """msseg_submit: every prediction of a folder, or the one file to check, read once."""
    source = Path(source)
    files = [source] if source.is_file() else _files(source)
    if not files:
        raise DatasetError(f"{source}: no files; expected a folder of predictions. Name another.")
    pixels = {path: _pixels(path) for path in files}
    total, rates, process = sum(path.stat().st_size for path in files), machine.cases, machine.processes["prepare"]
    units = sum(count * (_READ_IMAGE if _is_picture(path) else _PACK_LABEL) for path, count in pixels.items())
    reading_s = units / rates.examine_voxels_per_s + _FILE_S * len(files)
    parts = [
        Part("start", process.start_s),
        Part("read", reading_s + total / rates.read_bytes_per_s),
        Part("write", total / rates.write_bytes_per_s),
    ]
    memory = process.resident_bytes + max(
        count * (_PIXEL_BYTES if _is_picture(path) else _LABEL_BYTES) for path, count in pixels.items()
    )
    assumptions = ["the submission takes half as much on disk as the predictions"]
    return estimate_of(parts, memory, _CSV_SHARE * total, assumptions=assumptions)


def container_cost(files: Sequence[Path], machine: Machine) -> Estimate:
    """msseg_submit --container: files copied one by one."""
    total, rates, process = sum(path.stat().st_size for path in files), machine.cases, machine.processes["prepare"]
    copy_s = total / rates.read_bytes_per_s + total / rates.write_bytes_per_s + _FILE_S * len(files)
    return estimate_of([Part("start", process.start_s), Part("copy", copy_s)], process.resident_bytes, total)


def _size(source: Source) -> _Size:
    masks = len(source.files) - len(source.images) if source.label is not None else 0
    folders = [image for image in source.images if image.is_dir()]
    if folders:
        stored = sum(path.stat().st_size for folder in folders for path in dicom_files(folder))
        return _Size(stored // _DICOM_BYTES, masks, stored)
    files = [image for image in source.images if image.is_file()]
    return _Size(sum(map(_pixels, files)), masks, sum(file.stat().st_size for file in files))


def _is_picture(path: Path) -> bool:
    return image_ending(path) in PICTURE_ENDINGS


def _pixels(path: Path) -> int:
    """The pixels of a picture by its header, 0 where it has none that can be read."""
    try:
        return math.prod(read_geometry(path).shape)
    except FileError:
        return 0


def _files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
