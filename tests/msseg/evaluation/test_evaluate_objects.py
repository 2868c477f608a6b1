from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import write_label
from msseg.errors import DatasetError
from msseg.evaluation.case import EvaluationOptions, measure_case
from msseg.evaluation.evaluate import (
    CSV_COLUMNS,
    OBJECT_COLUMNS,
    evaluate_folder,
    evaluation_to_json,
    gather,
    write_evaluation,
)
from msseg.evaluation.object_summary import summarise_objects
from msseg.evaluation.tables import evaluation_table
from msseg.pipeline.evaluation import evaluate

# One object of two is found; the third that is predicted is nowhere.
REFERENCE = np.array([[[1, 1, 0, 0, 2, 2, 0, 0]]], np.uint16)
PREDICTION = np.array([[[7, 7, 0, 0, 0, 0, 0, 300]]], np.uint16)
NOTHING = np.zeros_like(REFERENCE)
GEOMETRY = Geometry(REFERENCE.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
OBJECTS = EvaluationOptions(instances=True, surfaces=False)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two cases, one of them without objects; the references are in a folder `labels` below a dataset.json."""
    predictions, references = tmp_path / "predictions", tmp_path / "labels"
    for name, prediction, reference in (("a", PREDICTION, REFERENCE), ("b", NOTHING, NOTHING)):
        write_label(predictions / f"{name}.nii.gz", prediction, GEOMETRY)
        write_label(references / f"{name}.nii.gz", reference, GEOMETRY)
    description = {"labels": {"background": 0, "nucleus": 1}, "instances": True}
    (tmp_path / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return predictions, references


def test_pixels_are_measured_of_all_objects_as_one_label():
    case = measure_case("a", PREDICTION, REFERENCE, (1, 1, 1), {"nucleus": 255}, OBJECTS)
    assert case.labels["nucleus"].values["dice"] == pytest.approx(4 / 7)
    assert not case.undeclared
    assert case.objects is not None and case.objects.values["object_f1"] == 0.5


def test_objects_are_not_measured_unless_asked_for():
    case = measure_case("a", REFERENCE, REFERENCE, (1, 1, 1), {"one": 1, "two": 2})
    assert case.objects is None and gather([case], {"one": 1, "two": 2}).objects is None


def test_a_prediction_of_one_value_is_a_mask_of_components():
    mask = (REFERENCE > 0) * np.uint8(255)
    case = measure_case("a", mask, REFERENCE, (1, 1, 1), {"nucleus": 1}, OBJECTS)
    assert case.objects is not None and case.objects.counts.predicted == 2
    assert set(case.objects.values.values()) == {1.0}


def test_several_labels_are_refused():
    with pytest.raises(DatasetError, match="expected one label of one value"):
        measure_case("a", PREDICTION, REFERENCE, (1, 1, 1), {"one": 1, "two": 2}, OBJECTS)


def test_means_leave_out_cases_without_objects_and_the_pool_counts_all():
    cases = [
        measure_case(name, prediction, reference, (1, 1, 1), {"nucleus": 1}, OBJECTS)
        for name, prediction, reference in (
            ("a", PREDICTION, REFERENCE),
            ("b", NOTHING, NOTHING),
            ("c", REFERENCE, REFERENCE),
            ("d", NOTHING, REFERENCE),
        )
    ]
    summary = summarise_objects(cases)
    assert summary is not None
    assert (summary.counted, summary.both_empty) == (3, 1)
    assert summary.mean["object_f1"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert summary.pooled["object_f1"] == pytest.approx(2 * 3 / (4 + 6))


def test_a_dataset_json_beside_the_references_tells_that_they_number_objects(folders: tuple[Path, Path]):
    evaluation = evaluate_folder(*folders)
    assert evaluation.options.instances and evaluation.labels == {"nucleus": 1}
    assert evaluation.objects is not None and evaluation.objects.mean["object_precision"] == 0.5
    assert evaluation.objects.both_empty == 1


def test_what_was_asked_for_goes_before_what_lies_beside(folders: tuple[Path, Path]):
    assert evaluate_folder(*folders, options=EvaluationOptions(instances=False)).objects is None
    assert evaluate_folder(*folders, {"one": 1, "two": 2}).objects is None


def test_a_folder_called_instances_numbers_objects(folders: tuple[Path, Path]):
    predictions, references = folders
    (references.parent / "dataset.json").unlink()
    renamed = references.rename(references.with_name("instances"))
    evaluation = evaluate_folder(predictions, renamed)
    assert evaluation.objects is not None and evaluation.labels == {"object": 1}


def test_figures_are_written_down(folders: tuple[Path, Path], tmp_path: Path):
    evaluation = evaluate_folder(*folders)
    write_evaluation(evaluation, tmp_path / "e.json", tmp_path / "e.csv")
    written = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(evaluation_to_json(evaluation)))
    half = written["objects"]["counts"]["thresholds"]["0.50"]
    assert (half["true_positive"], half["false_positive"], half["false_negative"]) == (1, 1, 1)
    assert written["cases"][0]["objects"]["object_f1"] == 0.5
    assert written["cases"][1]["objects"]["object_f1"] is None
    rows = list(csv.DictReader((tmp_path / "e.csv").read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == [*CSV_COLUMNS, *OBJECT_COLUMNS]
    assert (rows[0]["object_f1"], rows[0]["reference_objects"], rows[1]["aji"]) == ("0.5", "2", "")
    assert "objects, IoU above 0.5" in evaluation_table(evaluation)
    assert "1 case(s) without an object on either side" in evaluation_table(evaluation)


def test_the_distance_between_surfaces_can_be_manhattans(folders: tuple[Path, Path]):
    references = folders[1]
    shifted, corner = np.zeros((1, 6, 6), np.uint8), np.zeros((1, 6, 6), np.uint8)
    shifted[0, 4, 5] = corner[0, 1, 1] = 1
    geometry = Geometry(corner.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    write_label(folders[0] / "b.nii.gz", shifted, geometry)
    write_label(references / "b.nii.gz", corner, geometry)
    for distance, expected in {"euclidean": 5.0, "manhattan": 7.0}.items():
        evaluation = evaluate(*folders, distance=distance, workers=1)
        assert evaluation.cases[1].labels["nucleus"].values["hausdorff_mm"] == expected


def test_a_folder_of_one_mask_an_object_is_a_reference(tmp_path: Path):
    geometry = Geometry(REFERENCE.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), has_spacing=False)
    for number in (1, 2):
        mask = np.where(np.equal(REFERENCE, number), 255, 0).astype(np.uint8)
        write_label(tmp_path / "stage1" / "a" / "masks" / f"{number}.png", mask, geometry)
    write_label(tmp_path / "predictions" / "a.png", REFERENCE * np.uint16(3), geometry)
    (tmp_path / "predictions" / "pictures").mkdir()
    evaluation = evaluate_folder(tmp_path / "predictions", tmp_path / "stage1")
    assert evaluation.complete and not evaluation.unexpected
    assert evaluation.objects is not None and evaluation.objects.pooled["aji"] == 1
    assert not evaluation.has_spacing and "HD px" in evaluation_table(evaluation)
