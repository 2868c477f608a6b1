"""Distances in millimetres between the surfaces of a segmentation and its reference.

A surface is the set of foreground voxels with at least one of their face neighbours (6 in 3D, 4 in 2D) in the
background; beyond the image's border lies background. Distances run between voxel centres and every surface
voxel weighs the same, as in MONAI; nothing is weighted by the area of the surface element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

# Seconds of a query of the k-d tree, of each target that is about as near as the nearest and has to be looked at, of a
# pair of voxels compared outright, and of a voxel of the box in a distance transform (medians on an AMD EPYC).
_QUERY_S, _CROWD_S, _PAIR_S, _VOXEL_S = 5e-6, 3e-8, 2.5e-9, 1.6e-7
_SAMPLES, _ABOUT_AS_NEAR = 64, 1.25
_NEAR = 2.0  # times the median distance; what lies beyond is asked for apart
_BLOCK_PAIRS = 1 << 21  # compared at a time: 16 MB

METRIC_ORDERS: Mapping[str, float] = {"euclidean": 2.0, "manhattan": 1.0}
DEFAULT_TOLERANCE_MM = 1.0
SURFACE_METRICS = ("hausdorff_mm", "hd95_mm", "assd_mm", "nsd")


@dataclass(frozen=True)
class SurfaceDistances:
    """For each surface voxel of one side the distance in mm to the nearest surface voxel of the other."""

    from_prediction_mm: np.ndarray
    from_reference_mm: np.ndarray


def image_diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Length of the image's diagonal in mm, from outer voxel edge to outer voxel edge."""
    return float(np.linalg.norm(np.multiply(shape, spacing_mm)))


def _infinity(_shape: Sequence[int], _spacing_mm: Sequence[float]) -> float:
    return float("inf")


def _nothing(_shape: Sequence[int], _spacing_mm: Sequence[float]) -> None:
    return None


EMPTY_DISTANCES: Mapping[str, Callable[[Sequence[int], Sequence[float]], float | None]] = {
    "diagonal": image_diagonal_mm,
    "infinity": _infinity,
    "excluded": _nothing,
}


def surface_metrics(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Sequence[float],
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
    empty: str = "diagonal",
    metric: str = "euclidean",
) -> dict[str, float | None]:
    """Hausdorff distance, its 95th percentile, average symmetric surface distance (mm), and surface Dice (0..1).

    The arrays are boolean masks of one shape, `spacing_mm` has an entry an axis. Neither mask holds a voxel: all
    None. Only one does: the distances are what `empty` names (the image's diagonal, infinity, or None =
    excluded), NSD is 0.
    """
    has_prediction, has_reference = bool(prediction.any()), bool(reference.any())
    if not (has_prediction or has_reference):
        return dict.fromkeys(SURFACE_METRICS)
    if not (has_prediction and has_reference):
        penalty_mm = EMPTY_DISTANCES[empty](prediction.shape, spacing_mm)
        return {**dict.fromkeys(SURFACE_METRICS, penalty_mm), "nsd": 0.0}
    distances = surface_distances(prediction, reference, spacing_mm, metric)
    return {
        "hausdorff_mm": hausdorff_mm(distances),
        "hd95_mm": hausdorff_mm(distances, percentile=95.0),
        "assd_mm": assd_mm(distances),
        "nsd": normalised_surface_dice(distances, tolerance_mm),
    }


def hausdorff_mm(distances: SurfaceDistances, percentile: float = 100.0) -> float:
    """The larger of the two directed percentiles of surface distance, in mm; 100 is the Hausdorff distance."""
    sides = (distances.from_prediction_mm, distances.from_reference_mm)
    return max(float(np.percentile(side, percentile)) for side in sides)


def assd_mm(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance in mm: the mean over the surface voxels of both sides together."""
    return float(np.concatenate([distances.from_prediction_mm, distances.from_reference_mm]).mean())


def normalised_surface_dice(distances: SurfaceDistances, tolerance_mm: float = DEFAULT_TOLERANCE_MM) -> float:
    """Share, 0..1, of both sides' surface voxels that lie within `tolerance_mm` of the other surface."""
    both = np.concatenate([distances.from_prediction_mm, distances.from_reference_mm])
    # Distances are sums of rounded squares: a voxel exactly at the tolerance counts as within.
    return float((both <= tolerance_mm * (1 + 1e-9)).mean())


def surface_distances(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float], metric: str = "euclidean"
) -> SurfaceDistances:
    """Distances of the two masks' surface voxels to each other's surface; both masks must hold a voxel.

    Axes of length 1 are left out: a single slice is a 2D image, and not all of its voxels are surface.
    """
    axes = [axis for axis, length in enumerate(prediction.shape) if length > 1] or [0]
    kept = tuple(slice(None) if axis in axes else 0 for axis in range(prediction.ndim))
    prediction, reference = prediction[kept], reference[kept]
    spacing = np.array([spacing_mm[axis] for axis in axes], dtype=np.float64)
    box = bounding_box(prediction | reference)
    predicted, expected = surface_voxels(prediction[box]), surface_voxels(reference[box])
    return SurfaceDistances(
        nearest_mm(predicted, expected, spacing, METRIC_ORDERS[metric]),
        nearest_mm(expected, predicted, spacing, METRIC_ORDERS[metric]),
    )


