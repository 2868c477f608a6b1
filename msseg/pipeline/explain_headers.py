"""Cases as their files' headers tell them: no voxel is read."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from msseg.data.cases import Case
from msseg.data.geometry import Geometry
from msseg.data.image import image_ending, read_geometry
from msseg.errors import DatasetError
from msseg.preprocessing.memory import preparation_bytes as bytes_by_slabs
from msseg.preprocessing.resample import resampled_shape
from msseg.preprocessing.slabwise import CHUNK_VOXELS
from planning.costs.cases import CaseSize
from planning.plan import Configuration
from planning.spacing import axis_order, median_new_shape, reorder, target_spacing

_NIFTI_ENDINGS = (".nii", ".nii.gz")
_HEAD_BYTES = 348
_BITS_AT, _DIMENSIONS_AT = 72, 40
_SINGLE_BYTES = 4
_PIXEL = (1.0, 1.0, 1.0)
_USUAL_BYTES = 2  # of a voxel, where a header's reader does not say

NewShape = Callable[[Geometry], tuple[int, ...]]


def case_size(case: Case, channels: int, new_shape: NewShape, work_bytes: Callable[..., int]) -> CaseSize:
    """A case's sizes; `work_bytes(shape, channels, has_label, new_shape)` is the memory of preparing it."""
    geometry = read_geometry(case.image_paths[0])
    label = case.label_path
    target = new_shape(geometry)
    return CaseSize(
        name=case.name,
        shape=tuple(geometry.shape),
        channels=channels,
        image_file_bytes=sum(path.stat().st_size for path in case.image_paths),
        image_bytes=sum(stored_bytes(path, geometry) for path in case.image_paths),
        label_file_bytes=label.stat().st_size if label else 0,
        label_bytes=stored_bytes(label, geometry) if label else 0,
        new_shape=target,
        work_bytes=work_bytes(tuple(geometry.shape), channels, label is not None, target),
        compressed=is_compressed(case.image_paths[0]),
    )


def is_compressed(path: Path) -> bool:
    """Whether reading the file inflates it."""
    return path.name.lower().endswith(".gz")


def stored_bytes(path: Path, geometry: Geometry) -> int:
    """Bytes of a file's voxels once they are inflated."""
    voxels = math.prod(geometry.shape)
    if image_ending(path) not in _NIFTI_ENDINGS:
        return max(path.stat().st_size, _USUAL_BYTES * voxels)
    if not is_compressed(path):
        return path.stat().st_size
    order, head = _nifti_head(path)
    (bits,) = struct.unpack_from(f"{order}h", head, _BITS_AT)
    count, *sizes = struct.unpack_from(f"{order}8h", head, _DIMENSIONS_AT)
    volumes = max(1, sizes[3]) if count > 3 else 1
    return voxels * volumes * max(1, bits // 8)


def _nifti_head(path: Path) -> tuple[str, bytes]:
    """The byte order and the first bytes of a compressed NIfTI-1 file."""
    try:
        with gzip.open(path) as stream:
            head = stream.read(_HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as problem:
        raise DatasetError(f"{path}: its header cannot be read ({problem}). Copy or export it again.") from None
    if len(head) < _HEAD_BYTES:
        raise DatasetError(f"{path}: ends within its header. Copy or export it again.")
    return ("<" if head[:4] == struct.pack("<i", _HEAD_BYTES) else ">"), head


def planned_shape(configuration: Configuration, order: Sequence[int], has_spacing: bool = True) -> NewShape:
    """From an image's grid to the configuration's, as if nothing were cropped; `has_spacing` is the plan's."""
    return _shape_at(configuration.spacing_mm, order, has_spacing)


def guessed_shape(geometries: Sequence[Geometry]) -> NewShape:
    """The same where there is no plan yet: at the spacing that planning will choose, if nothing is cropped."""
    has_spacing = all(geometry.has_spacing for geometry in geometries)
    spacings = [geometry.spacing_mm if has_spacing else _PIXEL for geometry in geometries]
    shapes = [geometry.shape for geometry in geometries]
    spacing = target_spacing(spacings, shapes)
    order = axis_order(spacing, median_new_shape(shapes, spacings, spacing))
    return _shape_at(reorder(spacing, order), order, has_spacing)


def _shape_at(spacing_mm: Sequence[float], order: Sequence[int], has_spacing: bool) -> NewShape:
    def shape(geometry: Geometry) -> tuple[int, ...]:
        before = reorder(geometry.shape, order)
        if has_spacing and not geometry.has_spacing:  # taken to be as fine as the training images
            return before
        before_mm = reorder(geometry.spacing_mm if has_spacing else _PIXEL, order)
        return resampled_shape(before, before_mm, spacing_mm)

    return shape


def preparation_bytes(
    shape: Sequence[int],
    channels: int,
    has_label: bool,
    new_shape: Sequence[int],
    chunk_voxels: int = CHUNK_VOXELS,
) -> int:
    """The most memory that preparing one case takes, by slabs; of a small case no more than all of it at once."""
    voxels, new_voxels = math.prod(shape), math.prod(new_shape)
    values = _SINGLE_BYTES * channels * (2 * voxels + new_voxels) + _SINGLE_BYTES * max(voxels, new_voxels)
    whole = values + (2 * (voxels + new_voxels) + _SINGLE_BYTES * voxels if has_label else 0)
    return min(whole, bytes_by_slabs(shape, channels, has_label, new_shape, chunk_voxels))
