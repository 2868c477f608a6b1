from __future__ import annotations

import numpy as np
import pytest

from msseg.evaluation.overlap import OverlapCounts, confusion_matrix, counts_of, overlap_metrics

REFERENCE = np.array(
    [
        [0, 0, 0, 0],
        [0, 1, 1, 0],
        [0, 1, 2, 2],
        [0, 0, 2, 2],
    ]
)
PREDICTION = np.array(
    [
        [0, 0, 0, 0],
        [0, 1, 1, 1],
        [0, 0, 2, 2],
        [0, 0, 1, 2],
    ]
)


def test_confusion_counts_each_pair_of_values():
    confusion = confusion_matrix(PREDICTION, REFERENCE, [1, 2])
    expected = [
        [8, 1, 0, 0],  # reference background
        [1, 2, 0, 0],  # reference 1
        [0, 1, 3, 0],  # reference 2
        [0, 0, 0, 0],  # anything else
    ]
    assert confusion.tolist() == expected


def test_metrics_of_a_small_grid_are_the_hand_worked_ratios():
    metrics = overlap_metrics(counts_of(confusion_matrix(PREDICTION, REFERENCE, [1, 2]), [1]))
    # Label 1: two right, two invented, one missed, eleven rightly elsewhere.
    assert metrics == {
        "dice": pytest.approx(4 / 7),
        "jaccard": pytest.approx(2 / 5),
        "accuracy": pytest.approx(13 / 16),
        "precision": pytest.approx(2 / 4),
        "recall": pytest.approx(2 / 3),
    }


def test_a_region_unites_its_labels():
    region = counts_of(confusion_matrix(PREDICTION, REFERENCE, [1, 2]), [1, 2])
    assert region == OverlapCounts(true_positive=6, false_positive=1, false_negative=1, true_negative=8)


def test_values_outside_the_labels_are_counted_apart():
    confusion = confusion_matrix(np.array([7, 1, 0]), np.array([1, 9, 5]), [1])
    assert confusion.tolist() == [[0, 0, 0], [0, 0, 1], [1, 1, 0]]


def test_labels_may_be_unsorted_and_have_gaps():
    label = np.array([255, 7, 0, 7], dtype=np.uint8)
    assert confusion_matrix(label, label, [255, 7]).diagonal().tolist() == [1, 1, 2, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64])
def test_every_integer_type_gives_the_same_counts(dtype: type):
    confusion = confusion_matrix(PREDICTION.astype(dtype), REFERENCE.astype(np.uint8), [1, 2])
    assert np.array_equal(confusion, confusion_matrix(PREDICTION, REFERENCE, [1, 2]))


def test_blocks_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch):
    whole = confusion_matrix(PREDICTION, REFERENCE, [1, 2])
    monkeypatch.setattr("msseg.evaluation.overlap._BLOCK_VOXELS", 5)
    assert np.array_equal(confusion_matrix(PREDICTION, REFERENCE, [1, 2]), whole)


def test_empty_on_both_sides_is_not_defined():
    assert set(overlap_metrics(OverlapCounts(0, 0, 0, 9)).values()) == {None}


@pytest.mark.parametrize("counts", [OverlapCounts(0, 4, 0, 5), OverlapCounts(0, 0, 4, 5)])
def test_empty_on_one_side_scores_zero(counts: OverlapCounts):
    metrics = overlap_metrics(counts)
    assert metrics.pop("accuracy") == pytest.approx(5 / 9)
    assert set(metrics.values()) == {0.0}
    assert counts.one_empty and not counts.both_empty


def test_dice_follows_from_jaccard():
    rng = np.random.default_rng(3)
    for _ in range(20):
        prediction, reference = rng.integers(0, 3, size=(2, 5, 6, 7))
        metrics = overlap_metrics(counts_of(confusion_matrix(prediction, reference, [1, 2]), [2]))
        assert metrics["jaccard"] is not None
        assert metrics["dice"] == pytest.approx(2 * metrics["jaccard"] / (1 + metrics["jaccard"]))


def test_counts_are_the_sums_of_boolean_masks():
    rng = np.random.default_rng(4)
    prediction, reference = rng.integers(0, 4, size=(2, 8, 9, 10))
    counts = counts_of(confusion_matrix(prediction, reference, [1, 2, 3]), [3])
    assert counts.true_positive == ((prediction == 3) & (reference == 3)).sum()
    assert counts.false_positive == ((prediction == 3) & (reference != 3)).sum()
    assert counts.false_negative == ((prediction != 3) & (reference == 3)).sum()
    assert counts.true_negative == ((prediction != 3) & (reference != 3)).sum()


def test_arrays_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        confusion_matrix(np.zeros((2, 3)), np.zeros((3, 2)), [1])
