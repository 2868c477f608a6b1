"""nnU-Net's postprocessing.json as rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from msseg.errors import CheckpointError
from msseg.nnunet.postprocessing import find_postprocessing, read_postprocessing

FUNCTION = "remove_all_but_largest_component_from_segmentation"


def write(folder: Path, functions: list[Any], arguments: list[Any]) -> Path:
    path = folder / "crossval_results_folds_0_1" / "postprocessing.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    means = {"mean": {"1": {"Dice": 0.5}, "2": {"Dice": None}, "(1, 2)": {"Dice": 0.1}}}
    value = {"postprocessing_fns": functions, "postprocessing_kwargs": arguments, "input_folder": means}
    path.write_text(json.dumps({**value, "postprocessed": {"mean": {"1": {"Dice": 0.75}}}}))
    return path


def test_a_list_of_labels_is_one_object_and_a_single_label_is_itself(tmp_path: Path):
    path = write(tmp_path, [FUNCTION, FUNCTION], [{"labels_or_regions": [1, 2]}, {"labels_or_regions": 1}])
    together, each = read_postprocessing(path, num_classes=3)
    assert (together.rule, together.classes) == ("largest_component_together", (1, 2))
    assert (each.rule, each.classes) == ("largest_component_of_each", (1,))
    assert (each.dice_before, each.dice_after) == ({1: 0.5}, {1: 0.75})
    assert together.dice_before == {1: 0.5}


def test_no_functions_are_no_rules(tmp_path: Path):
    assert read_postprocessing(write(tmp_path, [], []), num_classes=3) == []


@pytest.mark.parametrize(
    ("functions", "arguments", "found"),
    [
        (["mine"], [{}], "'mine'"),
        ([FUNCTION], [{"labels_or_regions": 5}], "found 5"),
        ([FUNCTION], [{"labels_or_regions": [[1, 2]]}], "expected some of 1 to 2"),
        ([FUNCTION], [], "no functions with their arguments"),
    ],
)
def test_what_is_not_nnunets_is_refused(functions: list[Any], arguments: list[Any], found: str, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"postprocessing\.json") as error:
        read_postprocessing(write(tmp_path, functions, arguments), num_classes=3)
    assert found in str(error.value)


def test_only_rules_of_the_very_folds_are_taken(tmp_path: Path):
    path = write(tmp_path, [], [])
    assert find_postprocessing(tmp_path, ("0", "1")) == (path, None)
    found, note = find_postprocessing(tmp_path, ("0",))
    assert found is None
    assert note is not None and "crossval_results_folds_0/" in note


def test_a_pickle_of_functions_is_left_aside_with_a_note(tmp_path: Path):
    (tmp_path / "postprocessing.pkl").write_bytes(b"cos\nsystem\n.")
    found, note = find_postprocessing(tmp_path, ("0",))
    assert found is None
    assert note is not None and "a pickle is not read" in note


def test_where_there_is_nothing_nothing_is_said(tmp_path: Path):
    assert find_postprocessing(tmp_path, ("0",)) == (None, None)
