from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from msseg.data.geometry import Geometry, grid_distance_mm

GRID = Geometry(shape=(3, 5, 9), spacing_mm=(5.0, 1.0, 0.5), origin_mm=(10.0, 20.0, 30.0))


def test_voxel_positions_follow_spacing_direction_and_origin():
    # one step along z is 5 mm up, along y 1 mm back, along x half a mm left
    assert GRID.positions_mm(np.array([[0, 0, 0], [1, 2, 4]])).tolist() == [[10, 20, 30], [12, 22, 35]]


def test_equal_grids_are_no_distance_apart():
    assert grid_distance_mm(GRID, dataclasses.replace(GRID)) == 0.0


def test_a_shifted_grid_is_as_far_away_as_its_shift():
    shifted = dataclasses.replace(GRID, origin_mm=(13.0, 24.0, 30.0))
    assert grid_distance_mm(GRID, shifted) == 5.0


def test_another_spacing_is_measured_at_the_far_corner():
    # 9 voxels along x: the last of them is 8 · 0.1 mm further
    wider = dataclasses.replace(GRID, spacing_mm=(5.0, 1.0, 0.6))
    assert grid_distance_mm(GRID, wider) == pytest.approx(0.8)


def test_a_turned_grid_is_measured_at_the_corner_that_moves_most():
    # x mirrored about the first voxel: the last column, 4 mm out, goes to the other side
    mirrored = dataclasses.replace(GRID, direction=((0, 0, 1), (0, 1, 0), (-1, 0, 0)))
    assert grid_distance_mm(GRID, mirrored) == pytest.approx(8.0)


def test_grids_of_different_shape_have_no_distance():
    with pytest.raises(ValueError, match="no common corners"):
        grid_distance_mm(GRID, dataclasses.replace(GRID, shape=(3, 5, 8)))


def test_a_geometry_survives_the_way_to_a_worker_process():
    assert pickle.loads(pickle.dumps(GRID)) == GRID  # noqa: S301


def test_a_grid_without_spacing_is_no_distance_from_any_of_its_shape():
    elsewhere = dataclasses.replace(GRID, origin_mm=(9.0, 9.0, 9.0), spacing_mm=(5.0, 5.0, 5.0))
    unknown = dataclasses.replace(GRID, has_spacing=False)
    assert grid_distance_mm(elsewhere, unknown) == grid_distance_mm(unknown, elsewhere) == 0.0
    assert grid_distance_mm(elsewhere, GRID) > 0
    assert (unknown.known_spacing_mm, GRID.known_spacing_mm) == (None, GRID.spacing_mm)