def surface_voxels(mask: np.ndarray) -> np.ndarray:
    """Mask of the foreground voxels with a face neighbour in the background or beyond the border."""
    padded = np.pad(mask, 1)
    centre = (slice(1, -1),) * mask.ndim
    interior = mask.copy()
    for axis in range(mask.ndim):
        for shifted in (slice(None, -2), slice(2, None)):
            neighbours = (*centre[:axis], shifted, *centre[axis + 1 :])
            interior &= padded[neighbours]
    return mask & ~interior


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around the mask's voxels, of length 0 where there are none."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else slice(0, 0))
    return tuple(box)


def nearest_mm(source: np.ndarray, target: np.ndarray, spacing_mm: np.ndarray, order: float) -> np.ndarray:
    """Distance in mm from each source voxel to the nearest target voxel, in the order of `np.argwhere`.

    Voxels on both sides are at distance 0 and cost nothing. The others are asked of a k-d tree, compared pair by pair,
    or taken from a distance transform of the box, whichever is thought the quickest: the tree where targets are near,
    pairs where few voxels see very many at one distance (a blob within an organ), the transform for noise. The few that
    are much farther off than most (a false blob) do not decide for the others.
    """
    places = np.flatnonzero(source)
    distances = np.zeros(len(places))
    apart = ~target.ravel()[places]
    if not apart.any():
        return distances
    queries, targets = (_positions(flat, source.shape) * spacing_mm for flat in (places[apart], np.flatnonzero(target)))
    tree = KDTree(targets)
    if order != METRIC_ORDERS["euclidean"]:
        distances[apart] = tree.query(queries, p=order)[0]
        return distances
    samples_mm, crowd = _look_around(tree, queries)
    seconds = np.minimum(_QUERY_S + _CROWD_S * crowd, len(targets) * _PAIR_S).mean() * len(queries)
    if seconds > source.size * _VOXEL_S:
        distances[apart] = distance_transform_edt(~target, sampling=spacing_mm).ravel()[places[apart]]
        return distances
    near_mm = _NEAR * float(np.median(samples_mm))
    found = _from_targets(tree, queries, crowd[samples_mm <= near_mm], near_mm)
    far = np.isinf(found)
    if far.any():
        found[far] = _from_targets(tree, queries[far], _look_around(tree, queries[far])[1])
    distances[apart] = found
    return distances


def _positions(flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The indices (n, axes) of places in the flattened array; `np.argwhere` passes over the array again and again."""
    return np.stack(np.unravel_index(flat, shape), axis=1)


def _look_around(tree: KDTree, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a few of the queries the distance in mm to the nearest target, and how many targets are about as near."""
    samples = queries[:: max(len(queries) // _SAMPLES, 1)]
    nearest = tree.query(samples)[0]
    return nearest, tree.query_ball_point(samples, _ABOUT_AS_NEAR * nearest, return_length=True)


def _from_targets(tree: KDTree, queries: np.ndarray, crowd: np.ndarray, most_mm: float = np.inf) -> np.ndarray:
    """Distance in mm from each query to the nearest target, of which `crowd` are about as near, by the quicker way.

    Where that is the tree, infinity for what is not nearer than `most_mm`.
    """
    targets: np.ndarray = tree.data
    if len(targets) * _PAIR_S < _QUERY_S + _CROWD_S * float(crowd.mean()):
        return nearest_of_pairs(queries, targets)
    found: np.ndarray = tree.query(queries, distance_upper_bound=most_mm)[0]
    return found


def nearest_of_pairs(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Euclidean distance from each query (n, axes) to the nearest target (m, axes), all pairs compared in blocks."""
    half_squares = (targets**2).sum(axis=1) / 2
    nearest = np.empty(len(queries))
    step = max(_BLOCK_PAIRS // len(targets), 1)
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        first = (half_squares - block @ targets.T).argmin(axis=1)
        nearest[start : start + step] = np.linalg.norm(block - targets[first], axis=1)
    return nearest
