import pytest

from msseg.challenges.named_files import case_by, named_images, named_predictions
from msseg.challenges.text_lines import first_line, text_lines
from msseg.errors import DatasetError

CASE = case_by(r"(?:.*/)?case_(?P<case>\d+)(?:/imaging)?")


@pytest.fixture
def folder(tmp_path):
    """Images of cases 1 and 2, one flat and of two channels, one in a folder of its own, and what is none."""
    names = ["case_1_0000.nii.gz", "case_1_0001.nii.gz", "case_2/imaging.nii.gz", "case_2/segmentation.nii.gz"]
    for name in [*names, ".hidden/case_3.nii.gz", "._case_4.nii.gz", "case_5.txt", "case_5.probabilities.npz"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_the_first_file_of_each_case_is_its_image(folder):
    found = named_images(folder, CASE)
    assert {case: path.relative_to(folder).as_posix() for case, path in found.items()} == {
        "1": "case_1_0000.nii.gz",
        "2": "case_2/imaging.nii.gz",
    }


def test_two_predictions_of_a_case_and_other_names_are_refused(folder):
    with pytest.raises(DatasetError, match="the same case as"):
        named_predictions(folder, CASE, "p_1.nii.gz")
    (folder / "case_1_0001.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"segmentation\.nii\.gz: a name of no case; .* p_1\.nii\.gz follows"):
        named_predictions(folder, CASE, "p_1.nii.gz")
    (folder / "case_2/segmentation.nii.gz").unlink()
    assert sorted(named_predictions(folder, CASE, "p_1.nii.gz")) == ["1", "2"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        named_images(tmp_path / "nowhere", CASE)


@pytest.mark.parametrize(
    ("text", "lines"), [("", []), ("a", ["a"]), ("a\r\nb\n", ["a", "b"]), ("a\n\n", ["a", ""]), ("\n", [""])]
)
def test_a_text_has_as_many_lines_as_ends_and_a_rest(text, lines):
    assert text_lines(text) == lines


def test_the_first_line_of_what_is_no_text_is_none(tmp_path):
    (tmp_path / "a").write_bytes(b"one\r\ntwo")
    (tmp_path / "b").write_bytes(b"\xff\n")
    (tmp_path / "c").write_bytes(b"")
    assert [first_line(tmp_path / name) for name in "abc"] == ["one", None, ""]
