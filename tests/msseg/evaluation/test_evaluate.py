from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import write_label
from msseg.errors import DatasetError
from msseg.evaluation.evaluate import (
    CSV_COLUMNS,
    EvaluationOptions,
    evaluate_case,
    evaluate_folder,
    evaluation_to_json,
    gather,
    measure_case,
    write_evaluation,
)
from msseg.evaluation.tables import aligned, evaluation_table

LABELS = {"kidney": 1, "tumour": 2}
GEOMETRY = Geometry((3, 6, 7), (3.0, 2.0, 2.0), (10.0, -4.0, 7.0))


def _label(**boxes: tuple[slice, slice, slice]) -> np.ndarray:
    label = np.zeros(GEOMETRY.shape, dtype=np.uint8)
    for name, box in boxes.items():
        label[box] = LABELS[name]
    return label


REFERENCE = _label(kidney=np.s_[:, 1:5, 1:5], tumour=np.s_[1:2, 2:4, 2:4])
SHIFTED = _label(kidney=np.s_[:, 1:5, 2:6], tumour=np.s_[1:2, 2:4, 2:4])
NOTHING = np.zeros_like(REFERENCE)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Five references, of which "e" has no tumour; predictions of four, one on another grid."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    without_tumour = np.minimum(REFERENCE, 1)
    for name, label in {"a": REFERENCE, "b": REFERENCE, "c": REFERENCE, "d": REFERENCE, "e": without_tumour}.items():
        write_label(references / f"{name}.nii.gz", label, GEOMETRY)
    write_label(predictions / "a.nii.gz", REFERENCE, GEOMETRY)
    write_label(predictions / "b.nrrd", SHIFTED, GEOMETRY)
    write_label(predictions / "c.nii.gz", REFERENCE, replace(GEOMETRY, origin_mm=(10.0, -4.0, 7.5)))
    write_label(predictions / "e.nii.gz", without_tumour, GEOMETRY)
    write_label(predictions / "z.nii.gz", REFERENCE, GEOMETRY)
    return predictions, references


def test_a_case_is_measured_in_the_spacing_of_its_file(folders: tuple[Path, Path]):
    case = evaluate_case(folders[0] / "b.nrrd", folders[1] / "b.nii.gz", LABELS)
    kidney = case.labels["kidney"]
    # The kidney's 44 voxels of 12 mm³ move by one voxel of 2 mm, the tumour in its middle stays where it is: from
    # the voxel on the near side of the tumour the way to the moved kidney is diagonal.
    assert kidney.reference_ml == pytest.approx(44 * 0.012)
    assert kidney.values["dice"] == pytest.approx(2 * 32 / 88)
    assert kidney.values["hausdorff_mm"] == pytest.approx(8**0.5)
    assert case.labels["tumour"].values["dice"] == 1.0


def test_every_case_ends_in_a_figure_or_in_a_reason(folders: tuple[Path, Path]):
    evaluation = evaluate_folder(*folders, LABELS)
    assert [case.name for case in evaluation.cases] == ["a", "b", "e"]
    assert evaluation.missing == ("d",)
    assert evaluation.unexpected == ("z",)
    assert list(evaluation.failed) == ["c"]
    for named in ("predictions/c.nii.gz", "references/c.nii.gz", "0.5 mm"):
        assert named in evaluation.failed["c"]
    assert not evaluation.complete


def test_means_leave_out_and_count_what_is_not_defined(folders: tuple[Path, Path]):
    evaluation = evaluate_folder(*folders, LABELS)
    tumour, kidney = evaluation.summary["tumour"], evaluation.summary["kidney"]
    assert (tumour.both_empty, tumour.counted["dice"], tumour.mean["dice"]) == (1, 2, 1.0)
    shifted = 2 * 32 / 88
    assert kidney.mean["dice"] == pytest.approx((1 + shifted + 1) / 3)
    assert kidney.pooled["dice"] == pytest.approx(2 * (44 + 32 + 48) / (2 * (44 + 44 + 48)))
    assert evaluation.mean_foreground["dice"] == pytest.approx((kidney.mean["dice"] + 1) / 2)


def test_missed_and_invented_labels_score_zero_and_are_counted():
    cases = [
        measure_case("missed", NOTHING, REFERENCE, (3, 2, 2), LABELS),
        measure_case("invented", REFERENCE, NOTHING, (3, 2, 2), LABELS),
    ]
    summary = gather(cases, LABELS).summary["tumour"]
    assert (summary.missed, summary.invented, summary.mean["dice"]) == (1, 1, 0.0)
    assert summary.mean["hausdorff_mm"] == pytest.approx((9**2 + 12**2 + 14**2) ** 0.5)


def test_a_region_is_measured_as_one_label():
    case = measure_case("a", SHIFTED, REFERENCE, (3, 2, 2), {"kidney and tumour": (1, 2)})
    assert case.labels["kidney and tumour"].values["dice"] == pytest.approx(2 * 36 / 96)


def test_undeclared_values_are_reported_with_their_number():
    strange = REFERENCE.copy()
    strange[0, 0, :3] = 9
    case = measure_case("a", strange, REFERENCE, (3, 2, 2), {"kidney": 1})
    assert case.undeclared == {"prediction": {2: 4, 9: 3}, "reference": {2: 4}}
    assert "9 (3 voxels)" in evaluation_table(gather([case], {"kidney": 1}))


