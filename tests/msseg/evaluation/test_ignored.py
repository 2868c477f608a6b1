"""What nobody annotated: no figure depends on what a segmentation has there, and it counts as nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import write_label
from msseg.errors import DatasetError
from msseg.evaluation.case import EvaluationOptions, measure_case
from msseg.evaluation.evaluate import evaluate_folder, evaluation_to_json
from msseg.evaluation.label_names import ignored_beside, labels_beside, split_ignored
from msseg.evaluation.rankings import RANKINGS
from msseg.evaluation.tables import evaluation_table

IGNORE = 4
LABELS = {"one": 1, "both": (1, 2), "three": 3}
SPACING_MM = (3.0, 1.0, 1.0)


def blobs(seed, shape=(6, 12, 12), highest=3):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, highest + 1, [-(-edge // 3) for edge in shape])
    label = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    return label[tuple(slice(edge) for edge in shape)].astype(np.uint8)


def sparse(label, step=2):
    """The label annotated in every `step`-th slice alone."""
    reference = np.full_like(label, IGNORE)
    reference[::step] = label[::step]
    return reference


def test_counts_are_those_of_the_annotated_voxels():
    reference = np.array([[[0, 1, 1, 4, 4, 0]]], np.uint8)
    prediction = np.array([[[0, 1, 0, 1, 0, 1]]], np.uint8)
    case = measure_case("a", prediction, reference, SPACING_MM, {"one": 1}, EvaluationOptions(ignore=IGNORE))
    counts = case.labels["one"].counts
    assert (counts.true_positive, counts.false_positive, counts.false_negative, counts.true_negative) == (1, 1, 1, 1)
    assert case.labels["one"].values["accuracy"] == 0.5
    assert case.labels["one"].reference_ml == pytest.approx(2 * 3 / 1000)
    assert case.undeclared == {}


@pytest.mark.parametrize("challenge", [None, "lits17", "kits23", "brats21", "brats23", "chaos", "acdc", "decathlon"])
def test_no_figure_depends_on_what_is_predicted_where_nothing_is_annotated(challenge):
    reference = sparse(blobs(1))
    labels = LABELS if challenge is None else {"one": 1, "three": 3}
    if challenge is not None and RANKINGS[challenge].regions is not None:
        labels = RANKINGS[challenge].regions
    if challenge == "brats21":
        reference = np.where(reference == IGNORE, 5, reference)
    ignore = int(reference.max())
    options = EvaluationOptions(ignore=ignore, challenge=challenge)
    first, second = blobs(2), blobs(3)
    merged = np.where(reference == ignore, second, first)
    cases = [measure_case("a", one, reference, SPACING_MM, labels, options) for one in (first, merged)]
    assert not np.array_equal(first, merged)
    assert cases[0] == cases[1]


def test_the_figures_are_those_of_maps_that_are_0_there():
    full, prediction = blobs(1), blobs(2)
    ignored = sparse(full) == IGNORE
    given = measure_case("a", prediction, sparse(full), SPACING_MM, LABELS, EvaluationOptions(ignore=IGNORE))
    emptied = [np.where(ignored, 0, label) for label in (prediction, full)]
    wanted = measure_case("a", *emptied, SPACING_MM, LABELS, EvaluationOptions())
    for name, one in given.labels.items():
        values = {metric: value for metric, value in one.values.items() if metric != "accuracy"}
        assert values == {metric: wanted.labels[name].values[metric] for metric in values}
        assert one.counts.true_negative == wanted.labels[name].counts.true_negative - ignored.sum()


def test_a_reference_without_such_voxels_is_measured_as_ever():
    reference, prediction = blobs(1), blobs(2)
    cases = [
        measure_case("a", prediction, reference, SPACING_MM, LABELS, EvaluationOptions(ignore=ignore))
        for ignore in (None, IGNORE)
    ]
    assert cases[0] == cases[1]


def test_a_wholly_ignored_case_is_in_no_mean():
    reference = np.full((2, 3, 3), IGNORE, np.uint8)
    case = measure_case("a", blobs(1, (2, 3, 3)), reference, SPACING_MM, LABELS, EvaluationOptions(ignore=IGNORE))
    assert all(one.values["dice"] is None for one in case.labels.values())


def test_numbered_objects_have_no_ignore_value():
    ids = np.array([[[0, 4, 4, 0, 1]]], np.uint8)
    case = measure_case("a", ids, ids, SPACING_MM, {"cell": 1}, EvaluationOptions(ignore=4, instances=True))
    assert case.objects is not None
    assert case.objects.counts.expected == 2


@pytest.fixture
def folders(tmp_path):
    """Predictions and sparse references of two cases, with the data set's description above the references."""
    geometry = Geometry((6, 12, 12), SPACING_MM)
    for number in (1, 2):
        write_label(tmp_path / "predicted" / f"case{number}.nii.gz", blobs(10 + number), geometry)
        write_label(tmp_path / "labelsTs" / f"case{number}.nii.gz", sparse(blobs(number)), geometry)
    labels = {"background": 0, "one": 1, "two": 2, "three": 3, "Ignore": IGNORE}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    return tmp_path


def test_the_value_is_found_in_the_references_dataset_json(folders):
    assert ignored_beside(folders / "labelsTs") == IGNORE
    assert labels_beside(folders / "labelsTs") == {"one": 1, "two": 2, "three": 3}
    evaluation = evaluate_folder(folders / "predicted", folders / "labelsTs")
    assert evaluation.options.ignore == IGNORE
    assert list(evaluation.labels) == ["one", "two", "three"]
    assert evaluation_to_json(evaluation)["options"]["ignore"] == IGNORE
    assert "not annotated (value 4)" in evaluation_table(evaluation)


def test_labels_that_are_named_leave_the_value_of_dataset_json_as_it_is(folders):
    evaluation = evaluate_folder(folders / "predicted", folders / "labelsTs", {"one": 1})
    assert evaluation.options.ignore == IGNORE


def test_a_label_of_that_name_is_the_value_without_a_dataset_json(folders):
    given = evaluate_folder(folders / "predicted", folders / "labelsTs")
    (folders / "dataset.json").unlink()
    labels = {"one": 1, "two": 2, "three": 3, "ignore": IGNORE}
    named = evaluate_folder(folders / "predicted", folders / "labelsTs", labels)
    assert named.cases == given.cases


def test_without_a_name_the_value_is_a_label_like_others(folders):
    (folders / "dataset.json").unlink()
    evaluation = evaluate_folder(folders / "predicted", folders / "labelsTs")
    assert list(evaluation.labels) == ["1", "2", "3", "4"]
    told = evaluate_folder(folders / "predicted", folders / "labelsTs", options=EvaluationOptions(ignore=IGNORE))
    assert list(told.labels) == ["1", "2", "3"]


def test_the_decathlons_direction_is_understood(folders):
    (folders / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "one", "4": "ignore"}}))
    assert ignored_beside(folders / "labelsTs") == 4
    assert labels_beside(folders / "labelsTs") == {"one": 1}


@pytest.mark.parametrize("labels", [{"ignore": 1, "Ignore": 2}, {"ignore": (1, 2)}])
def test_ignore_labels_that_make_no_sense_are_refused(labels):
    with pytest.raises(DatasetError, match="at most one label named ignore"):
        split_ignored(labels)
