from __future__ import annotations

import dataclasses
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.data.cases import Case, find_images
from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_image
from msseg.data.problems import Problem
from msseg.errors import DatasetError
from msseg.inference import folder as folder_module
from msseg.inference import read_ahead
from msseg.inference.folder import output_path, predict_folder
from msseg.inference.outputs import ProbabilityFiles
from msseg.inference.predictor import Predictor
from msseg.inference.probability_files import read_probabilities
from msseg.instances.decision import Decision


def write_case(folder: Path, name: str, value: float, channels: int = 1) -> np.ndarray:
    image = np.zeros((channels, 6, 9, 10), np.float32)
    image[:, 1:4, 2:5, 3:6] = value
    geometry = Geometry((6, 9, 10), (1.0, 1.0, 1.0), origin_mm=(-3.0, 5.5, 20.0))
    write_image(folder / name, image, geometry)
    return image[0]


@pytest.fixture
def predictor(threshold_model) -> Predictor:
    return Predictor(threshold_model, torch.device("cpu"))


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    write_case(folder, "a_0000.nii.gz", 1.0)
    (folder / "b_0000.nii.gz").write_bytes(b"no image at all")
    write_case(folder, "c.nrrd", 2.0)
    write_case(folder, "d.nii.gz", 1.0, channels=2)
    return folder


def test_one_broken_file_is_reported_and_the_others_are_written(images, predictor, tmp_path):
    cases, _ = find_images(images, channels=1)
    report = predict_folder(predictor, cases, tmp_path / "out", quiet=True)
    assert report.written == ("a", "c") and report.skipped == () and set(report.failed) == {"b", "d"}
    assert "b_0000.nii.gz" in report.failed["b"]
    assert "2 channels; the model expects 1" in report.failed["d"]
    assert not report.is_complete
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.nii.gz", "c.nrrd"]
    for name, value in [("a.nii.gz", 3), ("c.nrrd", 7)]:
        label, geometry = read_label(tmp_path / "out" / name)
        assert np.count_nonzero(label == value) == 27 == np.count_nonzero(label)
        assert geometry.origin_mm == pytest.approx((-3.0, 5.5, 20.0))


def test_existing_outputs_are_skipped_unless_overwritten(images, predictor, tmp_path):
    cases = [Case("a", (images / "a_0000.nii.gz",)), Case("c", (images / "c.nrrd",))]
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.nii.gz").write_bytes(b"from an earlier run")
    report = predict_folder(predictor, cases, out, quiet=True)
    assert report.written == ("c",) and report.skipped == ("a",) and report.is_complete
    assert (out / "a.nii.gz").read_bytes() == b"from an earlier run"
    report = predict_folder(predictor, cases, out, overwrite=True, quiet=True)
    assert report.written == ("a", "c") and report.skipped == ()
    assert np.count_nonzero(read_label(out / "a.nii.gz")[0]) == 27


def test_a_stop_ends_the_work_and_says_what_is_left(images, predictor, tmp_path):
    cases = [Case(name, (images / "a_0000.nii.gz",)) for name in ("one", "two", "three")]
    asked = []

    def in_the_second_case() -> bool:
        asked.append(None)
        return len(asked) > 3  # asked before each case and after each batch: in the midst of the second case

    report = predict_folder(predictor, cases, tmp_path / "out", stop=in_the_second_case, quiet=True)
    assert report.written == ("one",) and report.stopped == ("two", "three") and not report.is_complete
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one.nii.gz"]