def test_labels_come_from_the_description_of_the_data_set(folders: tuple[Path, Path]):
    description = {"labels": {"0": "background", "1": "organ", "2": "lesion"}}
    (folders[1].parent / "dataset.json").write_text(json.dumps(description))
    assert evaluate_folder(*folders).labels == {"organ": 1, "lesion": 2}
    (folders[1] / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "whole": [1, 2], "lesion": 2}}))
    assert evaluate_folder(*folders).labels == {"whole": (1, 2), "lesion": 2}


def test_labels_without_description_are_the_values_found(folders: tuple[Path, Path]):
    assert evaluate_folder(*folders).labels == {"1": 1, "2": 2}


def test_a_description_without_whole_numbers_is_refused(folders: tuple[Path, Path]):
    (folders[1] / "dataset.json").write_text(json.dumps({"labels": {"organ": "one"}}))
    with pytest.raises(DatasetError, match=r"dataset\.json.*whole numbers"):
        evaluate_folder(*folders)


def test_a_folder_without_any_match_is_an_error(folders: tuple[Path, Path], tmp_path: Path):
    write_label(tmp_path / "other" / "q.nii.gz", REFERENCE, GEOMETRY)
    with pytest.raises(DatasetError, match="none of its files has the name of a reference"):
        evaluate_folder(tmp_path / "other", folders[1], LABELS)


def test_another_executor_gives_the_same_figures(folders: tuple[Path, Path]):
    with ThreadPoolExecutor(2) as executor:
        assert evaluate_folder(*folders, LABELS, executor=executor) == evaluate_folder(*folders, LABELS)


def test_progress_sees_every_pair(folders: tuple[Path, Path]):
    seen: list[str] = []

    def watch(outcomes: Iterable[Any], total: int) -> Iterator[Any]:
        for pair, outcome in outcomes:
            seen.append(f"{pair.name}/{total}")
            yield pair, outcome

    evaluate_folder(*folders, LABELS, watch=watch)
    assert sorted(seen) == ["a/4", "b/4", "c/4", "e/4"]


def test_json_is_strict(tmp_path: Path):
    cases = [
        measure_case(name, NOTHING, label, (3, 2, 2), LABELS, EvaluationOptions(empty="infinity"))
        for name, label in {"missed": REFERENCE, "empty": NOTHING}.items()
    ]
    evaluation = gather(cases, LABELS)
    write_evaluation(evaluation, tmp_path / "evaluation.json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in JSON")

    value = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=refuse)
    assert value == evaluation_to_json(evaluation)
    assert value["cases"][0]["name"] == "empty"
    assert value["cases"][0]["labels"]["kidney"]["dice"] is None
    assert value["cases"][1]["labels"]["kidney"]["hausdorff_mm"] is None
    assert value["cases"][1]["labels"]["kidney"]["dice"] == 0.0


def test_csv_has_a_row_for_each_case_and_label(folders: tuple[Path, Path], tmp_path: Path):
    write_evaluation(evaluate_folder(*folders, LABELS), None, tmp_path / "evaluation.csv")
    with (tmp_path / "evaluation.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [(row["case"], row["label"]) for row in rows] == [(c, k) for c in "abe" for k in LABELS]
    assert rows[-1]["dice"] == ""
    assert float(rows[2]["hausdorff_mm"]) == pytest.approx(8**0.5)


def test_surfaces_can_be_left_out():
    case = measure_case("a", SHIFTED, REFERENCE, (3, 2, 2), LABELS, EvaluationOptions(surfaces=False))
    evaluation = gather([case], LABELS, EvaluationOptions(surfaces=False))
    assert "hausdorff_mm" not in case.labels["kidney"].values
    assert "HD" not in evaluation_table(evaluation)


@pytest.mark.parametrize("wrong", [{"empty": "zero"}, {"metric": "chessboard"}])
def test_unknown_options_are_answered_with_the_known(wrong: dict[str, str]):
    with pytest.raises(ValueError, match=r"known: (diagonal|euclidean)"):
        EvaluationOptions(**wrong)  # type: ignore[arg-type]


def test_table_tells_what_is_left_out(folders: tuple[Path, Path]):
    lines = evaluation_table(evaluate_folder(*folders, LABELS)).splitlines()
    assert lines[0].split()[:3] == ["label", "Dice", "Jaccard"]
    assert "NSD 1 mm" in lines[0]
    assert lines[3].split()[:2] == ["tumour", "1.0000"]
    assert "tumour: in 1 case(s) on neither side, left out of the means." in lines
    assert "No prediction for 1 case(s): d." in lines
    assert any(line.startswith("Not evaluated: ") for line in lines)


def test_columns_are_aligned():
    assert aligned(["label", "Dice"], [["a", "1.00"], ["longer", "0.5"]]).splitlines() == [
        "label   Dice",
        "------  ----",
        "a       1.00",
        "longer   0.5",
    ]


def test_a_real_label_agrees_with_itself(test_data: Path):
    references = test_data / "Task04_Hippocampus" / "labelsTr"
    path = sorted(references.glob("hippocampus_*.nii.gz"))[0]
    case = evaluate_case(path, path, {"Anterior": 1, "Posterior": 2})
    for metrics in case.labels.values():
        assert (metrics.values["dice"], metrics.values["hausdorff_mm"], metrics.values["nsd"]) == (1.0, 0.0, 1.0)
