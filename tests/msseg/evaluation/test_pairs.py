from __future__ import annotations

from pathlib import Path

import pytest

from msseg.errors import DatasetError
from msseg.evaluation.pairs import pair_files


def _touch(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


def test_files_pair_whatever_their_endings_and_channel_suffix(tmp_path: Path):
    predictions = _touch(tmp_path / "p", "a.nrrd", "b_0000.nii.gz", "c.mha", "plan.json", ".writing-x.nii.gz")
    references = _touch(tmp_path / "r", "a.nii.gz", "b.nii.gz", "c_0000.nii")
    pairing = pair_files(predictions, references)
    assert [(pair.name, pair.prediction.name) for pair in pairing.pairs] == [
        ("a", "a.nrrd"),
        ("b", "b_0000.nii.gz"),
        ("c_0000", "c.mha"),
    ]
    assert pairing.missing == () and pairing.unexpected == ()


def test_what_has_no_counterpart_is_named(tmp_path: Path):
    pairing = pair_files(_touch(tmp_path / "p", "a.nii.gz", "x.nii.gz"), _touch(tmp_path / "r", "a.nii.gz", "b.nii.gz"))
    assert [pair.name for pair in pairing.pairs] == ["a"]
    assert pairing.missing == ("b",)
    assert pairing.unexpected == ("x",)


def test_an_exact_name_wins_over_one_with_a_suffix(tmp_path: Path):
    predictions = _touch(tmp_path / "p", "a.nii.gz", "a_0000.nii.gz")
    pairing = pair_files(predictions, _touch(tmp_path / "r", "a.nii.gz", "a_0000.nii.gz"))
    assert [(pair.name, pair.prediction.name) for pair in pairing.pairs] == [
        ("a", "a.nii.gz"),
        ("a_0000", "a_0000.nii.gz"),
    ]


def test_two_files_of_one_case_are_refused(tmp_path: Path):
    predictions = _touch(tmp_path / "p", "a.nii.gz", "a.nrrd")
    with pytest.raises(DatasetError, match=r"a\.nrrd.*same case as a\.nii\.gz"):
        pair_files(predictions, _touch(tmp_path / "r", "a.nii.gz"))


def test_missing_and_empty_folders_are_named(tmp_path: Path):
    predictions = _touch(tmp_path / "p", "a.nii.gz")
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        pair_files(predictions, tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="empty: no label file"):
        pair_files(predictions, _touch(tmp_path / "empty"))
