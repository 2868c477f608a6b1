"""Where the tiles of a sliding window lie, and how much each voxel of a tile counts. Numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_SIGMA_OF_TILE = 1 / 8


def tile_starts(length: int, tile: int, step: float) -> list[int]:
    """Start voxels of the evenly spaced tiles that cover `length`, the last one flush with the end.

    `step` is the largest distance of two starts as a share of the tile, in (0, 1]; less than a voxel counts as one.
    There are ceil((length - tile) / (tile * step)) + 1 tiles, rounded to voxels (halves to even), as in nnU-Net.
    A tile longer than the axis gives [0]; the caller pads first. ValueError: sizes below 1, step out of range.
    """
    if length < 1 or tile < 1 or not 0 < step <= 1:
        raise ValueError(f"length {length} and tile {tile} must be at least 1 and step {step} in (0, 1].")
    room = length - tile
    if room <= 0:
        return [0]
    intervals = math.ceil(room / max(tile * step, 1))
    return [round(room / intervals * index) for index in range(intervals + 1)]


def axis_shares(length: int, tile: int, starts: Sequence[int]) -> np.ndarray:
    """What each tile along one axis counts for in its voxels, float32 (len(starts), tile); at a voxel they sum to 1.

    A tile weighs by `importance_profile`, and its share of a voxel is its weight over that of all tiles there. The
    weight of a tile in space is the product over its axes and the tiles are the product of their starts, so that a
    tile's share in space is the product of its shares along the axes.
    """
    profile = importance_profile(tile)
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += profile
    return np.stack([profile / total[start : start + tile] for start in starts]).astype(np.float32)


def importance_profile(tile: int) -> np.ndarray:
    """Weights of the voxels of a tile along one axis, float64: a Gaussian of an eighth of the tile around its middle.

    The edge lies four standard deviations away, so that none is 0: the smallest is e^-8.
    """
    distance = np.arange(tile) - tile // 2
    return np.exp(-0.5 * (distance / (tile * _SIGMA_OF_TILE)) ** 2)
