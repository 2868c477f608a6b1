"""How many points a level gets where features are refined at chosen points.

Source: Li et al., Render U-Net (2020): 8096 points (printed so, not 8192) on images of 256 × 256, chosen among three
times as many candidates.
"""

from __future__ import annotations

from typing import Final

_POINTS, _OF_CELLS = 8096, 256 * 256
CANDIDATES_PER_POINT: Final = 3
# A volume's cells outgrow its boundaries; this many points bound the memory of the candidates.
_MOST_POINTS_3D: Final = 32768


def level_points(wanted: int | None, cells: int, cells_per_cell: int, dimensions: int, training: bool) -> int:
    """The points of a level of `cells` cells, each as large as `cells_per_cell` of full resolution.

    `wanted` None scales the paper's number with full resolution.
    """
    points = wanted or scaled_points(cells * cells_per_cell, dimensions)
    return training_points(points, cells) if training else min(points, cells)


def scaled_points(cells: int, dimensions: int) -> int:
    """Points for `cells` cells of full resolution: 8096 for 256 × 256 and in proportion, at most 32768 in 3D."""
    points = max(1, (2 * _POINTS * cells + _OF_CELLS) // (2 * _OF_CELLS))
    return min(points, _MOST_POINTS_3D) if dimensions == 3 else points


def training_points(points: int, cells: int) -> int:
    """`points`, but so few that their candidates are about as many as a level of `cells` cells has."""
    return min(points, -(-cells // CANDIDATES_PER_POINT))
