import numpy as np
import pytest
import tifffile

from msseg.challenges.challenge import ConversionOptions, SubmissionOptions
from msseg.challenges.conversion import convert
from msseg.challenges.isbi2012 import ISBI2012
from msseg.challenges.submission import check_submission, submit
from msseg.data.geometry import Geometry
from msseg.errors import DatasetError
from msseg.files import read_json
from msseg.inference.probability_files import probabilities_path, write_probabilities

GRID = Geometry((1, 4, 5), (1.0, 1.0, 1.0))


def test_every_page_becomes_a_case(stacks, tmp_path, load):
    report = convert(ISBI2012, stacks, tmp_path / "set", ConversionOptions())
    assert report.is_complete and (report.converted, report.test) == (5, 2)
    volume, labels = load(stacks / "train-volume.tif"), load(stacks / "train-labels.tif")
    for page in range(3):
        assert np.array_equal(load(tmp_path / f"set/imagesTr/em_0{page}_0000.png"), volume[page])
        assert np.array_equal(load(tmp_path / f"set/labelsTr/em_0{page}.png"), labels[page])
    test = load(stacks / "test-volume.tif")
    assert np.array_equal(load(tmp_path / "set/imagesTs/em_test_01_0000.png"), test[1])
    assert read_json(tmp_path / "set/dataset.json") == {
        "name": "set",
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "interior": 255},
        "numTraining": 3,
        "file_ending": ".png",
    }


def test_a_stack_that_is_not_there_is_named(stacks, tmp_path):
    (stacks / "train-labels.tif").unlink()
    with pytest.raises(DatasetError, match=r"train-labels\.tif: no such file"):
        convert(ISBI2012, stacks, tmp_path / "set", ConversionOptions())


def test_labels_of_another_number_of_pages_are_an_error_and_the_test_images_are_converted(stacks, tmp_path, save):
    save(stacks / "train-labels.tif", np.zeros((2, 4, 5), np.uint8))
    report = convert(ISBI2012, stacks, tmp_path / "set", ConversionOptions())
    (problem,) = report.problems
    assert problem.found == "5 x 4 pixels on 2 pages" and "on 3 pages" in problem.expected
    assert not report.is_complete and report.converted == 2


def test_values_that_are_no_label_are_an_error(stacks, tmp_path, save):
    save(stacks / "train-labels.tif", np.full((3, 4, 5), 7, np.uint8))
    (problem,) = convert(ISBI2012, stacks, tmp_path / "set", ConversionOptions()).problems
    assert problem.found == "label values 7" and problem.expected == "0, 255"


@pytest.fixture
def probabilities(tmp_path):
    """Probabilities of membrane and interior of two cases whose names are not in alphabetical order; the interior's."""
    rng = np.random.default_rng(0)
    expected = {}
    for name in ("em_test_10", "em_test_9"):
        interior = rng.random((4, 5)).astype(np.float32)
        both = np.stack([1 - interior, interior])[:, None]
        path = probabilities_path(name, tmp_path / "pred")
        write_probabilities(path, both, GRID, {"background": 0, "interior": 1})
        expected[name] = interior
    return np.stack([expected["em_test_9"], expected["em_test_10"]])


def checked(path, tmp_path, save):
    images = save(tmp_path / "two.tif", np.zeros((2, 4, 5), np.uint8))
    return check_submission(ISBI2012, path, images)


def test_probabilities_become_pages_in_the_order_of_the_names(probabilities, tmp_path, save):
    images = save(tmp_path / "two.tif", np.zeros((2, 4, 5), np.uint8))
    report = submit(ISBI2012, tmp_path / "pred", tmp_path / "s.tif", SubmissionOptions(images))
    stack = tifffile.imread(tmp_path / "s.tif")
    assert stack.dtype == np.float32 and np.allclose(stack, probabilities, atol=1e-5)
    assert "em_test_9 to em_test_10" in report.summary()
    assert checked(tmp_path / "s.tif", tmp_path, save) == []


def test_the_class_called_membrane_is_the_one_that_is_not_inside(tmp_path, save):
    inside = np.full((1, 4, 5), 0.75, np.float32)
    both = np.stack([inside, 1 - inside])
    for name in ("a", "b"):
        path = probabilities_path(name, tmp_path / "pred")
        write_probabilities(path, both, GRID, {"background": 0, "Membrane": 1})
    images = save(tmp_path / "two.tif", np.zeros((2, 4, 5), np.uint8))
    submit(ISBI2012, tmp_path / "pred", tmp_path / "s.tif", SubmissionOptions(images))
    assert np.allclose(tifffile.imread(tmp_path / "s.tif"), 0.75, atol=1e-5)


def test_masks_become_zero_and_one_with_a_warning(tmp_path, save):
    mask = np.array([[0, 255], [255, 0]], np.uint8)
    save(tmp_path / "pred/a.png", mask)
    save(tmp_path / "imagesTs/a_0000.png", mask)
    report = submit(ISBI2012, tmp_path / "pred", tmp_path / "s.tif", SubmissionOptions(tmp_path / "imagesTs"))
    assert np.array_equal(tifffile.imread(tmp_path / "s.tif"), [[0, 1], [1, 0]])
    assert "Warning" in report.summary()


def test_without_the_images_thirty_pages_of_the_challenge_are_expected(probabilities, tmp_path):
    with pytest.raises(DatasetError, match="2 pages; expected 30"):
        submit(ISBI2012, tmp_path / "pred", tmp_path / "s.tif")
    assert not (tmp_path / "s.tif").exists()


def test_a_folder_without_predictions_is_refused(tmp_path):
    (tmp_path / "pred").mkdir()
    with pytest.raises(DatasetError, match="save-probabilities"):
        submit(ISBI2012, tmp_path / "pred", tmp_path / "s.tif")
