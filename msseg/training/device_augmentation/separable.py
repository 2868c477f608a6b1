"""Linear maps along the axes of an image, as one matrix an axis: blur, splines, coarse grids, smooth noise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

_TRUNCATE = 4.0  # standard deviations, as scipy.ndimage.gaussian_filter cuts its kernel


def along_axes(x: torch.Tensor, matrices: Sequence[np.ndarray | None]) -> torch.Tensor:
    """`x` (..., *spatial) with each of the last axes multiplied by its matrix (n_out, n_in); None leaves an axis."""
    first = x.ndim - len(matrices)
    for axis, matrix in enumerate(matrices, start=first):
        if matrix is not None:
            x = _along(x, to_device(matrix, x.device), axis)
    return x


def _along(x: torch.Tensor, matrix: torch.Tensor, axis: int) -> torch.Tensor:
    shape = x.shape
    if axis == x.ndim - 1:
        return (x.reshape(-1, shape[-1]) @ matrix.T).reshape(*shape[:-1], len(matrix))
    rows = x.reshape(-1, shape[axis], shape[axis + 1 :].numel())
    product = torch.bmm(matrix.expand(len(rows), *matrix.shape), rows)
    return product.reshape(*shape[:axis], len(matrix), *shape[axis + 1 :])


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array as float32 on the device; the copy to a GPU does not wait."""
    tensor = torch.from_numpy(np.array(array, np.float32))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def gaussian_matrix(length: int, sigma: float, edge: str) -> np.ndarray:
    """The (n, n) matrix of a Gaussian along an axis; beyond the `edge` is 0 ("zero") or the mirror ("reflect").

    "reflect" repeats the edge voxel itself, as scipy.ndimage does by that name.
    """
    reach = int(_TRUNCATE * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    kernel /= kernel.sum()
    rows = np.repeat(np.arange(length), len(steps))
    columns = rows + np.tile(steps, length)
    weights = np.tile(kernel, length)
    if edge == "reflect":
        columns = _reflected(columns, length)
    inside = (columns >= 0) & (columns < length)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (rows[inside], columns[inside]), weights[inside])
    return matrix


def _reflected(place: np.ndarray, length: int) -> np.ndarray:
    folded = place % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)


@lru_cache(maxsize=256)
def spline_matrix(length: int, padding: int) -> np.ndarray:
    """The (n + 2 padding, n) matrix from values to the coefficients of their cubic B-spline, mirrored beyond the ends.

    The mirror is at the end voxels' centres, as scipy.ndimage has it. Read-only.
    """
    if length == 1:
        return np.ones((1 + 2 * padding, 1))
    values = np.diag(np.full(length, 4 / 6))
    for row in range(length):
        for neighbour in (row - 1, row + 1):
            values[row, _mirrored(neighbour, length)] += 1 / 6
    matrix = np.linalg.inv(values)[[_mirrored(place, length) for place in range(-padding, length + padding)]]
    matrix.setflags(write=False)
    return matrix


def _mirrored(place: int, length: int) -> int:
    folded = place % (2 * length - 2)
    return min(folded, 2 * length - 2 - folded)


@lru_cache(maxsize=256)
def natural_matrix(length: int, points: int) -> np.ndarray:
    """The (n, points) matrix of the natural cubic spline through points from the first voxel to the last. Read-only."""
    places = np.linspace(0, points - 1, length) if length > 1 else np.zeros(1)
    # Second derivatives at the inner points: those of the outer two are 0.
    inner = points - 2
    left = 4 * np.eye(inner) + np.eye(inner, k=1) + np.eye(inner, k=-1)
    differences = np.zeros((inner, points))
    for row in range(inner):
        differences[row, row : row + 3] = 6, -12, 6
    second = np.vstack([np.zeros(points), np.linalg.solve(left, differences), np.zeros(points)])
    lower = np.minimum(places.astype(int), points - 2)
    b = (places - lower)[:, None]
    a = 1 - b
    eye = np.eye(points)
    curved = ((a**3 - a) * second[lower] + (b**3 - b) * second[lower + 1]) / 6
    matrix = a * eye[lower] + b * eye[lower + 1] + curved
    matrix.setflags(write=False)
    return matrix
