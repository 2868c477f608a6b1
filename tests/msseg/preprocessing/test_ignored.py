"""What nobody annotated on the way into the store: neither measured nor a class, -1 in the prepared label."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from msseg.data.checks import check_case
from msseg.data.dataset import read_dataset
from msseg.data.labels import LabelMap
from msseg.data.store import ANNOTATED, open_case
from msseg.errors import DatasetError
from msseg.preprocessing import locations
from msseg.preprocessing.case import preprocess_case
from msseg.preprocessing.examine import coding_key, examine_dataset, fingerprint_of
from msseg.preprocessing.locations import sample_locations
from msseg.preprocessing.measure import measure_case
from msseg.preprocessing.pipeline import preprocess_dataset
from msseg.preprocessing.resample import resample_label


def as_sparse(folder, ignored, value=9):
    """Ignore the voxels of the files' labels that `ignored(x, y, z)` names."""
    for path in (folder / "labelsTr").glob("*.nii.gz"):
        image = nibabel.load(path)
        label = np.asarray(image.dataobj).astype(np.uint8)
        label[ignored(*np.indices(label.shape))] = value
        nibabel.save(nibabel.Nifti1Image(label, image.affine), path)
    description = json.loads((folder / "dataset.json").read_text())
    description["labels"]["ignore"] = value
    (folder / "dataset.json").write_text(json.dumps(description))


def measured(label, image=None, classes=3):
    label = np.asarray(label, np.int8)
    image = np.arange(1, label.size + 1, dtype=np.float32).reshape(1, *label.shape) if image is None else image
    return measure_case("a", image, label, (1.0, 1.0, 1.0), classes)


def test_ignored_voxels_are_neither_volume_nor_component_nor_intensity():
    label = np.array([[[1, 1, -1, 1, 0, -1, 2, 0]]])
    case = measured(label)
    assert case.fingerprint.voxels_per_class == (3, 1)
    assert case.fingerprint.components_per_class == (2, 1)
    assert case.sketches[0].count == 4
    assert (case.sketches[0].quantiles[0], case.sketches[0].quantiles[-1]) == (1.0, 7.0)


def test_ignored_voxels_are_no_background_to_contrast_with():
    label = np.array([[[1, 1, -1, 0]]])
    image = np.array([[[[3.0, 3.0, 100.0, 1.0]]]], np.float32)
    assert measured(label, image).fingerprint.contrast == pytest.approx(2 / image.std(), rel=1e-5)
    assert measured(np.array([[[1, 1, -1, -1]]]), image).fingerprint.contrast is None


def test_an_ignored_case_measures_nothing():
    case = measured(np.full((2, 3, 3), -1))
    assert case.fingerprint.voxels_per_class == (0, 0)
    assert case.sketches[0].count == 0


def test_a_signed_label_without_ignored_voxels_measures_as_ever():
    label = np.random.default_rng(0).integers(0, 3, (1, 6, 7))
    image = np.random.default_rng(1).normal(size=(1, 1, 6, 7)).astype(np.float32)
    unsigned = measure_case("a", image, label.astype(np.uint8), (1.0, 1.0, 1.0), 3)
    assert measured(label, image) == unsigned


def test_annotated_voxels_are_sampled_where_some_are_not(monkeypatch):
    label = np.array([[[-1, 0, 2], [1, -1, 0]]], np.int8)
    found = sample_locations(label)
    assert sorted(found) == [ANNOTATED, 1, 2]
    assert found[ANNOTATED].tolist() == [[0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 2]]
    assert found[1].tolist() == [[0, 1, 0]]
    large = np.random.default_rng(0).integers(-1, 3, (20, 10, 10)).astype(np.int8)
    monkeypatch.setattr(locations, "_MOST_VOXELS", 50)
    monkeypatch.setattr(locations, "_SLAB_VOXELS", 350)
    drawn = sample_locations(large)[ANNOTATED]
    assert len(np.unique(drawn, axis=0)) == 50
    assert (large[tuple(drawn.T)] >= 0).all()
    assert {-1} < set(large[tuple(drawn.T)].tolist()) | {-1}


def test_the_samples_of_whole_labels_stay_what_they_were():
    label = np.random.default_rng(0).integers(0, 3, (5, 6, 7))
    signed, unsigned = (sample_locations(label.astype(dtype)) for dtype in (np.int8, np.uint8))
    assert sorted(signed) == sorted(unsigned) == [1, 2]
    for index in unsigned:
        np.testing.assert_array_equal(signed[index], unsigned[index])


