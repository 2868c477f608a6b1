from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest

from msseg.data.checks import check_across_cases, check_case, check_dataset_structure
from msseg.data.dataset import Case, read_dataset
from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.data.labels import LabelMap

LABELS = LabelMap((0, 1, 2))
GRID = Geometry(shape=(4, 5, 6), spacing_mm=(2.0, 1.0, 1.0))


@pytest.fixture
def case(tmp_path, image_at, label_at):
    return Case("a", (image_at(tmp_path / "a.nii.gz"),), label_at(tmp_path / "a_label.nii.gz", 2, 1, 1))


def _errors(checked):
    return [problem for problem in checked.report.problems if problem.severity == "error"]


def test_a_good_case_gives_its_arrays_and_no_problem(case):
    checked = check_case(case, 1, LABELS)
    assert checked.report.problems == ()
    assert checked.report.is_usable
    assert checked.report.foreground_voxels == 3
    assert checked.image.shape == (1, 4, 5, 6)
    assert checked.label.ravel()[:4].tolist() == [2, 1, 1, 0]
    assert checked.label.dtype == np.uint8
    assert checked.geometry.shape == (4, 5, 6)


def test_the_label_comes_as_class_indices(case, label_at):
    label_at(case.label_path, 255, 7)
    assert check_case(case, 1, LabelMap((0, 7, 255))).label.ravel()[:3].tolist() == [2, 1, 0]


def test_reports_are_small_on_the_way_from_a_worker_process(case):
    assert len(pickle.dumps(check_case(case, 1, LABELS).report)) < 1000


def test_every_problem_of_a_case_is_reported_not_only_the_first(tmp_path, case, label_at):
    (tmp_path / "empty.nii").touch()
    bad = np.full((1, 4, 5, 6), np.nan, np.float32)
    write_image(tmp_path / "nan.nii", bad, GRID)
    label_at(case.label_path, 5)
    paths = (case.image_paths[0], tmp_path / "none.nii", tmp_path / "empty.nii", tmp_path / "nan.nii")
    checked = check_case(dataclasses.replace(case, image_paths=paths), 4, LABELS)
    found = [problem.found for problem in _errors(checked)]
    assert [text.split(" (")[0] for text in found] == [
        "no such image file",
        "an empty file",
        "120 values that are not finite in float32, the first nan at voxel",
        "label values 5",
    ]
    assert checked.image is None
    assert checked.label is None


def test_undeclared_label_values_are_named_with_their_voxels(case, label_at):
    label_at(case.label_path, 1, 9, 9, 4)
    problem = _errors(check_case(case, 1, LABELS))[0]
    assert problem.found == "label values 4 (1 voxels), 9 (2 voxels)"
    assert problem.expected == "the declared 0, 1, 2"


def test_a_label_of_another_shape_is_an_error_with_both_shapes(case):
    write_label(case.label_path, np.ones((3, 5, 6), np.uint8), dataclasses.replace(GRID, shape=(3, 5, 6)))
    problem = _errors(check_case(case, 1, LABELS))[0]
    assert problem.file == str(case.label_path)
    assert "shape 6 x 5 x 3" in problem.found
    assert "6 x 5 x 4" in problem.expected


@pytest.mark.parametrize(("shift_mm", "severity"), [(5e-4, "note"), (2e-3, "error"), (40.0, "error")])
def test_a_label_grid_off_by_a_little_is_noted_and_by_more_an_error_in_mm(case, shift_mm, severity):
    shifted = dataclasses.replace(GRID, origin_mm=(shift_mm, 0.0, 0.0))
    write_label(case.label_path, np.ones(GRID.shape, np.uint8), shifted)
    checked = check_case(case, 1, LABELS)
    (problem,) = checked.report.problems
    assert problem.severity == severity
    assert f"{shift_mm:.2g} mm away" in problem.found
    assert (checked.label is None) == (severity == "error")


def test_another_number_of_channels_is_an_error(case):
    problem = _errors(check_case(case, 2, LABELS, ("T1", "T2")))[0]
    assert (problem.found, problem.expected) == ("1 channels", "2 channels (T1, T2)")


def test_the_volumes_of_a_4d_file_count_as_channels(tmp_path, case, image_at):
    image_at(tmp_path / "a.nii.gz", channels=2)
    checked = check_case(case, 2, LABELS)
    assert checked.report.is_usable
    assert len(checked.image) == 2


def test_an_empty_label_and_a_constant_channel_are_notes(case, label_at):
    write_image(case.image_paths[0], np.full((1, 4, 5, 6), 7, np.float32), GRID)
    label_at(case.label_path)
    checked = check_case(case, 1, LABELS, ("MRI",))
    assert [problem.found for problem in checked.report.problems] == ["channel MRI is 7 everywhere", "an empty label"]
    assert checked.report.is_usable
    assert checked.label is not None


def test_a_case_without_label_is_checked_all_the_same(case):
    checked = check_case(dataclasses.replace(case, label_path=None), 1, LABELS)
    assert checked.report.is_usable
    assert checked.label is None


