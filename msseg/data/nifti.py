"""NIfTI files, in and out, on nibabel's headers.

The voxels are read by ourselves in one pass straight into their array: nibabel's generic path costs three times as
much on small files and never reaches the checksum at the end of a compressed file.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from msseg.data.geometry import Geometry, NiftiSpace
from msseg.data.gunzip import WITH_GZIP_HEADER, GunzipReader
from msseg.data.problems import FileError
from msseg.data.raw import RawImage, check_is_image_file
from msseg.files import atomic_path

_HEADER_CLASSES = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_SINGLE_FILE_MAGIC = (b"n+1", b"n+2")
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # metres and micrometres; every other code is taken as mm
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DEFLATE_RATIO = 1032  # zlib's documentation: no deflate stream expands further
_Stream = GunzipReader | IO[bytes]
_CHUNK_BYTES = 1 << 20
_GZIP_LEVEL = 1  # images: a third of the time of level 6, for a file 7 % larger
_MAX_NIFTI1_SIZE = 32767
_EXPORT_AGAIN = "Export it again as a 3-D (or, with channels, 4-D) NIfTI image."


def read_nifti(path: Path) -> RawImage:
    """The stored numbers and the geometry of a 3-D image, or of a 4-D one as channels; FileError otherwise."""
    with _open(path) as stream:
        header = _read_header(path, stream)
        shape = _stored_shape(path, header)
        geometry = _geometry(path, header, shape)
        slope, intercept = _scaling(path, header)
        return RawImage(_read_voxels(path, stream, header, shape), slope, intercept, geometry)


def read_nifti_geometry(path: Path) -> Geometry:
    """The geometry of a NIfTI file; only its header is read."""
    with _open(path) as stream:
        header = _read_header(path, stream)
        return _geometry(path, header, _stored_shape(path, header))


@dataclass(frozen=True)
class NiftiHead:
    """What a stream's header says of the voxels that follow, `offset_bytes` after it and `num_bytes` long."""

    geometry: Geometry
    dtype: np.dtype
    slope: float
    intercept: float
    offset_bytes: int
    num_bytes: int


def read_nifti_head(name: Path, stream: IO[bytes]) -> NiftiHead:
    """The header of one 3-D volume from a stream that need not be a file; `name` is what a FileError calls it."""
    header = _read_header(name, stream)
    shape = _stored_shape(name, header)
    if len(shape) > 3:
        raise FileError(name, f"a 4-D file of {shape[3]} volumes", "one 3-D volume", _EXPORT_AGAIN)
    dtype, offset = _stored_type(name, header), float(header["vox_offset"])
    if not math.isfinite(offset):
        raise _truncated(name, f"voxels at offset {offset}")
    slope, intercept = _scaling(name, header)
    before = max(int(offset) - int(header["sizeof_hdr"]), 4)
    return NiftiHead(_geometry(name, header, shape), dtype, slope, intercept, before, math.prod(shape) * dtype.itemsize)


def write_nifti(path: Path, array_czyx: np.ndarray, geometry: Geometry, is_label: bool) -> None:
    """Write channels (c, z, y, x), 3-D where c is 1, with exactly the spatial header the geometry was read with."""
    header = _header_for(array_czyx, geometry)
    data = np.ascontiguousarray(array_czyx).reshape(-1).view(np.uint8).data
    chunks = (data[start : start + _CHUNK_BYTES] for start in range(0, len(data), _CHUNK_BYTES))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        parts = itertools.chain([header.binaryblock + b"\0\0\0\0"], chunks)
        for part in _compressed(parts, is_label) if path.name.lower().endswith(".gz") else parts:
            file.write(part)


def _compressed(parts: Iterable[bytes | memoryview], is_label: bool) -> Iterator[bytes]:
    """A gzip stream without a time stamp, so that equal images make equal files.

    Label maps are runs of equal bytes: deflate told so (Z_RLE) is as fast as level 1 on a 512³ label and leaves 178 KB
    of it where level 1 leaves 688 and level 6, in twice the time, 187. Images it would leave five times larger.
    """
    strategy = zlib.Z_RLE if is_label else zlib.Z_DEFAULT_STRATEGY
    deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, WITH_GZIP_HEADER, zlib.DEF_MEM_LEVEL, strategy)
    for part in parts:
        yield deflate.compress(part)
    yield deflate.flush()


