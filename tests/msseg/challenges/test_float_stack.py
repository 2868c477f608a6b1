import numpy as np
import pytest
import tifffile

from msseg.challenges.float_stack import check_float_stack, write_float_stack

SHAPES = [(3, 4), (3, 4)]


def pages(value=0.5, count=2, dtype=np.float32, shape=(3, 4)):
    return np.full((count, *shape), value, dtype)


def faults(path):
    return [(fault.line, fault.found) for fault in check_float_stack(path, SHAPES)]


def write(path, array):
    tifffile.imwrite(path, array, photometric="minisblack")
    return path


def test_what_is_written_is_read_back_as_floats_page_by_page(tmp_path):
    stack = np.random.default_rng(0).random((2, 3, 4))
    assert write_float_stack(tmp_path / "s.tif", stack) == 2
    with tifffile.TiffFile(tmp_path / "s.tif") as file:
        assert [(page.dtype, page.shape) for page in file.pages] == [(np.float32, (3, 4))] * 2
        assert np.array_equal(np.stack([page.asarray() for page in file.pages]), stack.astype(np.float32))
    assert faults(tmp_path / "s.tif") == []


def test_a_stack_of_another_program_is_checked_page_by_page_too(tmp_path):
    assert faults(write(tmp_path / "s.tif", pages())) == []


def test_the_number_of_pages_is_checked(tmp_path):
    assert faults(write(tmp_path / "s.tif", pages(count=3))) == [(None, "3 pages")]
    assert faults(write(tmp_path / "s.tif", pages(count=1))) == [(None, "1 page")]


def test_the_size_of_a_page_is_checked(tmp_path):
    found = faults(write(tmp_path / "s.tif", pages(shape=(4, 3))))
    assert found == [(1, "3 x 4 pixels"), (2, "3 x 4 pixels")]


@pytest.mark.parametrize(("dtype", "word"), [(np.uint8, "uint8"), (np.float64, "float64"), (np.uint16, "uint16")])
def test_the_type_is_checked(tmp_path, dtype, word):
    found = faults(write(tmp_path / "s.tif", pages(1, dtype=dtype)))
    assert found == [(1, f"values of type {word}"), (2, f"values of type {word}")]


def test_the_page_with_a_value_out_of_range_is_named(tmp_path):
    stack = pages()
    stack[1, 0, 0] = 255
    assert faults(write(tmp_path / "s.tif", stack)) == [(2, "values from 0.5 to 255")]


def test_values_that_are_no_numbers_are_counted(tmp_path):
    stack = pages()
    stack[1, 0, :2] = np.nan
    assert faults(write(tmp_path / "s.tif", stack)) == [(2, "2 values that are no numbers (NaN)")]


def test_a_fault_of_a_page_says_so(tmp_path):
    (fault, _) = check_float_stack(write(tmp_path / "s.tif", pages(2)), SHAPES)
    assert str(fault).startswith(f"{tmp_path / 's.tif'}, page 1: values from 2 to 2; expected 0 to 1.")


@pytest.mark.parametrize("content", [b"", b"no image at all", b"II"])
def test_a_file_that_is_no_tiff_is_a_fault(tmp_path, content):
    (tmp_path / "s.tif").write_bytes(content)
    ((line, found),) = faults(tmp_path / "s.tif")
    assert line is None and "no readable TIFF" in found


def test_a_file_that_ends_too_early_is_a_fault(tmp_path):
    path = write(tmp_path / "s.tif", pages(shape=(300, 400)))
    path.write_bytes(path.read_bytes()[:100_000])
    assert check_float_stack(path, [(300, 400)] * 2)
