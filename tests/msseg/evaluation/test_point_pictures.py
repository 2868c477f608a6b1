from __future__ import annotations

import math

import numpy as np

from msseg.evaluation.pictures import save_figure
from msseg.evaluation.point_pictures import ChosenPoints, cells_of, near_boundary, points_figure, share_near_boundary

SQUARE = np.zeros((6, 6), dtype=np.int64)
SQUARE[2:4, 2:4] = 1


def chosen(*coordinates: tuple[float, float]) -> ChosenPoints:
    return ChosenPoints("2²", np.array(coordinates).reshape(-1, 2), (2, 2), whole_cells=True)


def test_cells_hold_the_points_that_lie_in_them() -> None:
    assert cells_of(chosen((0.1, 0.6), (1.0, 1.0))).tolist() == [[False, True], [False, True]]


def test_near_a_boundary_is_within_a_distance_of_the_other_kind() -> None:
    near = near_boundary(SQUARE, 1.0)
    wanted = ["000000", "001100", "011110", "011110", "001100", "000000"]
    assert ["".join(str(int(one)) for one in row) for row in near] == wanted


def test_an_image_without_two_kinds_has_no_boundary() -> None:
    assert not near_boundary(np.ones((4, 4)), 5.0).any()
    assert not near_boundary(np.zeros((4, 4)), 5.0).any()


def test_share_near_the_boundary_counts_points() -> None:
    near = near_boundary(SQUARE, 1.0)
    assert share_near_boundary(chosen((0.5, 0.5), (0.0, 0.0), (0.99, 0.2), (0.4, 0.4)), near) == 0.5
    assert math.isnan(share_near_boundary(chosen(), near))


def test_the_picture_has_a_panel_a_level_and_is_written(tmp_path) -> None:
    dots = ChosenPoints("4²: 2 points", np.array([[0.2, 0.3], [0.9, 0.9]]), (4, 4), whole_cells=False)
    rows = {"training": [dots, dots], "inference": [chosen((0.5, 0.5)), chosen((0.1, 0.9))]}
    figure = points_figure(SQUARE.astype(float), SQUARE, rows)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["training, 4²: 2 points"] * 2 + ["inference, 2²"] * 2
    save_figure(figure, tmp_path / "points.png")
    assert (tmp_path / "points.png").stat().st_size > 0