def _open(path: Path) -> _Stream:
    head = check_is_image_file(path)
    is_gzip = head.startswith(_GZIP_MAGIC)
    if path.name.endswith(".gz") and not is_gzip:
        raise FileError(
            path,
            "not gzip data",
            "a gzip-compressed NIfTI file",
            "Copy it again, or name it .nii if it is not compressed.",
        )
    return GunzipReader(path) if is_gzip else path.open("rb")


def _read_header(path: Path, stream: _Stream) -> Any:
    head = _read_exactly(path, stream, 348)
    sizes = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    size = next(iter(sizes & _HEADER_CLASSES.keys()), None)
    if size is None:
        raise FileError(path, "no NIfTI header", "a NIfTI-1 or NIfTI-2 file", "Convert the image to NIfTI.")
    header = _HEADER_CLASSES[size](head + _read_exactly(path, stream, size - 348), check=False)
    if bytes(header["magic"])[:3] not in _SINGLE_FILE_MAGIC:
        raise FileError(
            path, "an Analyze file or half of a .hdr/.img pair", "a single NIfTI file", "Convert it to .nii.gz."
        )
    return header


def _stored_shape(path: Path, header: Any) -> tuple[int, ...]:
    """The stored (x, y, z) or (x, y, z, c), trailing axes of one voxel dropped."""
    count = int(header["dim"][0])
    shape = [int(size) for size in header["dim"][1 : count + 1]]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) not in (3, 4) or min(shape) < 1:
        text = " x ".join(map(str, shape)) or "none"
        raise FileError(path, f"{len(shape)} dimensions ({text})", "3, or 4 with channels", _EXPORT_AGAIN)
    return tuple(shape)


def _geometry(path: Path, header: Any, shape: tuple[int, ...]) -> Geometry:
    pixdim = header["pixdim"][1:4].astype(np.float64)
    if not np.isfinite(pixdim).all() or not pixdim.all():
        raise FileError(
            path, f"voxel sizes {pixdim.tolist()}", "three sizes above zero", "Write the spacing into the header."
        )
    steps, origin = _steps_and_origin(path, header)
    spacing = np.linalg.norm(steps, axis=1)
    directions = steps / spacing[:, None]
    return Geometry(
        shape=(shape[2], shape[1], shape[0]),
        spacing_mm=tuple(spacing.tolist()),
        origin_mm=tuple(origin.tolist()),
        direction=tuple(tuple(direction) for direction in directions.tolist()),
        nifti=_space(header),
    )


def _steps_and_origin(path: Path, header: Any) -> tuple[np.ndarray, np.ndarray]:
    """The step in mm along each array axis (3, 3), rows z, y, x, and the origin (3,), both left-back-up."""
    try:
        affine = header.get_best_affine()
    except (HeaderDataError, ValueError) as problem:
        raise FileError(path, f"no usable orientation ({problem})", "a valid qform or sform", _EXPORT_AGAIN) from None
    affine = affine[:3].astype(np.float64) * _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    steps, origin = (affine[:, 2::-1] * _RAS_TO_LPS[:, None]).T, affine[:, 3] * _RAS_TO_LPS
    if not np.isfinite(affine).all() or not abs(np.linalg.det(steps)) > 0:
        raise FileError(
            path,
            f"an orientation that spans no volume ({affine[:, :3].tolist()})",
            "three independent axes",
            _EXPORT_AGAIN,
        )
    return steps, origin


def _space(header: Any) -> NiftiSpace:
    def numbers(*names: str) -> tuple[float, ...]:
        return tuple(float(value) for name in names for value in np.atleast_1d(header[name]))

    return NiftiSpace(
        version=2 if isinstance(header, nibabel.Nifti2Header) else 1,
        pixdim=numbers("pixdim"),
        qform_code=int(header["qform_code"]),
        sform_code=int(header["sform_code"]),
        quaternion=numbers("quatern_b", "quatern_c", "quatern_d"),
        qoffset=numbers("qoffset_x", "qoffset_y", "qoffset_z"),
        srow=numbers("srow_x", "srow_y", "srow_z"),
        xyzt_units=int(header["xyzt_units"]),
    )


def _scaling(path: Path, header: Any) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):  # the standard's way to say that nothing is scaled
        return 1.0, 0.0
    if not np.isfinite(intercept):
        raise FileError(path, f"scl_inter {intercept}", "a finite offset", "Write the image again without scaling.")
    return slope, intercept