def test_a_stop_in_the_midst_of_a_case_waits_for_no_reading_that_nobody_wants(images, predictor, tmp_path, monkeypatch):
    began: list[str] = []
    original = read_ahead.read_case

    def read(predictor, case):
        began.append(case.name)
        time.sleep(0.2 if began[1:] else 0.0)
        return original(predictor, case)

    monkeypatch.setattr(read_ahead, "read_case", read)
    answers = itertools.chain([False], itertools.repeat(True))  # the first case begins; in its midst comes the stop
    cases = [Case(f"case_{number}", (images / "a_0000.nii.gz",)) for number in range(9)]
    # One thread reads nine cases ahead: without the cancelling all of them would be waited for.
    monkeypatch.setattr(folder_module, "ThreadPoolExecutor", lambda _count: ThreadPoolExecutor(1))
    report = predict_folder(predictor, cases, tmp_path / "out", workers=8, stop=lambda: next(answers), quiet=True)
    assert report.stopped == tuple(case.name for case in cases)
    assert len(began) < len(cases)


def test_an_output_folder_that_would_replace_the_images_is_refused(images, predictor):
    before = (images / "c.nrrd").read_bytes()
    with pytest.raises(DatasetError, match=r"c\.nrrd: is an input image"):
        predict_folder(predictor, [Case("c", (images / "c.nrrd",))], images, overwrite=True, quiet=True)
    assert (images / "c.nrrd").read_bytes() == before


def test_cases_that_failed_before_are_in_the_report(images, predictor, tmp_path):
    problem = Problem("x", "x_0001.nii.gz", "no channel 0", "x or x_0000", "Add it.")
    cases = [Case("a", (images / "a_0000.nii.gz",))]
    report = predict_folder(predictor, cases, tmp_path / "out", problems=[problem], quiet=True)
    assert report.failed == {"x": "x_0001.nii.gz: no channel 0; expected x or x_0000. Add it."}


def test_more_cases_than_may_wait_are_all_written(images, predictor, tmp_path):
    cases = [Case(f"case_{number}", (images / "a_0000.nii.gz",)) for number in range(7)]
    for number, ahead_bytes in enumerate((0, 1, 5000, 1 << 30)):
        out = tmp_path / f"out_{number}"
        report = predict_folder(predictor, cases, out, workers=3, quiet=True, ahead_bytes=ahead_bytes)
        assert report.written == tuple(case.name for case in cases)


@pytest.mark.parametrize(("ahead_bytes", "at_once"), [(0, 1), (4 * 3 * 3 * 3 * 4, 1 + 4), (1 << 30, 1 + 7)])
def test_no_more_images_are_read_ahead_than_their_bytes_allow(
    images, predictor, tmp_path, monkeypatch, ahead_bytes, at_once
):
    """The image is cropped to 3 × 3 × 3 voxels of 4 bytes; what is held is the one in work and those ahead of it."""
    held: list[int] = []
    original_read, original_predict = read_ahead.read_case, Predictor.predict

    def read(predictor, case):
        held.append(len(held) + 1)
        return original_read(predictor, case)

    begun_before_each: list[int] = []

    def predict(self, *arguments):
        time.sleep(0.02)
        begun_before_each.append(len(held) - len(begun_before_each))
        return original_predict(self, *arguments)

    monkeypatch.setattr(read_ahead, "read_case", read)
    monkeypatch.setattr(Predictor, "predict", predict)
    cases = [Case(f"case_{number}", (images / "a_0000.nii.gz",)) for number in range(10)]
    report = predict_folder(predictor, cases, tmp_path / "out", workers=7, quiet=True, ahead_bytes=ahead_bytes)
    assert len(report.written) == 10
    assert max(begun_before_each) == at_once


def test_an_output_has_the_ending_of_its_image_or_the_single_file_form(tmp_path):
    assert output_path(Case("x", (Path("in/x_0000.nii"),)), tmp_path).name == "x.nii"
    assert output_path(Case("x", (Path("in/x.mhd"),)), tmp_path).name == "x.mha"


