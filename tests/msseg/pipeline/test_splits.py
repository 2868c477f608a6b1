from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from msseg.errors import DatasetError, PlanError
from msseg.files import read_json, write_json
from msseg.folders import Task
from msseg.pipeline.splits import ensure_splits, groups_of, split_of
from planning.splits import Split

NAMES = [f"p{patient}_{scan}" for patient in range(6) for scan in "ab"]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task("Small", tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "models")


def edited(task: Task, change: dict[str, Any]) -> None:
    path = task.preprocessed / "splits.json"
    write_json(path, {**read_json(path), **change})


def test_folds_are_made_once_and_kept(task: Task) -> None:
    first = ensure_splits(task, NAMES, r"p\d")
    assert ensure_splits(task, list(reversed(NAMES))) == first
    for split in first:
        assert not {name[:2] for name in split.train} & {name[:2] for name in split.validation}


def test_folds_edited_by_hand_are_honoured(task: Task) -> None:
    ensure_splits(task, NAMES)
    mine = {"train": NAMES[:-1], "validation": NAMES[-1:], "note": ""}
    edited(task, {"folds": [mine]})
    assert ensure_splits(task, NAMES) == [Split(tuple(NAMES[:-1]), (NAMES[-1],))]


def test_other_cases_make_new_folds_which_is_said(task: Task, caplog: pytest.LogCaptureFixture) -> None:
    ensure_splits(task, NAMES)
    with caplog.at_level(logging.WARNING, "msseg"):
        ensure_splits(task, NAMES[:-1])
    assert "made anew for 11 cases" in caplog.text


def test_few_cases_are_said_aloud(task: Task, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "msseg"):
        assert len(ensure_splits(task, NAMES[:3])) == 3
    assert "3 cases or groups for 5 folds" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": []}, "at least one fold"),
        ({"folds": [{"train": ["nobody"], "validation": []}]}, r"folds\[0\]: found \['nobody'\]"),
        ({"folds": [{"train": [], "validation": ["p0_a"]}]}, "some to train on"),
        ({"folds": [{"train": "p0_a"}]}, r"folds\[0\]\.validation: found None|folds\[0\]\.train: found 'p0_a'"),
        ({"cases": 3}, r"cases: found 3, expected a list"),
        ({"group_by": 7}, "group_by: found 7"),
    ],
)
def test_malformed_folds_are_refused_by_place(task: Task, change: dict[str, Any], message: str) -> None:
    ensure_splits(task, NAMES)
    edited(task, change)
    with pytest.raises(PlanError, match=message):
        ensure_splits(task, NAMES)


def test_a_list_of_folds_in_another_programs_shape_is_refused(task: Task) -> None:
    write_json(task.preprocessed / "splits.json", [{"train": NAMES[:6], "val": NAMES[6:]}])
    with pytest.raises(PlanError, match="expected an object"):
        ensure_splits(task, NAMES)


def test_a_group_is_the_patterns_first_group_or_its_whole_match() -> None:
    assert groups_of(["p1_a", "p2_b"], r"p(\d)_") == {"p1_a": "1", "p2_b": "2"}
    assert groups_of(["p1_a"], r"p\d") == {"p1_a": "p1"}
    with pytest.raises(DatasetError, match="not a regular expression"):
        groups_of(["p1_a"], "(")
    with pytest.raises(DatasetError, match="not found in 1 case names"):
        groups_of(["p1_a", "q"], r"p\d")


def test_all_trains_on_every_case_and_an_unknown_fold_lists_the_known() -> None:
    splits = [Split(("a",), ("b",)), Split(("b",), ("a",))]
    assert split_of(splits, "all") == Split(("a", "b"), ())
    assert split_of(splits, "1") == splits[1]
    with pytest.raises(DatasetError, match="expected one of 0, 1, all"):
        split_of(splits, "2")


def test_a_data_set_that_names_its_patients_is_grouped_by_them(task: Task) -> None:
    write_json(task.raw / "dataset.json", {"group_by": r"^(p\d)"})
    for split in ensure_splits(task, NAMES):
        assert not {name[:2] for name in split.train} & {name[:2] for name in split.validation}
    assert read_json(task.preprocessed / "splits.json")["group_by"] == r"^(p\d)"


def test_a_grouping_asked_for_goes_before_that_of_the_data_set(task: Task) -> None:
    write_json(task.raw / "dataset.json", {"group_by": r"^(p\d)"})
    ensure_splits(task, NAMES, r"_(\w)")
    assert read_json(task.preprocessed / "splits.json")["group_by"] == r"_(\w)"


def test_a_grouping_that_is_no_text_is_refused(task: Task) -> None:
    write_json(task.raw / "dataset.json", {"group_by": 3})
    with pytest.raises(DatasetError, match="group_by 3; expected a regular expression"):
        ensure_splits(task, NAMES)


def test_folds_that_a_data_set_declares_are_taken_in_their_order(task: Task) -> None:
    declared = [NAMES[4:6], ["gone"], NAMES[:4], [*NAMES[6:], "gone too"]]
    write_json(task.raw / "dataset.json", {"folds": declared, "group_by": r"^(p\d)"})
    splits = ensure_splits(task, NAMES)
    assert [list(split.validation) for split in splits] == [NAMES[4:6], NAMES[:4], NAMES[6:]]
    assert list(splits[0].train) == [*NAMES[:4], *NAMES[6:]]
    assert ensure_splits(task, NAMES) == splits
    assert [len(split.validation) for split in ensure_splits(task, NAMES, r"^(p\d)")] == [4, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([NAMES[:3], NAMES[4:]], "p1_b in no fold"),
        ([NAMES[:4], NAMES[3:]], "p1_b in two folds"),
        ([NAMES], "fewer than two folds"),
    ],
)
def test_declared_folds_that_do_not_hold_each_case_once_are_refused(task: Task, folds: Any, message: str) -> None:
    write_json(task.raw / "dataset.json", {"folds": folds})
    with pytest.raises(DatasetError, match=message):
        ensure_splits(task, NAMES)
