from __future__ import annotations

import pickle

from msseg.data.problems import FileError, Problem, problems_table

ERROR = FileError("/data/t/imagesTr/b.nii.gz", "an empty file", "an image", "Copy it again.")


def test_the_message_of_a_file_error_has_all_four_parts():
    assert str(ERROR) == "/data/t/imagesTr/b.nii.gz: an empty file; expected an image. Copy it again."


def test_a_file_error_survives_the_way_from_a_worker_process():
    copy = pickle.loads(pickle.dumps(ERROR))  # noqa: S301
    assert str(copy) == str(ERROR)
    assert copy.as_problem("b") == Problem("b", ERROR.file, "an empty file", "an image", "Copy it again.")


def test_no_problems_make_no_table():
    assert problems_table([]) == ""


def test_the_table_has_errors_first_and_files_below_their_common_folder():
    note = Problem("a", "/data/t/labelsTr/a.nii.gz", "an empty label", "some foreground", "Look at it.", "note")
    lines = problems_table([note, ERROR.as_problem("b")]).splitlines()
    assert lines[0] == "Files are below /data/t"
    assert lines[1].split() == ["case", "file", "found", "expected", "what", "to", "do"]
    assert lines[3].startswith("error  b     imagesTr/b.nii.gz  an empty file")
    assert lines[4].startswith("note   a     labelsTr/a.nii.gz  an empty label")


def test_long_cells_are_wrapped_inside_their_column():
    problem = Problem("a", "/data/a.nii.gz", "word " * 40, "x", "y")
    lines = problems_table([problem]).splitlines()
    assert max(len(line) for line in lines) < 200
    assert sum(line.count("word") for line in lines) == 40
