from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from msseg.data.dataset import read_dataset
from msseg.errors import DatasetError
from msseg.preprocessing import examine
from msseg.preprocessing.examine import examine_dataset, fingerprint_of


@pytest.fixture
def measured_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the cases that are measured, as they are."""
    names: list[str] = []
    measure_case = examine.measure_case

    def noted(name: str, *arguments: object) -> object:
        names.append(name)
        return measure_case(name, *arguments)

    monkeypatch.setattr(examine, "measure_case", noted)
    return names


def test_a_sound_data_set_gives_a_fingerprint_of_all_cases(box_folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(box_folder)
    examination = examine_dataset(dataset, tmp_path / "examined", workers=1)
    assert [p for p in examination.problems if p.severity == "error"] == []
    fingerprint = fingerprint_of(dataset, examination)
    assert [case.name for case in fingerprint.cases] == [f"case_{i}" for i in range(5)]
    assert fingerprint.cases[0].shape == (8, 10, 12)
    assert fingerprint.cases[0].spacing_mm == (2.0, 1.0, 1.0)
    assert fingerprint.cases[0].voxels_per_class == (6 * 5 * 4 - 8, 8)
    assert fingerprint.cases[0].object_sizes_mm3 == ((224.0,), (16.0,))


def test_only_changed_files_are_examined_again(
    box_folder: Path, tmp_path: Path, measured_names: list[str], rewrite_box_case: Callable[[str, int], None]
) -> None:
    first = examine_dataset(read_dataset(box_folder), tmp_path / "examined", workers=1)
    assert len(measured_names) == 5
    measured_names.clear()
    second = examine_dataset(read_dataset(box_folder), tmp_path / "examined", workers=1)
    assert measured_names == [] and second == first
    rewrite_box_case("case_3", 99)
    examine_dataset(read_dataset(box_folder), tmp_path / "examined", workers=1)
    assert measured_names == ["case_3"]


def test_a_damaged_cache_is_written_anew(box_folder: Path, tmp_path: Path, measured_names: list[str]) -> None:
    first = examine_dataset(read_dataset(box_folder), tmp_path / "examined", workers=1)
    cached = tmp_path / "examined" / "case_1.json"
    value = json.loads(cached.read_text())
    cached.write_text("{")
    (tmp_path / "examined" / "case_2.json").write_text(json.dumps({"key": value["key"], "report": []}))
    measured_names.clear()
    assert examine_dataset(read_dataset(box_folder), tmp_path / "examined", workers=1) == first
    assert measured_names == ["case_1", "case_2"]


def test_workers_give_what_one_process_gives(box_folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(box_folder)
    alone = examine_dataset(dataset, tmp_path / "alone", workers=1)
    assert examine_dataset(dataset, tmp_path / "together", workers=2) == alone


def test_all_broken_cases_are_reported_and_left_out(box_folder: Path, tmp_path: Path) -> None:
    (box_folder / "imagesTr" / "case_0_0000.nii.gz").write_bytes(b"not an image")
    (box_folder / "labelsTr" / "case_2.nii.gz").unlink()
    undeclared = nibabel.Nifti1Image(np.full((12, 10, 8), 3, np.uint8), np.diag([1.0, 1.0, 2.0, 1.0]))
    nibabel.save(undeclared, box_folder / "labelsTr" / "case_4.nii.gz")
    dataset = read_dataset(box_folder)
    examination = examine_dataset(dataset, tmp_path / "examined", workers=1)
    assert examination.broken == ("case_0", "case_2", "case_4")
    assert [case.name for case in fingerprint_of(dataset, examination).cases] == ["case_1", "case_3"]
    assert [case.name for case in fingerprint_of(dataset, examination, skip=["case_1"]).cases] == ["case_3"]
    with pytest.raises(DatasetError, match="none of 5"):
        fingerprint_of(dataset, examination, skip=["case_1", "case_3"])


def test_watch_sees_every_case_once(box_folder: Path, tmp_path: Path) -> None:
    seen = []
    dataset = read_dataset(box_folder)
    examine_dataset(
        dataset, tmp_path / "examined", 1, watch=lambda items: (seen.append(item) or item for item in items)
    )
    assert len(seen) == 5


def test_the_axis_from_side_to_side_is_read_where_labels_have_sides(box_folder: Path, tmp_path: Path) -> None:
    plain = read_dataset(box_folder)
    examination = examine_dataset(plain, tmp_path / "examined", workers=1)
    assert fingerprint_of(plain, examination).lateral_axes == ()
    description = json.loads((box_folder / "dataset.json").read_text())
    description["labels"] = {"background": 0, "left box": 1, "right box": 7}
    for declared, axes in ((None, (2,)), ([["left box", "right box"]], (2,)), ([], ())):
        (box_folder / "dataset.json").write_text(json.dumps({**description, "label_pairs": declared}))
        assert fingerprint_of(read_dataset(box_folder), examination).lateral_axes == axes