def _stored_type(path: Path, header: Any) -> np.dtype:
    code = int(header["datatype"])
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        dtype = None
    if dtype is not None and dtype.kind in "uif":
        return dtype
    names = {128: "RGB colour", 2304: "RGBA colour", 32: "complex", 1792: "complex", 2048: "complex"}
    raise FileError(
        path,
        f"{names.get(code, 'unknown')} voxels (NIfTI datatype {code})",
        "one integer or real number per voxel",
        "Save every component as a channel of its own.",
    )


def _read_voxels(path: Path, stream: _Stream, header: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The stored numbers (c, z, y, x); reads to the end of compressed data, so that its checksum is held."""
    dtype = _stored_type(path, header)
    _check_size(path, math.prod(shape) * dtype.itemsize, isinstance(stream, GunzipReader))
    offset = float(header["vox_offset"])
    if not math.isfinite(offset):
        raise _truncated(path, f"voxels at offset {offset}")
    _read_exactly(path, stream, max(int(offset) - int(header["sizeof_hdr"]), 4))
    array = np.empty((shape[3] if len(shape) == 4 else 1, *shape[2::-1]), dtype)
    _read_into(path, stream, array.reshape(-1).view(np.uint8).data)
    _read_some(path, stream, 1)
    return array


def _check_size(path: Path, num_bytes: int, is_compressed: bool) -> None:
    """Refuse before the memory is taken what a file of this size cannot hold."""
    size = path.stat().st_size
    if num_bytes > size * (_MAX_DEFLATE_RATIO if is_compressed else 1):
        raise _truncated(path, f"{size} bytes, too few for {num_bytes} bytes of voxels")


def _read_into(path: Path, stream: _Stream, target: memoryview) -> None:
    filled = 0
    while filled < len(target):
        chunk = _read_some(path, stream, min(_CHUNK_BYTES, len(target) - filled))
        if not chunk:
            raise _truncated(path, f"ends after {filled} of {len(target)} bytes of voxels")
        target[filled : filled + len(chunk)] = chunk
        filled += len(chunk)


def _read_exactly(path: Path, stream: _Stream, count: int) -> bytes:
    parts, left = [], count
    while left:
        part = _read_some(path, stream, min(_CHUNK_BYTES, left))
        if not part:
            raise _truncated(path, "ends within the header")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _read_some(path: Path, stream: _Stream, count: int) -> bytes:
    try:
        return stream.read(count)
    except (EOFError, zlib.error, OSError) as problem:
        raise _truncated(path, f"damaged or cut off ({problem})") from None


def _truncated(path: Path, found: str) -> FileError:
    return FileError(path, found, "a complete file", "Copy or export it again.")


def _header_for(array_czyx: np.ndarray, geometry: Geometry) -> Any:
    """A header for the array; every field the geometry does not give is as a fresh NIfTI file has it."""
    space = geometry.nifti
    is_large = max(array_czyx.shape) > _MAX_NIFTI1_SIZE
    header = nibabel.Nifti2Header() if is_large or (space and space.version == 2) else nibabel.Nifti1Header()
    header.set_data_dtype(array_czyx.dtype)
    shape = array_czyx.shape[::-1]
    header.set_data_shape(shape if shape[3] > 1 else shape[:3])
    if space is None:
        _place_by_axes(header, geometry)
    else:
        _place_as_stored(header, space)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = header["sizeof_hdr"] + 4
    return header


def _place_as_stored(header: Any, space: NiftiSpace) -> None:
    header["pixdim"] = space.pixdim
    header["qform_code"], header["sform_code"] = space.qform_code, space.sform_code
    for name, value in zip("bcd", space.quaternion, strict=True):
        header[f"quatern_{name}"] = value
    for number, name in enumerate("xyz"):
        header[f"qoffset_{name}"] = space.qoffset[number]
        header[f"srow_{name}"] = space.srow[4 * number : 4 * number + 4]
    header["xyzt_units"] = space.xyzt_units


def _place_by_axes(header: Any, geometry: Geometry) -> None:
    """Orientation of a geometry that came from another format: sform always, qform where a rotation can say it."""
    steps = np.asarray(geometry.spacing_mm)[:, None] * np.asarray(geometry.direction)
    affine = np.eye(4)
    affine[:3, :3] = (steps[::-1] * _RAS_TO_LPS).T
    affine[:3, 3] = np.asarray(geometry.origin_mm) * _RAS_TO_LPS
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    if not np.allclose(header.get_qform(), affine, atol=1e-3):
        header["qform_code"] = 0
    header["xyzt_units"] = 2  # mm
