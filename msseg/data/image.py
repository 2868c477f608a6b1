"""Image and label files as arrays with their geometry, and back; the ending chooses the format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.colours import RGB, fitted, is_grey
from msseg.data.geometry import Geometry, grid_distance_mm
from msseg.data.problems import FileError
from msseg.data.raw import RawImage
from msseg.errors import DatasetError

GRID_TOLERANCE_MM = 1e-3
INTEGER_TOLERANCE = 1e-3
_LARGEST_LABEL = 2**31 - 1
_INTEGER_TYPES = (np.uint8, np.int16, np.uint16, np.int32, np.int64)


@dataclass(frozen=True)
class _Format:
    """`read_label` where a label is read otherwise than an image, `channels` where a header tells their number."""

    read: Callable[[Path], RawImage]
    read_geometry: Callable[[Path], Geometry]
    write: Callable[[Path, np.ndarray, Geometry, bool], None]
    read_label: Callable[[Path], RawImage] | None = None
    channels: Callable[[Path], int] | None = None


@dataclass(frozen=True)
class Channels:
    """The channels that files gave: image float32 (c, z, y, x), None where a file has an error.

    `geometry` is that of the first readable file; `distances_mm` how far the grid of each file lies from it.
    """

    image: np.ndarray | None
    geometry: Geometry | None
    errors: tuple[FileError, ...]
    distances_mm: dict[Path, float]


def _nifti() -> _Format:
    from msseg.data import nifti

    return _Format(nifti.read_nifti, nifti.read_nifti_geometry, nifti.write_nifti)


def _itk() -> _Format:
    from msseg.data import itk

    return _Format(itk.read_itk, itk.read_itk_geometry, itk.write_itk)


def _png() -> _Format:
    from msseg.data import raster

    return _Format(
        raster.read_png, raster.read_png_geometry, raster.write_png, raster.read_png_label, raster.png_channels
    )


def _jpeg() -> _Format:
    from msseg.data import raster

    return _Format(
        raster.read_jpeg, raster.read_jpeg_geometry, raster.write_jpeg, raster.read_jpeg_label, raster.jpeg_channels
    )


def _tiff() -> _Format:
    from msseg.data import tiff

    return _Format(tiff.read_tiff, tiff.read_tiff_geometry, tiff.write_tiff, tiff.read_tiff_label, tiff.tiff_channels)


_FORMATS: dict[str, Callable[[], _Format]] = {
    ".nii.gz": _nifti,
    ".nii": _nifti,
    ".nrrd": _itk,
    ".nhdr": _itk,
    ".mha": _itk,
    ".mhd": _itk,
    ".png": _png,
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".ome.tif": _tiff,
    ".ome.tiff": _tiff,
    ".tif": _tiff,
    ".tiff": _tiff,
}
_TWO_FILES = {".nhdr": ".nrrd", ".mhd": ".mha"}
_WRITTEN_AS = {**_TWO_FILES, ".jpg": ".png", ".jpeg": ".png"}
IMAGE_ENDINGS = tuple(_FORMATS)
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".ome.tif", ".ome.tiff", ".tif", ".tiff")


def image_ending(path: Path | str) -> str | None:
    """The ending of an image file name that msseg reads (".nii.gz" before ".nii"), None for any other name."""
    name = Path(path).name.lower()
    return next((ending for ending in IMAGE_ENDINGS if name.endswith(ending)), None)


def output_ending(ending: str) -> str:
    """The ending to write for images of this ending: the same, or one in a single file that keeps every value."""
    return _WRITTEN_AS.get(ending, ending)


def read_image(paths: Sequence[Path], channels: int | None = None) -> tuple[np.ndarray, Geometry]:
    """The channels of an image, float32 (c, z, y, x), and the geometry of the first file.

    One 4-D file gives its volumes as channels, a colour picture red, green and blue; several files give one channel
    each and must share a grid to 1e-3 mm. `channels` is how many are wanted: a picture is fitted to it where there is
    one meaning to that, see `fitted`; another number is returned as it is. Raises FileError (a DatasetError) for the
    first file that cannot be taken: missing, unreadable, not 3-D or 4-D, complex voxels, values that are not finite,
    another grid, colour where one channel is wanted.
    """
    found = read_channels(paths, channels)
    if found.errors:
        raise found.errors[0]
    if found.image is None or found.geometry is None:
        raise DatasetError("read_image needs at least one file.")
    return found.image, found.geometry


def read_channels(paths: Sequence[Path], channels: int | None = None) -> Channels:
    """As `read_image`, but with the error of every file instead of the first one raised."""
    wanted = channels if len(paths) == 1 else 1
    image: np.ndarray | None = None
    first: tuple[Path, Geometry] | None = None
    errors: list[FileError] = []
    distances_mm: dict[Path, float] = {}
    for channel, path in enumerate(paths):
        try:
            values, geometry = _read_values(path, wanted)
            if first is None:
                first = path, geometry
                image = np.empty((len(paths), *geometry.shape), np.float32) if len(paths) > 1 else values
            distances_mm[path] = check_same_grid(path, geometry, *first)
            if image is not None and len(paths) > 1:
                image[channel] = _only_volume(path, values)
        except FileError as error:
            errors.append(error)
    return Channels(None if errors else image, first[1] if first else None, tuple(errors), distances_mm)


def read_label(path: Path) -> tuple[np.ndarray, Geometry]:
    """A label map (z, y, x) of integers as stored in the file, and its geometry.

    Numbers stored as real or scaled integers are rounded where they are within 1e-3 of an integer, and come in the
    smallest integer type; FileError where they are not, or for a file `read_image` would refuse. A folder of one mask
    per object gives object numbers, see `merge_masks`; a palette its indices.
    """
    path = Path(path)
    if path.is_dir():
        from msseg.data.mask_folders import merge_masks

        merged = merge_masks(path)
        return merged.label, merged.geometry
    file_format = _format_of(path)
    raw = (file_format.read_label or file_format.read)(path)
    label = _only_volume(path, raw.stored)
    if raw.is_scaled or label.dtype.kind == "f":
        return _rounded(path, label, raw.slope, raw.intercept), raw.geometry
    return label.astype(label.dtype.newbyteorder("="), copy=False), raw.geometry


def read_geometry(path: Path) -> Geometry:
    """The geometry of an image file; only its header is read."""
    return _format_of(path).read_geometry(Path(path))


def shown_channels(path: Path) -> int:
    """The channels of an image file, 1 for a colour picture that shows nothing but grey.

    Raises FileError for a file that `read_image` would refuse.
    """
    file_format = _format_of(path)
    if file_format.channels is not None and file_format.channels(Path(path)) == 1:
        return 1
    raw = file_format.read(Path(path))
    return 1 if raw.is_picture and len(raw.stored) == len(RGB) and is_grey(raw.stored) else len(raw.stored)


def write_label(path: Path, label_zyx: np.ndarray, geometry: Geometry) -> None:
    """Write a label map (z, y, x) on a grid; the ending chooses the format.

    Whole or nothing: a temporary file is renamed. A NIfTI geometry comes out bit for bit in a NIfTI file. Booleans are
    written as uint8; 64-bit integers, which few viewers read, in the smallest type that holds them.
    """
    label = np.asarray(label_zyx)
    if label.dtype.kind not in "uib":
        raise DatasetError(f"{path}: a label map of type {label.dtype}; expected integers.")
    if label.dtype == bool:
        label = label.astype(np.uint8)
    elif label.dtype.itemsize == 8:
        label = label.astype(smallest_integer_type(int(label.min()), int(label.max())))
    _write(Path(path), label[None], geometry, is_label=True)


def write_image(path: Path, image_czyx: np.ndarray, geometry: Geometry) -> None:
    """Write channels (c, z, y, x) as one file, 4-D where there are several, whole or not at all."""
    _write(Path(path), np.asarray(image_czyx), geometry, is_label=False)


def check_same_grid(path: Path, geometry: Geometry, other_path: Path, other: Geometry) -> float:
    """The distance in mm between the grids of two files; FileError where the shapes differ or it exceeds 1e-3 mm."""
    if geometry.shape != other.shape:
        raise FileError(
            path,
            f"shape {_size(geometry.shape)}",
            f"{_edges(other.shape)} as in {other_path.name}",
            f"Resample it to the grid of {other_path.name}, or pair it with its own file.",
        )
    distance_mm = grid_distance_mm(geometry, other)
    if not distance_mm <= GRID_TOLERANCE_MM:
        raise FileError(
            path,
            f"a grid up to {distance_mm:.4g} mm away from that of {other_path.name}",
            f"one grid, to {GRID_TOLERANCE_MM:g} mm",
            f"Resample it to the grid of {other_path.name}, or mend origin, spacing or direction in its header.",
        )
    return distance_mm


def smallest_integer_type(lowest: int, highest: int) -> type[np.integer]:
    """The first of uint8, int16, uint16, int32, int64 that holds both numbers."""
    for dtype in _INTEGER_TYPES:
        info = np.iinfo(dtype)
        if info.min <= lowest and highest <= info.max:
            return dtype
    raise DatasetError(f"label values from {lowest} to {highest} exceed 64-bit integers.")


def _format_of(path: Path) -> _Format:
    ending = image_ending(path)
    if ending is None:
        raise FileError(
            path,
            f"the ending {Path(path).suffix or 'none'}",
            " ".join(IMAGE_ENDINGS),
            "Convert the image to one of these.",
        )
    return _FORMATS[ending]()


def _write(path: Path, array_czyx: np.ndarray, geometry: Geometry, is_label: bool) -> None:
    if array_czyx.shape[1:] != geometry.shape:
        raise DatasetError(
            f"{path}: an array of shape {array_czyx.shape[1:]} was to be written on a grid of shape {geometry.shape}."
        )
    ending = image_ending(path)
    if ending in _TWO_FILES:
        raise DatasetError(f"{path}: {ending} is two files; write {_TWO_FILES[ending]} instead.")
    _format_of(path).write(path, array_czyx, geometry, is_label)


def _only_volume(path: Path, array_czyx: np.ndarray) -> np.ndarray:
    if len(array_czyx) != 1 and image_ending(path) in PICTURE_ENDINGS:
        raise FileError(
            path, f"a picture of {len(array_czyx)} channels", "one channel", "Save the channels as files of their own."
        )
    if len(array_czyx) != 1:
        raise FileError(
            path,
            f"a 4-D file of {len(array_czyx)} volumes",
            "one 3-D volume",
            "Save the volumes as files of their own.",
        )
    return array_czyx[0]


def _read_values(path: Path, channels: int | None) -> tuple[np.ndarray, Geometry]:
    """Values float32 (c, z, y, x) in C order, all finite, and the geometry; `channels` as in `read_image`."""
    raw = fitted(path, _format_of(path).read(Path(path)), channels)
    with np.errstate(over="ignore", invalid="ignore"):
        values = raw.stored.astype(np.float32, order="C", copy=False)
        if raw.is_scaled:
            values *= np.float32(raw.slope)
            values += np.float32(raw.intercept)
    if raw.is_scaled or raw.stored.dtype.kind == "f":
        _check_finite(path, values)
    return values, raw.geometry


def _check_finite(path: Path, values_czyx: np.ndarray) -> None:
    if np.isfinite(values_czyx.min()) and np.isfinite(values_czyx.max()):  # NaN passes through both
        return
    is_bad = ~np.isfinite(values_czyx)
    first = np.unravel_index(int(is_bad.argmax()), is_bad.shape)
    place = _xyz(tuple(int(index) for index in first[1:]), separator=", ")
    channel = f" of volume {int(first[0])}" if len(values_czyx) > 1 else ""
    raise FileError(
        path,
        f"{int(is_bad.sum())} values that are not finite in float32, the first {values_czyx[first]} at voxel "
        f"({place}) (x, y, z from 0){channel}",
        "finite numbers only",
        "Replace them, or export the image again.",
    )


def _rounded(path: Path, stored_zyx: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Integers within 1e-3 of the values, slice by slice so that no copy in float64 is ever whole."""
    ends = np.array([stored_zyx.min(), stored_zyx.max()], dtype=np.float64) * slope + intercept
    if not np.isfinite(ends).all():
        raise FileError(path, "label values that are not finite", "integers", "Export the label again.")
    if np.abs(ends).max() > _LARGEST_LABEL:
        found = f"label values from {ends.min():.4g} to {ends.max():.4g}"
        raise FileError(path, found, f"integers of at most {_LARGEST_LABEL}", "Export the label again.")
    label = np.empty(stored_zyx.shape, smallest_integer_type(*(int(end) for end in np.rint(np.sort(ends)))))
    for stored, target in zip(stored_zyx, label, strict=True):
        values = stored.astype(np.float64) * slope + intercept
        nearest = np.rint(values)
        is_between = np.abs(values - nearest) > INTEGER_TOLERANCE
        if is_between.any():
            value = values[is_between].flat[0]
            raise FileError(
                path,
                f"{int(is_between.sum())} or more label values that are no integers, such as {value:.6g}",
                f"integers, to {INTEGER_TOLERANCE:g}",
                "Export the label as integers; resample label maps with nearest neighbours.",
            )
        target[...] = nearest
    return label


def _size(shape_zyx: tuple[int, ...]) -> str:
    kind = "pixels (x, y)" if shape_zyx[0] == 1 else "voxels (x, y, z)"
    return f"{_edges(shape_zyx)} {kind}"


def _edges(shape_zyx: tuple[int, ...]) -> str:
    return _xyz(shape_zyx[1:] if shape_zyx[0] == 1 else shape_zyx)


def _xyz(numbers_zyx: tuple[int, ...], separator: str = " x ") -> str:
    return separator.join(map(str, numbers_zyx[::-1]))
