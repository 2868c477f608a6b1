import errno

import numpy as np
import pytest

from msseg.challenges.case_writer import CaseWriter
from msseg.challenges.challenge import ConversionOptions
from msseg.challenges.conversion import convert
from msseg.challenges.folder import FOLDER
from msseg.challenges.journal import JOURNAL
from msseg.errors import DatasetError
from msseg.files import read_json

IMAGE = np.arange(12, dtype=np.uint8).reshape(3, 4)
MASK = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]], np.uint8)


@pytest.fixture
def pictures(tmp_path, save):
    """Three images with masks."""
    for name in "abc":
        save(tmp_path / f"pictures/images/{name}.png", IMAGE)
        save(tmp_path / f"pictures/masks/{name}.png", MASK)
    return tmp_path / "pictures"


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*_0000.png")}


def counts(report):
    return report.converted, report.kept, report.is_complete


def test_a_second_run_keeps_everything(pictures, tmp_path):
    assert counts(convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())) == (3, 0, True)
    before = times(tmp_path / "set")
    assert counts(convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())) == (0, 3, True)
    assert times(tmp_path / "set") == before


def test_only_what_was_mended_is_converted_again(pictures, tmp_path, save):
    (pictures / "masks/b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert counts(convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())) == (2, 0, False)
    save(pictures / "masks/b.png", MASK)
    assert counts(convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())) == (1, 2, True)
    assert read_json(tmp_path / "set/dataset.json")["numTraining"] == 3


def test_a_source_that_changed_is_converted_again(pictures, tmp_path, save, load):
    convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    save(pictures / "images/a.png", IMAGE + 1)
    assert counts(convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())) == (1, 2, True)
    assert np.array_equal(load(tmp_path / "set/imagesTr/a_0000.png"), IMAGE + 1)


def test_another_form_of_the_data_set_converts_all_of_it_again(pictures, tmp_path, save, load):
    convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    save(pictures / "images/a.png", np.stack([IMAGE, IMAGE, IMAGE + 1], axis=2))
    assert counts(convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())) == (3, 0, True)
    assert load(tmp_path / "set/imagesTr/b_0000.png").shape == (3, 4, 3)


def test_a_file_that_was_deleted_is_written_again(pictures, tmp_path):
    convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    (tmp_path / "set/labelsTr/c.png").unlink()
    assert counts(convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())) == (1, 2, True)


def test_a_conversion_that_broke_off_leaves_no_description_and_goes_on(pictures, tmp_path, monkeypatch):
    convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    (tmp_path / "set/labelsTr/b.png").unlink()

    def fail(_writer, _source):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(CaseWriter, "__call__", fail)
        convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert not (tmp_path / "set/dataset.json").exists()
    assert counts(convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())) == (1, 2, True)
    assert (tmp_path / "set/dataset.json").exists()


def test_a_conversion_that_broke_off_before_its_first_case_was_done_goes_on(pictures, tmp_path, monkeypatch):
    def fail(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("msseg.challenges.case_writer.write_label", fail)
        convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert list((tmp_path / "set/imagesTr").iterdir())
    assert counts(convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())) == (3, 0, True)


def test_a_journal_that_was_cut_off_costs_its_last_case_only(pictures, tmp_path):
    convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    journal = tmp_path / "set" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-20])
    assert counts(convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())) == (1, 2, True)
    assert counts(convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())) == (0, 3, True)


def test_a_folder_that_holds_other_files_is_left_alone(pictures, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/mine.txt").write_text("keep")
    with pytest.raises(DatasetError, match="did not write"):
        convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    with pytest.raises(DatasetError, match="did not write"):
        convert(FOLDER, pictures, pictures, ConversionOptions())
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["mine.txt"]


def test_a_case_that_the_source_no_longer_has_is_an_error(pictures, tmp_path):
    convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    for folder in ("images", "masks"):
        (pictures / folder / "c.png").unlink()
    report = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    (problem,) = report.problems
    assert problem.remedy == "Delete imagesTr/c_0000.png and labelsTr/c.png, or convert into a new folder."
    assert counts(report) == (0, 2, False)
    (tmp_path / "set/imagesTr/c_0000.png").unlink()
    (tmp_path / "set/labelsTr/c.png").unlink()
    assert counts(convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())) == (0, 2, True)


def test_notes_on_cases_are_kept_too(pictures, tmp_path, save):
    (pictures / "masks/a.png").unlink()
    save(pictures / "masks/a/1.png", MASK)
    save(pictures / "masks/a/2.png", MASK + 1)
    first = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    again = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert again.kept == 3 and again.problems == first.problems and len(first.problems) == 1


def test_several_workers_write_the_same_files(pictures, tmp_path):
    convert(FOLDER, pictures, tmp_path / "one", ConversionOptions(workers=1))
    convert(FOLDER, pictures, tmp_path / "two", ConversionOptions(workers=2))
    for path in (path for path in (tmp_path / "one").rglob("*.png")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_the_summary_counts_cases_and_names_what_is_wrong(pictures, tmp_path):
    (pictures / "masks/b.png").unlink()
    summary = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions()).summary()
    assert "2 cases converted, 0 kept from before (0 of them test cases), 1 errors" in summary
    assert "no label of this name" in summary and "grey in .png; background 0, foreground 1" in summary


def test_where_nothing_can_be_converted_nothing_is_written(pictures, tmp_path):
    for path in (pictures / "images").iterdir():
        path.write_text("not an image")
    report = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert not report.is_complete and "nothing could be converted" in report.summary()
    assert not (tmp_path / "set").exists()
