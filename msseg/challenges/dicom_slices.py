"""The slices of a folder of DICOM files in the order of their names, which need not be that of their places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.challenges.image_list import in_natural_order
from msseg.data.geometry import Geometry
from msseg.data.problems import FileError
from msseg.errors import DatasetError

_TOLERANCE = 0.25  # of the way from one slice to the next, so that none is taken for its neighbour


@dataclass(frozen=True)
class DicomSlices:
    """Size in pixels, and for every file the places in mm (n, 3) of its first pixel and of its last."""

    folder: Path
    size_xy: tuple[int, int]
    positions_mm: np.ndarray
    ends_mm: np.ndarray


def read_dicom_slices(folder: Path) -> DicomSlices:
    """The slices of `*.dcm` by name, from headers alone; DatasetError for none, or one that cannot be read."""
    names = in_natural_order([path.name for path in folder.iterdir() if path.suffix.lower() == ".dcm"])
    if not names:
        raise DatasetError(f"{folder}: no .dcm files; expected one a slice. Unpack the challenge's data again.")
    found = [_read_slice(folder / name) for name in names]
    sizes = {size for size, _, _ in found}
    if len(sizes) > 1:
        raise DatasetError(f"{folder}: slices of {len(sizes)} sizes; expected one series. Unpack the data again.")
    return DicomSlices(folder, sizes.pop(), np.array([p for _, p, _ in found]), np.array([e for _, _, e in found]))


def order_of_slices(path: Path, geometry: Geometry, slices: DicomSlices) -> list[int]:
    """For every DICOM file the slice z of a label map at its place; FileError where the label map has another grid."""
    depth, height, width = geometry.shape
    remedy = "Predict the challenge's own images, on their own grid."
    if (depth, height, width) != (len(slices.positions_mm), *slices.size_xy[::-1]):
        size = " x ".join(map(str, (*slices.size_xy, len(slices.positions_mm))))
        raise FileError(path, f"{width} x {height} x {depth} voxels", f"{size} as {slices.folder} has", remedy)
    first, last = ([(z, y, x) for z in range(depth)] for y, x in ((0, 0), (height - 1, width - 1)))
    starts_mm, ends_mm = geometry.positions_mm(np.array(first)), geometry.positions_mm(np.array(last))
    away_mm = np.maximum(_distances(slices.positions_mm, starts_mm), _distances(slices.ends_mm, ends_mm))
    order = away_mm.argmin(axis=1)
    worst_mm = float(away_mm.min(axis=1).max())
    if worst_mm > _TOLERANCE * geometry.spacing_mm[0] or len(set(order.tolist())) != depth:
        raise FileError(path, f"slices up to {worst_mm:.4g} mm off", f"the places of {slices.folder}", remedy)
    return order.tolist()


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a[:, None] - b[None], axis=2)


def _read_slice(path: Path) -> tuple[tuple[int, int], tuple[float, ...], tuple[float, ...]]:
    """Size, and the places of the first and the last pixel."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise DatasetError(f"{path}: no readable DICOM file; expected a slice. Unpack the data again.") from None
    width, height = reader.GetSize()[:2]
    direction = np.array(reader.GetDirection()).reshape(len(reader.GetSize()), -1)
    origin, spacing = np.array(reader.GetOrigin()), np.array(reader.GetSpacing())
    end = origin + direction @ (spacing * ([width - 1, height - 1] + [0] * (len(spacing) - 2)))
    return (width, height), tuple(origin.tolist()), tuple(end.tolist())
