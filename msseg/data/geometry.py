"""Where the voxels of an image lie in the patient, kept so that it can be given back exactly."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NiftiSpace:
    """The header fields that place a NIfTI image in space, as stored; written again they come out bit for bit."""

    version: int
    pixdim: tuple[float, ...]
    qform_code: int
    sform_code: int
    quaternion: tuple[float, ...]
    qoffset: tuple[float, ...]
    srow: tuple[float, ...]
    xyzt_units: int


@dataclass(frozen=True)
class Geometry:
    """The grid of an image; voxel v of its (z, y, x) array lies at

        origin_mm + sum over the three array axes a of v[a] · spacing_mm[a] · direction[a]

    in the patient's frame of DICOM and ITK: towards the left, the back (posterior), the head (superior), in mm.
    `direction` holds one unit vector per array axis; they need be neither aligned to the patient nor orthogonal.
    Where `has_spacing` is False the file tells no size of its pixels, and each counts as 1 x 1 x 1.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    nifti: NiftiSpace | None = None
    has_spacing: bool = True

    @property
    def known_spacing_mm(self) -> tuple[float, float, float] | None:
        """The spacing, None where the file tells none."""
        return self.spacing_mm if self.has_spacing else None

    def positions_mm(self, voxels_zyx: np.ndarray) -> np.ndarray:
        """The positions (n, 3) in mm, left-back-up, of voxels (n, 3) given as (z, y, x)."""
        steps_mm = np.asarray(self.spacing_mm)[:, None] * np.asarray(self.direction)
        return np.asarray(self.origin_mm) + np.asarray(voxels_zyx, dtype=np.float64) @ steps_mm


def grid_distance_mm(a: Geometry, b: Geometry) -> float:
    """The largest displacement in mm between equal corner voxels of two grids of one shape; 0.0 for equal grids.

    Positions are affine in the voxel, so no voxel between the corners is further off. A grid without a spacing lies
    nowhere, so it is 0.0 from any other of its shape. Raises ValueError where the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"grids of shape {a.shape} and {b.shape} have no common corners")
    if not (a.has_spacing and b.has_spacing):
        return 0.0
    corners = np.array(list(itertools.product(*[(0, size - 1) for size in a.shape])))
    displacement_mm = a.positions_mm(corners) - b.positions_mm(corners)
    return float(np.linalg.norm(displacement_mm, axis=1).max())
