"""How well the cells between thin membranes are parted: Rand and information scores after border thinning.

Arganda-Carreras et al. 2015 (Frontiers in Neuroanatomy 9:142), by which ISBI 2012 ranks. Cells are the components of
the interior over faces; only the pixels that are a cell's in the reference count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

THRESHOLDS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class MembraneScores:
    """V^Rand and V^Info of an image, 0..1; 1 is perfect."""

    rand: float
    information: float


def membrane_scores(interior: np.ndarray, reference_interior: np.ndarray) -> MembraneScores:
    """The scores of a mask (y, x) of the inside of cells against that of the reference, which must not be empty."""
    return score_cells(thinned_cells(interior), _cells(reference_interior))


def best_membrane_scores(interiors: np.ndarray, reference_interiors: np.ndarray) -> tuple[MembraneScores, float]:
    """The scores of probabilities (page, y, x) of the inside, mean over the pages, and V^Rand's threshold.

    Each score is taken at its own best of the thresholds 0, 0.1, …, 1, as the challenge does; above it is inside.
    """
    means = []
    for threshold in THRESHOLDS:
        pages = zip(interiors, reference_interiors, strict=True)
        scores = [membrane_scores(page > threshold, reference) for page, reference in pages]
        means.append((np.mean([one.rand for one in scores]), np.mean([one.information for one in scores])))
    best = int(np.argmax([rand for rand, _ in means]))
    return MembraneScores(float(means[best][0]), float(max(one for _, one in means))), THRESHOLDS[best]


def thinned_cells(interior: np.ndarray) -> np.ndarray:
    """The cells (y, x) grown over the membranes until lines of one pixel part them; int32, 0 on the lines."""
    from skimage.segmentation import watershed

    cells = _cells(interior)
    if cells.max(initial=0) < 2:
        return np.where(cells.max(initial=0) > 0, np.ones_like(cells), cells)
    grown: np.ndarray = watershed(~interior, markers=cells, connectivity=1, watershed_line=True)
    return grown


def _cells(interior: np.ndarray) -> np.ndarray:
    from scipy.ndimage import label

    cells: np.ndarray = label(interior)[0]
    return cells


def score_cells(cells: np.ndarray, reference_cells: np.ndarray) -> MembraneScores:
    """The scores of two maps of cell numbers (y, x), 0 for none; a pixel in no predicted cell is one of its own."""
    inside = reference_cells > 0
    predicted, expected = cells[inside], reference_cells[inside]
    total = len(expected)
    shared = _counts(expected.astype(np.int64) * (int(predicted.max(initial=0)) + 1) + predicted, predicted > 0)
    alone = np.count_nonzero(predicted == 0)
    share, predicted_share, expected_share = (
        counts / total
        for counts in (shared, _counts(predicted, predicted > 0), _counts(expected, np.ones(total, dtype=bool)))
    )
    return MembraneScores(
        _rand(share, predicted_share, expected_share, alone / total**2),
        _information(share, predicted_share, expected_share, alone / total * np.log(total)),
    )


def _counts(numbers: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return np.unique(numbers[counted], return_counts=True)[1]


def _rand(share: np.ndarray, predicted: np.ndarray, expected: np.ndarray, alone: float) -> float:
    """F-score of merging and splitting: pairs of pixels in one cell on both sides, over those on either (eq. 3)."""
    both = np.sum(share**2) + alone
    return float(2 * both / (np.sum(predicted**2) + alone + np.sum(expected**2)))


def _information(share: np.ndarray, predicted: np.ndarray, expected: np.ndarray, alone: float) -> float:
    """Mutual information over the mean of the two entropies (eq. 5); 1 where both sides are one and the same."""
    of_predicted, of_expected = _entropy(predicted) + alone, _entropy(expected)
    mutual = of_predicted + of_expected - _entropy(share) - alone
    if of_predicted + of_expected == 0:
        return 1.0
    return float(2 * mutual / (of_predicted + of_expected))


def _entropy(share: np.ndarray) -> float:
    return float(-np.sum(share * np.log(share)))
