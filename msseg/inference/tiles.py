"""Where the tiles of a sliding window lie, and how much each voxel of a tile counts. Numpy only."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

_SIGMA_OF_TILE = 1 / 8
_TRUNCATE_SIGMAS = 4.0
_PEAK = 10.0


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


def tile_corners(shape: Sequence[int], tile: Sequence[int], step: float) -> list[tuple[int, ...]]:
    """Lowest corners of all tiles that cover `shape`, the first axis slowest; see `tile_starts`."""
    axes = [tile_starts(length, size, step) for length, size in zip(shape, tile, strict=True)]
    return list(itertools.product(*axes))


def gaussian_importance(tile: Sequence[int]) -> np.ndarray:
    """Weights of the voxels of a tile, float32, positive: a Gaussian around the middle that peaks at 10.

    Its standard deviation is an eighth of the tile along each axis, cut off after four of them; what is zero
    there is raised to the smallest weight that is not, so that every voxel of the image has a weight.
    """
    weights = np.ones((), dtype=np.float64)
    for size in tile:
        weights = np.multiply.outer(weights, _gaussian_profile(size))
    weights = (weights * (_PEAK / weights.max())).astype(np.float32)
    weights[weights == 0] = weights[weights > 0].min()
    return weights


def _gaussian_profile(size: int) -> np.ndarray:
    sigma = size * _SIGMA_OF_TILE
    distance = np.abs(np.arange(size) - size // 2)
    profile = np.exp(-0.5 * (distance / sigma) ** 2)
    profile[distance > int(_TRUNCATE_SIGMAS * sigma + 0.5)] = 0
    return profile
