import numpy as np
import pytest

from msseg.challenges.run_length import (
    RunLengthError,
    decode,
    encode,
    encode_objects,
    order_fault,
    runs_from_text,
    runs_text,
)

# Pixels are numbered down the columns: the first column is 1 to 4, the second 5 to 8.
GRID = np.array(
    [
        [0, 1, 0, 2],
        [1, 1, 0, 2],
        [1, 0, 0, 2],
        [0, 0, 2, 2],
    ]
)


def test_runs_go_down_the_columns_and_count_from_one():
    assert runs_text(encode(GRID == 1)) == "2 2 5 2"


def test_a_run_goes_on_from_the_foot_of_a_column_to_the_head_of_the_next():
    assert runs_text(encode(GRID == 2)) == "12 5"


def test_every_object_has_its_own_runs():
    assert {number: runs_text(runs) for number, runs in encode_objects(GRID).items()} == {1: "2 2 5 2", 2: "12 5"}


def test_an_empty_mask_has_no_runs():
    assert encode(np.zeros((3, 2))).shape == (0, 2)
    assert encode_objects(np.zeros((3, 2), np.uint16)) == {}
    assert runs_text(encode(np.zeros((3, 2)))) == ""


def test_a_full_mask_is_one_run():
    assert runs_text(encode(np.ones((3, 2), bool))) == "1 6"


def test_touching_objects_are_told_apart():
    assert {n: runs_text(r) for n, r in encode_objects(np.array([[7], [7], [3]])).items()} == {3: "3 1", 7: "1 2"}


def test_large_numbers_keep_their_sign_and_size():
    ids = np.array([[65535, 0], [0, 1]], np.uint16)
    assert {n: runs_text(r) for n, r in encode_objects(ids).items()} == {1: "4 1", 65535: "1 1"}


def test_decoding_gives_the_mask_back():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 5, (13, 7))
    for number, runs in encode_objects(ids).items():
        assert np.array_equal(decode(runs_from_text(runs_text(runs)), ids.shape), ids == number)


def test_decoding_refuses_a_run_that_leaves_the_image():
    with pytest.raises(RunLengthError, match="pixel 7; expected at most 6 in 2 x 3"):
        decode(np.array([[5, 3]]), (3, 2))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 2 3", r"odd count of numbers \(3\)"),
        ("1 two", "'two' in the encoding"),
        ("0 2", "'0' in the encoding"),
        ("1 0", "'0' in the encoding"),
        ("-1 2", "'-1' in the encoding"),
        ("1.0 2", "'1.0' in the encoding"),
        ("1 9999999999999999999", "in the encoding"),
    ],
)
def test_what_is_no_encoding_is_refused(text, reason):
    with pytest.raises(RunLengthError, match=reason):
        runs_from_text(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("5 2 1 2", "the run at 1 after that at 5"),
        ("1 3 3 2", "the run at 3 inside that of 1 to 3"),
        ("1 3 1 3", "the run at 1 inside that of 1 to 3"),
    ],
)
def test_runs_out_of_order_or_overlapping_are_found(text, reason):
    assert reason in str(order_fault(runs_from_text(text)))


def test_runs_that_touch_are_in_order():
    assert order_fault(runs_from_text("1 3 4 2")) is None
    assert order_fault(runs_from_text("")) is None
