from __future__ import annotations

import numpy as np

from msseg.evaluation.object_errors import ObjectErrors, object_errors


def lists(errors: ObjectErrors) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    return tuple(
        {verdict: numbers.tolist() for verdict, numbers in side.items() if len(numbers)}
        for side in (errors.reference, errors.prediction)
    )


def row(*runs: tuple[int, int]) -> np.ndarray:
    """A map of one row from (number, pixels)."""
    return np.concatenate([np.full(pixels, number) for number, pixels in runs])[None]


def test_the_same_maps_under_other_numbers_are_found():
    reference, prediction = row((7, 4), (0, 2), (2, 4)), row((1, 4), (0, 2), (90000, 4))
    assert lists(object_errors(prediction, reference)) == ({"found": [2, 7]}, {"found": [1, 90000]})


def test_an_object_alone_is_missed_or_false():
    reference, prediction = row((1, 4), (0, 6)), row((0, 6), (3, 4))
    assert lists(object_errors(prediction, reference)) == ({"missed": [1]}, {"false": [3]})


def test_half_an_overlap_is_none():
    # 4 shared pixels of 8 in the union: an intersection over union of exactly one half.
    reference, prediction = row((1, 8), (0, 4)), row((1, 4), (0, 8))
    assert lists(object_errors(prediction, reference)) == ({"missed": [1]}, {"false": [1]})


def test_two_objects_in_one_prediction_are_merged():
    reference, prediction = row((1, 5), (2, 5)), row((9, 10))
    assert lists(object_errors(prediction, reference)) == ({"merged": [1, 2]}, {"merged": [9]})


def test_of_a_large_and_a_small_object_merged_the_large_one_is_found():
    reference, prediction = row((1, 9), (2, 3)), row((9, 12))
    assert lists(object_errors(prediction, reference)) == ({"found": [1], "merged": [2]}, {"found": [9]})


def test_an_object_in_pieces_is_split():
    reference, prediction = row((4, 12)), row((1, 4), (2, 4), (3, 4))
    assert lists(object_errors(prediction, reference)) == ({"split": [4]}, {"split": [1, 2, 3]})


def test_a_small_piece_cut_off_leaves_the_object_found():
    reference, prediction = row((4, 10)), row((1, 8), (2, 2))
    assert lists(object_errors(prediction, reference)) == ({"found": [4]}, {"found": [1], "split": [2]})


def test_every_object_of_noise_has_one_verdict():
    rng = np.random.default_rng(0)
    reference, prediction = rng.integers(0, 30, (2, 40, 40))
    errors = object_errors(prediction, reference)
    for side in (errors.reference, errors.prediction):
        assert np.array_equal(np.sort(np.concatenate(list(side.values()))), np.arange(1, 30))


def test_empty_maps_have_no_errors():
    empty, one = np.zeros((3, 3), np.uint16), np.ones((3, 3), np.uint16)
    assert lists(object_errors(empty, empty)) == ({}, {})
    assert object_errors(empty, one).counts() == {"found": 0, "missed": 1, "merged": 0, "split": 0, "false": 0}