def test_resampling_takes_ignored_for_one_more_class():
    label = np.repeat(np.array([[[-1, -1, 1, 1, 0, 0]]], np.int8), 2, axis=1)
    finer = resample_label(label, (1, 4, 12), 1)
    assert finer.dtype == np.int8
    assert finer[0, 0].tolist() == [-1] * 4 + [1] * 4 + [0] * 4
    assert resample_label(label, (1, 2, 3), 0)[0, 0].tolist() == [-1, 1, 0]


def test_a_prepared_label_keeps_what_is_ignored(make_plan):
    plan = make_plan()
    label = np.zeros((6, 6, 6), np.int8)
    label[1], label[2:] = 1, -1
    image = np.ones((1, 6, 6, 6), np.float32)
    prepared = preprocess_case(image, label, (1.0, 1.0, 1.0), plan, plan.configurations["3d"])
    np.testing.assert_array_equal(prepared.label, label)
    assert sorted(prepared.locations) == [ANNOTATED, 1]


def test_sparse_cases_reach_the_store_and_the_fingerprint(box_folder, tmp_path, make_plan):
    as_sparse(box_folder, lambda _x, _y, z: z % 2 == 1)
    dataset = read_dataset(box_folder)
    examination = examine_dataset(dataset, tmp_path / "examined", 1)
    assert examination.broken == examination.unannotated == ()
    fingerprint = fingerprint_of(dataset, examination)
    assert fingerprint.ignore == 9
    assert fingerprint.labels == {"background": 0, "box": 1, "core": 7}
    assert fingerprint.cases[0].voxels_per_class == (6 * 5 * 2 - 4, 4)
    plan = replace(make_plan((2.0, 1.0, 1.0)), ignore=9)
    report = preprocess_dataset(dataset, plan, "3d", tmp_path / "store", 1)
    assert len(report.prepared) == 5
    stored = open_case(tmp_path / "store", "case_0")
    assert stored.label.dtype == np.int8
    assert (stored.label[1::2] == -1).all()
    assert set(np.unique(stored.label[::2])) == {0, 1, 2}
    assert (stored.label[tuple(stored.locations[ANNOTATED].T)] >= 0).all()


def test_a_case_that_is_ignored_everywhere_is_noted_and_left_out(box_folder, tmp_path):
    as_sparse(box_folder, lambda _x, _y, z: z % 2 == 1)
    path = box_folder / "labelsTr" / "case_3.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.full(image.shape, 9, np.uint8), image.affine), path)
    dataset = read_dataset(box_folder)
    examination = examine_dataset(dataset, tmp_path / "examined", 1)
    assert examination.unannotated == ("case_3",)
    (problem,) = [one for one in examination.problems if one.case == "case_3"]
    assert (problem.severity, problem.found) == ("note", "a label that is ignored everywhere")
    assert examine_dataset(dataset, tmp_path / "examined", 1).unannotated == ("case_3",)


def test_a_data_set_of_nothing_but_ignored_voxels_cannot_be_measured(box_folder, tmp_path):
    as_sparse(box_folder, lambda x, _y, _z: x >= 0)
    dataset = read_dataset(box_folder)
    examination = examine_dataset(dataset, tmp_path / "examined", 1)
    with pytest.raises(DatasetError, match="none of 5 training cases can be used"):
        fingerprint_of(dataset, examination, examination.unannotated)


def test_background_alone_beside_ignored_voxels_is_a_case_without_foreground(box_folder):
    as_sparse(box_folder, lambda x, _y, _z: x >= 2)
    dataset = read_dataset(box_folder)
    report = check_case(dataset.training[0], 1, dataset.label_map).report
    assert (report.is_annotated, report.foreground_voxels) == (True, 0)
    assert [problem.found for problem in report.problems] == ["an empty label"]


def test_another_ignore_value_prepares_the_cases_anew():
    keys = [coding_key(LabelMap((0, 1), ignore)) for ignore in (None, 2, 3)]
    assert keys[0] == [0, 1]
    assert len({json.dumps(key) for key in keys}) == 3


def test_the_annotated_part_of_a_case_is_measured():
    assert measured(np.array([[[1, 1, -1, 0]]])).fingerprint.annotated_voxels == 3
    assert measured(np.array([[[1, 1, -1, 0]]])).fingerprint.annotated_share == 0.75
    whole = measured(np.array([[[1, 1, 0, 0]]])).fingerprint
    assert (whole.annotated_voxels, whole.annotated_share) == (None, 1.0)
    assert measured(np.full((1, 2, 2), -1)).fingerprint.annotated_share == 1.0
