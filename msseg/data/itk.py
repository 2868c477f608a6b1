"""NRRD and MetaImage files, in and out, through SimpleITK, which is imported only when such a file is met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from msseg.data.geometry import Geometry
from msseg.data.problems import FileError
from msseg.data.raw import RawImage, check_is_image_file
from msseg.data.text_headers import check_meta_image_data, check_meta_image_header, check_nrrd_data
from msseg.errors import ResourceError
from msseg.files import atomic_path

_META_IMAGE = (".mha", ".mhd")
_COMPRESSION_LEVEL = 1


def read_itk(path: Path) -> RawImage:
    """The numbers and the geometry of a 3-D image, or of a 4-D one as channels; FileError otherwise."""
    reader = _reader(path)
    check_data = check_meta_image_data if path.suffix.lower() in _META_IMAGE else check_nrrd_data
    check_data(path)
    geometry = _geometry(path, reader)
    try:
        image = reader.Execute()
    except RuntimeError as problem:
        raise _unreadable(path, problem) from None
    array = simple_itk().GetArrayFromImage(image)
    return RawImage(array.reshape(-1, *geometry.shape), 1.0, 0.0, geometry)


def read_itk_geometry(path: Path) -> Geometry:
    """The geometry of an NRRD or MetaImage file; only its header is read."""
    return _geometry(path, _reader(path))


def write_itk(path: Path, array_czyx: np.ndarray, geometry: Geometry, is_label: bool) -> None:
    """Write channels (c, z, y, x), 3-D where c is 1, compressed, with the geometry's spacing, origin and axes.

    ITK compresses labels and images in one way; `is_label` chooses nothing here.
    """
    sitk = simple_itk()
    channels = len(array_czyx)
    image = sitk.GetImageFromArray(array_czyx if channels > 1 else array_czyx[0], isVector=False)
    dimensions = image.GetDimension()
    axes = np.eye(dimensions)
    axes[:3, :3] = np.asarray(geometry.direction)[::-1].T
    image.SetDirection(axes.ravel().tolist())
    image.SetSpacing([*geometry.spacing_mm[::-1], 1.0][:dimensions])
    image.SetOrigin([*geometry.origin_mm, 0.0][:dimensions])
    with atomic_path(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True, compressionLevel=_COMPRESSION_LEVEL)


def simple_itk() -> Any:
    """The module, with its warnings off; ResourceError where it is not installed."""
    try:
        import SimpleITK
    except ImportError:
        raise ResourceError(
            "SimpleITK is not installed; NRRD, MetaImage and DICOM need it: pip install SimpleITK"
        ) from None
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _reader(path: Path) -> Any:
    """A reader that has read the header of a scalar 3-D or 4-D image."""
    head = check_is_image_file(path)
    if path.suffix.lower() in _META_IMAGE:
        check_meta_image_header(path)
    elif not head.startswith(b"NRRD"):
        raise FileError(path, "no NRRD header", "an NRRD file", "Convert the image, or name it after its format.")
    reader = simple_itk().ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as problem:
        raise _unreadable(path, problem) from None
    _check_kind(path, reader)
    return reader


def _check_kind(path: Path, reader: Any) -> None:
    pixels = simple_itk().GetPixelIDValueAsString(reader.GetPixelID())
    if reader.GetNumberOfComponents() != 1 or "complex" in pixels:
        raise FileError(
            path,
            f"voxels of {reader.GetNumberOfComponents()} components ({pixels})",
            "one integer or real number per voxel",
            "Save every component as a channel of its own.",
        )
    if reader.GetDimension() not in (3, 4):
        raise FileError(
            path, f"{reader.GetDimension()} dimensions", "3, or 4 with channels", "Export it again as a 3-D image."
        )


def _geometry(path: Path, reader: Any) -> Geometry:
    dimensions = reader.GetDimension()
    axes = np.asarray(reader.GetDirection()).reshape(dimensions, dimensions)[:3, :3]
    size, spacing = reader.GetSize(), reader.GetSpacing()[2::-1]
    origin = reader.GetOrigin()[:3]
    if not np.isfinite([*spacing, *origin]).all() or min(spacing) <= 0:
        raise FileError(
            path, f"spacing {spacing}, origin {origin}", "finite numbers, sizes above zero", "Mend the header."
        )
    return Geometry(
        shape=(int(size[2]), int(size[1]), int(size[0])),
        spacing_mm=tuple(spacing),
        origin_mm=tuple(origin),
        direction=tuple(tuple(axis) for axis in axes.T[::-1].tolist()),
    )


def _unreadable(path: Path, problem: RuntimeError) -> FileError:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return FileError(path, f"unreadable ({lines[-1]})", "a complete image", "Copy or export it again.")


def read_pixels(path: Path) -> np.ndarray:
    """The samples (y, x), (y, x, c), (z, y, x) or (z, y, x, c) of a picture, in their stored type; FileError otherwise.

    For what the readers of pictures cannot: colours of 16 bits in PNG, and compressions of TIFF.
    """
    sitk = simple_itk()
    try:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as problem:
        raise _unreadable(path, problem) from None
