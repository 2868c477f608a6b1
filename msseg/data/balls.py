"""Balls painted into label maps, in mm whatever the voxels are."""

from __future__ import annotations

import numpy as np

from msseg.data.geometry import Geometry


def paint_ball(
    label_zyx: np.ndarray, grid: Geometry, centre_mm: tuple[float, float, float], radius_mm: float, value: int = 1
) -> bool:
    """Whether the centre lies in the grid; if so, the voxels whose centres lie in the ball now hold `value`.

    `centre_mm` is (x, y, z), left-back-up, as `Geometry` has it. The voxel nearest to the centre is painted however
    small the ball is.
    """
    steps_mm = np.asarray(grid.spacing_mm)[:, None] * np.asarray(grid.direction)
    centre = np.linalg.solve(steps_mm.T, np.asarray(centre_mm) - np.asarray(grid.origin_mm))
    nearest = np.rint(centre).astype(int)
    if (nearest < 0).any() or (nearest >= grid.shape).any():
        return False
    # Along each axis the ball reaches as far as its radius over the distance of that axis' planes.
    reach = radius_mm * np.linalg.norm(np.linalg.inv(steps_mm), axis=0)
    low = np.maximum(np.floor(centre - reach).astype(int), 0)
    high = np.minimum(np.ceil(centre + reach).astype(int) + 1, grid.shape)
    offsets = [np.arange(start, stop) - middle for start, stop, middle in zip(low, high, centre, strict=True)]
    z, y, x = np.meshgrid(*offsets, indexing="ij")
    distance_mm = np.linalg.norm(np.stack([z, y, x], axis=-1) @ steps_mm, axis=-1)
    box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    label_zyx[box][distance_mm <= radius_mm] = value
    label_zyx[tuple(nearest)] = value
    return True
