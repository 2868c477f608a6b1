from __future__ import annotations

import numpy as np
import pytest
from skimage.transform import resize

from msseg.preprocessing import label_vote
from msseg.preprocessing.resample import resample_label


def winners_of_indicators(label: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The label of the largest interpolated indicator, and where the largest leads by more than rounding."""
    values = np.unique(label)
    scores = np.stack([resize((label == v).astype(float), shape, 1, mode="edge", anti_aliasing=False) for v in values])
    best, second = np.sort(scores, axis=0)[::-1][:2]
    return values[scores.argmax(axis=0)], best - second > 1e-4


@pytest.mark.parametrize(
    ("old", "new"),
    [((7, 9, 8), (11, 8, 8)), ((1, 15, 14), (1, 20, 9)), ((6, 6, 6), (6, 6, 11)), ((9, 4, 5), (4, 9, 12))],
)
def test_the_largest_indicator_wins_as_when_every_label_is_resized(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    label = np.random.default_rng(0).integers(-1, 5, old).astype(np.int8)
    expected, decided = winners_of_indicators(label, new)
    resampled = resample_label(label, new, 1)
    assert resampled.dtype == label.dtype
    assert decided.mean() > 0.5
    np.testing.assert_array_equal(resampled[decided], expected[decided])


def test_slabs_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.random.default_rng(1).integers(0, 4, (9, 8, 7)).astype(np.uint8)
    whole = resample_label(label, (14, 11, 5), 1)
    monkeypatch.setattr(label_vote, "_SLAB_VOXELS", 60)
    np.testing.assert_array_equal(resample_label(label, (14, 11, 5), 1), whole)


def test_no_label_between_two_others_is_invented() -> None:
    label = np.repeat(np.array([0, 0, 5, 5], np.uint8), 4).reshape(1, 4, 4)
    assert set(np.unique(resample_label(label, (1, 9, 4), 1))) == {0, 5}


def test_a_tie_goes_to_the_nearest_voxel() -> None:
    label = np.array([[[3, 1]]], np.uint8)  # the one new voxel lies on the face between: that rounds up
    np.testing.assert_array_equal(resample_label(label, (1, 1, 1), 1), [[[1]]])


def test_a_tie_that_leaves_out_the_nearest_goes_to_the_smallest() -> None:
    label = np.array([[[1, 1], [2, 2]], [[0, 1], [2, 9]]], np.uint8)  # 1 and 2: three eighths each; nearest is 9
    np.testing.assert_array_equal(resample_label(label, (1, 1, 1), 1), [[[1]]])


def test_order_0_and_the_axis_apart_take_the_nearest() -> None:
    label = np.arange(4, dtype=np.uint8).reshape(4, 1, 1)
    np.testing.assert_array_equal(resample_label(label, (2, 1, 1), 0).ravel(), [1, 3])
    np.testing.assert_array_equal(resample_label(label, (7, 1, 1), 1, separate=0).ravel(), [0, 0, 1, 2, 2, 3, 3])


def test_an_unknown_label_order_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        resample_label(np.zeros((2, 2, 2), np.uint8), (3, 3, 3), 3)