def test_probabilities_are_written_beside_and_a_case_is_done_when_both_files_are_there(images, predictor, tmp_path):
    cases, out = [Case("a", (images / "a_0000.nii.gz",)), Case("c", (images / "c.nrrd",))], tmp_path / "out"
    predict_folder(predictor, cases[:1], out, quiet=True)
    beside = [ProbabilityFiles(out, 16)]
    assert predict_folder(predictor, cases, out, beside=beside, quiet=True).written == ("a", "c")
    stored = read_probabilities(out / "c.probabilities.npz")
    label, geometry = read_label(out / "c.nrrd")
    assert list(stored.labels.items()) == [("background", 0), ("organ", 3), ("tumour", 7)]
    assert stored.geometry.origin_mm == geometry.origin_mm
    np.testing.assert_array_equal(np.array([0, 3, 7])[stored.probabilities.argmax(0)], label)
    assert predict_folder(predictor, cases, out, beside=beside, quiet=True).skipped == ("a", "c")
    (out / "a.nii.gz").unlink()
    assert predict_folder(predictor, cases, out, beside=beside, quiet=True).written == ("a",)


def test_objects_are_numbered_where_they_are_asked_for(predictor, tmp_path):
    image = np.zeros((1, 1, 12, 20), np.float32)
    image[0, 0, 2:6, 2:7], image[0, 0, 5:10, 12:18] = 1, 1
    image[0, 0, 0, 0] = image[0, 0, -1, -1] = -8  # so that nothing is cropped
    write_image(tmp_path / "in/cells.nii.gz", image, Geometry((1, 12, 20), (1.0, 1.0, 1.0)))
    cases = [Case("cells", (tmp_path / "in/cells.nii.gz",))]
    report = predict_folder(predictor, cases, tmp_path / "out", instances=True, quiet=True)
    assert report.failed == {}
    objects, _ = read_label(tmp_path / "out/cells.nii.gz")
    assert objects.dtype == np.uint16 and np.unique(objects).tolist() == [0, 1, 2]
    assert len(np.unique(objects[0, 2:6, 2:7])) == len(np.unique(objects[0, 5:10, 12:18])) == 1
    strict = dataclasses.replace(predictor, decision=Decision(smallest_px=25))
    predict_folder(strict, cases, tmp_path / "out", instances=True, overwrite=True, quiet=True)
    assert np.unique(read_label(tmp_path / "out/cells.nii.gz")[0]).tolist() == [0, 1]


def test_pictures_come_back_as_pictures(predictor, tmp_path):
    picture = np.zeros((1, 1, 12, 10), np.uint8)
    picture[0, 0, 2:5, 3:6] = 1
    grids = {".png": False, ".tif": True}
    for ending, has_spacing in grids.items():
        grid = Geometry((1, 12, 10), (1.0, 1.0, 1.0), has_spacing=has_spacing)
        write_image(tmp_path / "images" / f"p{ending[1:]}{ending}", picture, grid)
    cases, _ = find_images(tmp_path / "images", channels=1)
    assert predict_folder(predictor, cases, tmp_path / "out", quiet=True).is_complete
    for ending, has_spacing in grids.items():
        label, geometry = read_label(tmp_path / "out" / f"p{ending[1:]}{ending}")
        assert label.shape == (1, 12, 10)
        assert np.array_equal(label > 0, picture[0] > 0)
        assert geometry.has_spacing == (ending == ".tif" and has_spacing)


def test_a_picture_without_spacing_is_taken_to_be_as_fine_as_the_training_images(threshold_model, tmp_path):
    fine = dataclasses.replace(threshold_model.configuration, spacing_mm=(0.0005,) * 3)
    plan = dataclasses.replace(threshold_model.plan, configurations={fine.name: fine})
    model = dataclasses.replace(threshold_model, plan=plan, configuration=fine)
    picture = np.zeros((1, 1, 12, 10), np.uint8)
    picture[..., 0, 0] = picture[..., -1, -1] = 1
    write_image(tmp_path / "a.png", picture, Geometry((1, 12, 10), (1.0, 1.0, 1.0)))
    read = read_ahead.read_case(Predictor(model, torch.device("cpu")), Case("a", (tmp_path / "a.png",)))
    assert read.prepared.image.shape == (1, 1, 12, 10)
