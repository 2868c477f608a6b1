import numpy as np
import pytest

from msseg.challenges.object_rows import HEADER, check_object_rows, write_object_rows

SHAPES = {"a": (1, 4, 4), "b": (1, 2, 3)}


@pytest.fixture
def check(tmp_path):
    """Checks rows below the header; the faults as (line, found)."""

    def run(*rows: str, shapes=None, header=HEADER):
        path = tmp_path / "submission.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return [(fault.line, fault.found) for fault in check_object_rows(path, shapes)]

    return run


def test_the_rows_of_a_grid_are_those_worked_out_by_hand(tmp_path):
    ids = np.array([[0, 1, 0, 2], [1, 1, 0, 2], [1, 0, 0, 2], [0, 0, 2, 2]], np.uint16)
    path = tmp_path / "submission.csv"
    counts = write_object_rows(path, [("a", ids), ("b", np.zeros((2, 3), np.uint16))])
    assert path.read_bytes() == b"ImageId,EncodedPixels\na,2 2 5 2\na,12 5\nb,\n"
    assert (counts.images, counts.empty, counts.objects) == (2, 1, 2)
    assert check_object_rows(path, SHAPES) == []


def test_any_map_of_objects_is_written_without_a_fault(tmp_path):
    ids = np.random.default_rng(0).integers(0, 6, (9, 11))
    write_object_rows(tmp_path / "s.csv", [("x", ids)])
    assert check_object_rows(tmp_path / "s.csv", {"x": (1, 9, 11)}) == []


def test_line_ends_of_other_systems_are_taken(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(b"ImageId,EncodedPixels\r\na,1 2\r\n")
    assert check_object_rows(path) == []


@pytest.mark.parametrize("header", ["ImageId;EncodedPixels", "id,EncodedPixels", "\ufeffImageId,EncodedPixels", ""])
def test_another_header_is_a_fault_of_the_first_line(check, header):
    assert check("a,1 2", header=header) == [(1, f"the header {header!r}")]


def test_an_empty_file_has_no_header(tmp_path):
    (tmp_path / "s.csv").write_text("")
    (fault,) = check_object_rows(tmp_path / "s.csv")
    assert (fault.line, fault.found) == (1, "an empty file")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "s.csv").write_bytes(b"\x89PNG\xff")
    (fault,) = check_object_rows(tmp_path / "s.csv")
    assert "not UTF-8" in fault.found


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("a,1 2,3", "the row 'a,1 2,3'"),
        ("a", "the row 'a'"),
        (",1 2", "the row ',1 2'"),
        ("", "the row ''"),
        ('a,"1 2"', "the row 'a,\"1 2\"'"),
        (" a,1 2", "the row ' a,1 2'"),
        ("a,1 2 3", "an odd count of numbers (3)"),
        ("a,1 x", "'x' in the encoding"),
        ("a,0 2", "'0' in the encoding"),
        ("a,5 2 1 2", "the run at 1 after that at 5"),
        ("a,1 3 2 1", "the run at 2 inside that of 1 to 3"),
    ],
)
def test_a_malformed_row_is_named_with_its_line_and_reason(check, row, found):
    assert check("a,14 1", row, "b,") == [(3, found)]


def test_pixels_of_two_objects_are_named_with_both_lines(check):
    assert check("a,1 3", "a,9 2", "a,3 2") == [(4, "pixel 3 of image a, which line 2 has too")]


def test_an_object_inside_a_long_run_is_found_behind_others(check):
    assert check("a,1 9", "a,2 1", "a,8 1") == [
        (3, "pixel 2 of image a, which line 2 has too"),
        (4, "pixel 8 of image a, which line 2 has too"),
    ]


def test_the_same_object_twice_is_one_fault(check):
    assert check("a,1 2 5 2", "a,1 2 5 2") == [(3, "pixel 1 of image a, which line 2 has too")]


def test_equal_pixels_of_two_images_do_not_overlap(check):
    assert check("a,1 3", "b,1 3") == []


def test_an_empty_row_beside_others_is_a_fault(check):
    assert check("a,1 2", "a,") == [(3, "an empty encoding of image a, which has line 2 too")]
    assert check("a,", "a,1 2") == [(2, "an empty encoding of image a, which has line 3 too")]
    assert check("a,", "a,") == [
        (2, "an empty encoding of image a, which has line 3 too"),
        (3, "an empty encoding of image a, which has line 2 too"),
    ]


def test_images_that_are_unknown_or_missing_are_faults(check):
    assert check("a,1 2", "c,1 2", shapes=SHAPES) == [(3, "the unknown image c"), (None, "no row of image b")]


def test_a_run_that_leaves_its_image_is_a_fault(check):
    assert check("a,16 1", "b,6 2", shapes=SHAPES) == [(3, "pixel 7 of image b")]


def test_faults_say_what_was_expected_and_what_to_do(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(f"{HEADER}\na,1 2 3\n")
    (fault,) = check_object_rows(path)
    assert str(fault) == (
        f"{path}, line 2: an odd count of numbers (3); expected pairs of first pixel and length. "
        "Write the file again with msseg_submit."
    )
