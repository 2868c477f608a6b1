"""Distances in millimetres between surfaces whose elements weigh by their area.

A surface element sits between the eight voxels of a 2 x 2 x 2 neighbourhood that the surface parts; it is as large as
the triangles that marching cubes puts there. These are the definitions of the `surface-distance` package (Nikolov et
al. 2018, arXiv 1809.04430), by which KiTS, the Decathlon and BraTS since 2023 rank; `msseg.evaluation.surface` counts
voxels instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from msseg.evaluation.surface import METRIC_ORDERS, bounding_box, nearest_mm

_CODES = 256  # patterns of eight voxels
# Distances are sums of rounded squares: an element exactly at the tolerance counts as within.
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class SurfaceElements:
    """For each element of one side its area in mm² and its distance in mm to the nearest element of the other."""

    from_prediction_mm: np.ndarray
    prediction_mm2: np.ndarray
    from_reference_mm: np.ndarray
    reference_mm2: np.ndarray


def surface_elements(prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]) -> SurfaceElements:
    """The elements of two boolean masks (z, y, x) of one shape, each of which must hold a voxel."""
    box = bounding_box(prediction | reference)
    predicted, expected = neighbourhood_codes(prediction[box]), neighbourhood_codes(reference[box])
    sides = (predicted % (_CODES - 1) != 0, expected % (_CODES - 1) != 0)
    areas_mm2 = element_areas_mm2(spacing_mm)
    spacing = np.array(spacing_mm, dtype=np.float64)
    return SurfaceElements(
        nearest_mm(*sides, spacing, METRIC_ORDERS["euclidean"]),
        areas_mm2[predicted[sides[0]]],
        nearest_mm(*sides[::-1], spacing, METRIC_ORDERS["euclidean"]),
        areas_mm2[expected[sides[1]]],
    )


def surface_dice(elements: SurfaceElements, tolerance_mm: float) -> float:
    """Share, 0..1, of both surfaces' area that lies within `tolerance_mm` of the other surface."""
    near_mm2 = elements.prediction_mm2[elements.from_prediction_mm <= tolerance_mm * _ROUNDING].sum()
    near_mm2 += elements.reference_mm2[elements.from_reference_mm <= tolerance_mm * _ROUNDING].sum()
    return float(near_mm2 / (elements.prediction_mm2.sum() + elements.reference_mm2.sum()))


def robust_hausdorff_mm(elements: SurfaceElements, percent: float = 95.0) -> float:
    """The larger of the two distances in mm within which `percent` of each surface's area lies."""
    return max(
        _area_percentile(elements.from_prediction_mm, elements.prediction_mm2, percent),
        _area_percentile(elements.from_reference_mm, elements.reference_mm2, percent),
    )


def _area_percentile(distances_mm: np.ndarray, areas_mm2: np.ndarray, percent: float) -> float:
    order = np.argsort(distances_mm, kind="stable")
    share = np.cumsum(areas_mm2[order]) / areas_mm2.sum()
    place = min(int(np.searchsorted(share, percent / 100)), len(order) - 1)
    return float(distances_mm[order[place]])


def neighbourhood_codes(mask: np.ndarray) -> np.ndarray:
    """The pattern 0..255 of every 2 x 2 x 2 neighbourhood of a mask (z, y, x): shape one longer an axis, uint8.

    Beyond the border lies background. Bit 4z + 2y + x stands for the voxel at that corner.
    """
    codes: np.ndarray = np.pad(mask, 1).view(np.uint8)
    codes = codes[:, :, :-1] | codes[:, :, 1:] << 1
    codes = codes[:, :-1] | codes[:, 1:] << 2
    return codes[:-1] | codes[1:] << 4


def element_areas_mm2(spacing_mm: Sequence[float]) -> np.ndarray:
    """The area in mm² of the surface within each of the 256 patterns, float64; 0 for the two without any."""
    codes, triangles = _triangles()
    corners_mm = triangles * np.array(spacing_mm, dtype=np.float64)
    normals = np.cross(corners_mm[:, 1] - corners_mm[:, 0], corners_mm[:, 2] - corners_mm[:, 0])
    return np.bincount(codes, weights=np.linalg.norm(normals, axis=1) / 2, minlength=_CODES)


@cache
def _triangles() -> tuple[np.ndarray, np.ndarray]:
    """The pattern of each triangle (t,), and its corners (t, 3, 3) in voxels, of all patterns.

    A pattern and its complement share their surface, that of the pattern with fewer voxels: which of the surfaces of
    an ambiguous pattern is meant does not depend on the side.
    """
    from skimage.measure import marching_cubes

    codes, triangles = [], []
    for code in range(1, _CODES - 1):
        fewer = code if code.bit_count() <= 4 else _CODES - 1 - code
        cube = np.array([fewer >> bit & 1 for bit in range(8)], dtype=np.float32).reshape(2, 2, 2)
        corners, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen")
        codes += [code] * len(faces)
        triangles.append(corners[faces].astype(np.float64))
    return np.array(codes), np.concatenate(triangles)
