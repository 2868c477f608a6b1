from __future__ import annotations

import numpy as np
import pytest
import torch

from msseg.inference.collectors import LargestClass
from msseg.inference.export import in_file_order, resampled_labels, uncropped
from msseg.inference.score_stream import ScoreStream
from msseg.preprocessing.resample import axis_weights


def full_resampling(logits: np.ndarray, new_shape: tuple[int, ...], orders: tuple[int, ...]) -> np.ndarray:
    """All classes at full size, one weight matrix an axis."""
    for axis, (new, order) in enumerate(zip(new_shape, orders, strict=True), start=1):
        weights = axis_weights(logits.shape[axis], new, order)
        logits = np.moveaxis(np.tensordot(weights, logits, axes=(1, axis)), 0, axis)
    return logits


def random_logits(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("new_shape", [(9, 11, 13), (20, 17, 30), (5, 6, 7), (9, 30, 13), (1, 1, 1)])
@pytest.mark.parametrize("separate", [None, 0, 1, 2])
def test_slab_by_slab_equals_resampling_all_classes_and_then_taking_the_largest(monkeypatch, new_shape, separate):
    monkeypatch.setattr("msseg.inference.score_stream._SLAB_VOXELS", {"cpu": 300})
    logits = random_logits((4, 9, 11, 13))
    orders = tuple(0 if axis == separate else 1 for axis in range(3))
    expected = full_resampling(logits, new_shape, orders)
    labels = resampled_labels(torch.from_numpy(logits), new_shape, 1, separate)
    assert labels.shape == new_shape and labels.dtype == np.uint8
    chosen = np.take_along_axis(expected, labels[None].astype(int), 0)[0]
    np.testing.assert_allclose(chosen, expected.max(0), atol=1e-5)
    assert np.mean(labels == expected.argmax(0)) > 0.999


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("separate", [None, 0, 1, 2])
@pytest.mark.parametrize("order", [0, 1])
def test_slabs_of_any_thickness_along_any_axis_give_the_labels_of_the_whole(monkeypatch, axis, separate, order):
    monkeypatch.setattr("msseg.inference.score_stream._SLAB_VOXELS", {"cpu": 300})
    rng = np.random.default_rng(axis)
    for new_shape in [(9, 11, 13), (20, 17, 30), (5, 6, 7), (9, 30, 13), (1, 1, 1), (40, 3, 13)]:
        logits = torch.from_numpy(random_logits((4, 9, 11, 13)))
        largest = LargestClass(4, new_shape, axis)
        stream = ScoreStream([largest], (9, 11, 13), new_shape, order, separate, axis)
        by_rows, start = logits.movedim(1 + axis, 1), 0
        while start < by_rows.shape[1]:
            stop = start + int(rng.integers(1, 5))
            stream.push(by_rows[:, start:stop])
            start = stop
        expected = resampled_labels(logits, new_shape, order, separate)
        assert stream.is_done
        found = largest.labels()
        assert found.shape == new_shape and found.dtype == np.uint8
        orders = tuple(0 if number == separate else order for number in range(3))
        scores = full_resampling(logits.numpy(), new_shape, orders)
        chosen = np.take_along_axis(scores, found[None].astype(int), 0)[0]
        np.testing.assert_allclose(chosen, scores.max(0), atol=1e-5)
        assert np.mean(found == expected) > 0.999


def test_a_slab_may_be_written_over_once_it_was_taken():
    logits = torch.from_numpy(random_logits((3, 6, 4, 4)))
    largest = LargestClass(3, (13, 4, 5))
    stream = ScoreStream([largest], (6, 4, 4), (13, 4, 5), 1)
    for row in range(6):
        slab = logits[:, row : row + 1].clone()
        stream.push(slab)
        slab.fill_(torch.nan)
    np.testing.assert_array_equal(largest.labels(), resampled_labels(logits, (13, 4, 5), 1))


def test_order_0_takes_the_nearest_scores():
    logits = random_logits((3, 4, 5, 6))
    expected = full_resampling(logits, (8, 5, 3), (0, 0, 0)).argmax(0)
    np.testing.assert_array_equal(resampled_labels(torch.from_numpy(logits), (8, 5, 3), 0), expected)


def test_the_same_grid_gives_the_largest_score():
    logits = random_logits((5, 6, 7, 8))
    np.testing.assert_array_equal(resampled_labels(torch.from_numpy(logits), (6, 7, 8), 1), logits.argmax(0))


def test_scores_of_half_precision_are_taken():
    logits = random_logits((3, 4, 4, 4), np.float16)
    expected = full_resampling(logits.astype(np.float32), (7, 6, 5), (1, 1, 1)).argmax(0)
    labels = resampled_labels(torch.from_numpy(logits), (7, 6, 5), 1)
    assert np.mean(labels == expected) > 0.99


def test_a_tie_goes_to_the_lower_class():
    logits = torch.zeros((3, 1, 1, 3))
    logits[1:, 0, 0, 1] = 2
    logits[2, 0, 0, 2] = 1
    np.testing.assert_array_equal(resampled_labels(logits, (1, 1, 3), 1), [[[0, 1, 2]]])


def test_the_scores_are_left_as_they_were():
    logits = torch.from_numpy(random_logits((3, 4, 4, 4)))
    before = logits.clone()
    resampled_labels(logits, (4, 4, 4), 1)
    resampled_labels(logits, (6, 6, 6), 1)
    assert torch.equal(logits, before)


def test_more_than_256_classes_take_two_bytes():
    logits = torch.zeros((300, 1, 1, 2))
    logits[299, 0, 0, 1] = 1
    labels = resampled_labels(logits, (1, 1, 2), 1)
    assert labels.dtype == np.uint16 and labels.tolist() == [[[0, 299]]]


def test_an_unknown_order_names_the_known_ones():
    with pytest.raises(ValueError, match=r"score order 2; known are \[0, 1\]"):
        resampled_labels(torch.zeros((2, 2, 2, 2)), (2, 2, 2), 2)


def test_outside_the_crop_is_background():
    label = np.array([[[1, 2]]], np.uint8)
    whole = uncropped(label, [(0, 1), (1, 2), (1, 3)], (1, 2, 4))
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, [[[0, 0, 0, 0], [0, 1, 2, 0]]])


@pytest.mark.parametrize("axis_order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_file_order_undoes_the_plans_order(axis_order):
    volume = np.arange(24).reshape(2, 3, 4)
    restored = in_file_order(volume.transpose(axis_order), axis_order)
    np.testing.assert_array_equal(restored, volume)
    assert restored.flags.c_contiguous