def test_one_image_under_two_names_is_an_error_even_in_another_file_format(tmp_path, case, image_at):
    values = np.random.default_rng(0).random((1, *GRID.shape), np.float32)
    write_image(tmp_path / "copy.nii", values.astype(np.float64), GRID)
    other = Case("copy", (tmp_path / "copy.nii",))
    third = Case("c", (image_at(tmp_path / "c.nii", seed=1),))
    reports = [check_case(one, 1, LABELS).report for one in (other, case, third)]
    (problem,) = check_across_cases(reports)
    assert (problem.case, problem.found) == ("copy", "the same image values as case a")


def test_a_data_set_without_any_foreground_is_an_error(case, label_at):
    label_at(case.label_path)
    (problem,) = check_across_cases([check_case(case, 1, LABELS).report])
    assert problem.found == "1 labels, all of them empty"
    assert problem.severity == "error"


def test_a_good_folder_has_no_structural_problem(decathlon, nnunet):
    assert check_dataset_structure(read_dataset(decathlon())) == []
    assert check_dataset_structure(read_dataset(nnunet())) == []


def test_missing_files_are_all_named(nnunet):
    folder = nnunet()
    (folder / "labelsTr/a.nii.gz").unlink()
    (folder / "imagesTr/b_0001.nii.gz").unlink()
    problems = check_dataset_structure(read_dataset(folder))
    assert [(problem.case, problem.found) for problem in problems] == [
        ("a", "no such label file"),
        ("b", "no such image file"),
    ]


def test_test_images_that_are_not_there_are_one_note_and_keep_nobody_from_training(decathlon):
    folder = decathlon(test=["imagesTs/t.nii.gz", "imagesTs/s.nii.gz"])
    (problem,) = check_dataset_structure(read_dataset(folder))
    assert (problem.case, problem.severity) == ("", "note")
    assert problem.found == "listed test images that are not there (2, the first s.nii.gz)"


def test_names_that_differ_only_in_upper_case_are_an_error(decathlon):
    problems = check_dataset_structure(read_dataset(decathlon(("case", "Case"))))
    assert [(problem.case, problem.severity) for problem in problems] == [("case", "error")]


def test_a_case_listed_twice_and_a_file_listed_by_two_cases_are_errors(decathlon):
    folder = decathlon()
    description = json.loads((folder / "dataset.json").read_text())
    first, second = description["training"]
    description["training"] += [first, {"image": "imagesTr/c.nii.gz", "label": second["label"]}]
    (folder / "dataset.json").write_text(json.dumps({**description, "numTraining": 4}))
    found = [(problem.case, problem.found) for problem in check_dataset_structure(read_dataset(folder))]
    assert ("c", "no such image file") in found
    assert any(case == "a" and text.startswith("the name of case a") for case, text in found)
    assert ("c", "a file that case b lists too") in found


def test_a_data_set_with_test_images_only_has_nothing_to_train_on(decathlon):
    folder = decathlon(training=[], numTraining=0, test=["imagesTr/a.nii.gz"])
    found = [problem.found for problem in check_dataset_structure(read_dataset(folder))]
    assert "no training cases" in found


def _pictures(folder, spacings_mm):
    """The reports of pictures with these sizes of a pixel, None without."""
    reports = []
    for number, spacing_mm in enumerate(spacings_mm):
        path = folder / f"p{number}.tif"
        spacing = (spacing_mm or 1.0,) * 3
        picture = np.arange(20, dtype=np.uint8).reshape(1, 1, 4, 5) + np.uint8(number)
        write_image(path, picture, Geometry((1, 4, 5), spacing, has_spacing=spacing_mm is not None))
        reports.append(check_case(Case(path.stem, (path,)), 1, LABELS).report)
    return reports


def test_images_without_a_spacing_are_noted_once_for_all(tmp_path):
    (problem,) = check_across_cases(_pictures(tmp_path, [None, None]))
    assert (problem.severity, problem.found) == ("note", "2 images without a spacing")
    assert check_across_cases(_pictures(tmp_path, [5e-4, 5e-4])) == []


def test_images_of_which_some_have_a_spacing_are_noted_as_taken_pixel_by_pixel(tmp_path):
    (problem,) = check_across_cases(_pictures(tmp_path, [5e-4, None]))
    assert problem.found == "1 of 2 images without a spacing, the first p1.tif"
    assert "pixel by pixel" in problem.remedy


def test_a_mask_of_another_size_than_its_picture_names_both_in_pixels(tmp_path):
    for name, width in (("image", 5), ("mask", 6)):
        write_label(tmp_path / f"{name}.png", np.ones((1, 4, width), np.uint8), Geometry((1, 4, width), (1.0,) * 3))
    case = Case("a", (tmp_path / "image.png",), tmp_path / "mask.png")
    (problem,) = _errors(check_case(case, 1, LABELS))
    assert (problem.found, problem.expected) == ("shape 6 x 4 pixels (x, y)", "5 x 4 as in image.png")
