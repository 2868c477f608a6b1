from __future__ import annotations

import numpy as np
import pytest

from msseg.evaluation.membranes import best_membrane_scores, membrane_scores, score_cells, thinned_cells


def test_equal_cells_are_perfect():
    cells = np.array([[1, 1, 0, 2, 2]])
    scores = score_cells(cells * 7, cells)
    assert (scores.rand, scores.information) == (pytest.approx(1.0), pytest.approx(1.0))


def test_rand_score_of_merged_cells_is_worked_out_by_hand():
    # Two cells of 2 and 3 pixels in one of 5: shared (4 + 9) / 25, predicted 25 / 25, expected 13 / 25.
    scores = score_cells(np.array([[1, 1, 1, 1, 1]]), np.array([[1, 1, 2, 2, 2]]))
    assert scores.rand == pytest.approx(2 * 13 / (25 + 13))
    assert scores.information == pytest.approx(0.0)  # one cell tells nothing of the two


def test_pixels_of_no_predicted_cell_are_cells_of_their_own():
    # Of four pixels two are lost: shared 2² + 2 · 1², predicted the same, expected 4².
    scores = score_cells(np.array([[3, 3, 0, 0]]), np.array([[1, 1, 1, 1]]))
    assert scores.rand == pytest.approx(2 * 6 / (6 + 16))


def test_membranes_of_the_reference_do_not_count():
    reference = np.array([[1, 1, 0, 0, 2, 2]])
    scores = [score_cells(np.array([row]), reference) for row in ([1, 1, 0, 0, 2, 2], [1, 1, 1, 2, 2, 2])]
    assert scores[0] == scores[1]


def test_scores_equal_those_of_the_definition_over_all_pairs_of_pixels():
    rng = np.random.default_rng(0)
    reference, cells = rng.integers(0, 4, (2, 9, 8))
    inside = reference > 0
    expected, predicted = reference[inside], cells[inside].astype(float)
    predicted[predicted == 0] = -1 - np.arange(np.count_nonzero(predicted == 0))  # each its own
    same_expected = expected[:, None] == expected[None]
    same_predicted = predicted[:, None] == predicted[None]
    both = np.count_nonzero(same_expected & same_predicted)
    rand = 2 * both / (np.count_nonzero(same_expected) + np.count_nonzero(same_predicted))
    assert score_cells(cells, reference).rand == pytest.approx(rand)


def test_information_score_equals_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="comes with MONAI's extras")
    reference, cells = np.random.default_rng(1).integers(1, 5, (2, 10, 10))
    expected = metrics.normalized_mutual_info_score(reference.ravel(), cells.ravel(), average_method="arithmetic")
    assert score_cells(cells, reference).information == pytest.approx(expected)


def test_thick_membranes_are_thinned_to_a_line():
    interior = np.ones((5, 9), dtype=bool)
    interior[:, 3:6] = False
    cells = thinned_cells(interior)
    assert (cells == 0).sum(axis=1).tolist() == [1] * 5
    assert set(np.unique(cells)) == {0, 1, 2}


def test_the_width_of_a_membrane_is_forgiven_but_not_its_gap():
    reference = np.ones((9, 9), dtype=bool)
    reference[:, 4] = False
    wide, gap = reference.copy(), reference.copy()
    wide[:, 3:6] = False
    gap[4, 4] = True
    assert membrane_scores(wide, reference).rand == pytest.approx(1.0)
    assert membrane_scores(gap, reference).rand == pytest.approx(2 * 0.5 / (1 + 0.5))


def test_without_cells_every_pixel_is_alone():
    scores = membrane_scores(np.zeros((2, 2), dtype=bool), np.ones((2, 2), dtype=bool))
    assert scores.rand == pytest.approx(2 * 4 / (4 + 16))


def test_the_best_threshold_is_found():
    reference = np.ones((1, 9, 9), dtype=bool)
    reference[:, :, 4] = False
    probability = np.where(reference, 0.9, 0.55)
    scores, threshold = best_membrane_scores(probability, reference)
    assert (scores.rand, threshold) == (pytest.approx(1.0), 0.6)
