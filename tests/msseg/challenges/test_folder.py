import numpy as np
import pytest

from msseg.challenges.challenge import ConversionOptions
from msseg.challenges.conversion import convert
from msseg.challenges.folder import FOLDER
from msseg.errors import DatasetError
from msseg.files import read_json

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
COLOUR = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
MASK = np.array([[0, 0, 255, 255], [0, 0, 0, 0], [255, 0, 0, 0]], np.uint8)


@pytest.fixture
def pictures(tmp_path, save):
    """A grey PNG and a grey TIFF with masks of 0 and 255, whose endings are the other way round."""
    folder = tmp_path / "pictures"
    save(folder / "images/a.png", GREY)
    save(folder / "images/b.tif", GREY)
    save(folder / "masks/a.tif", MASK)
    save(folder / "masks/b.png", MASK)
    return folder


def description(folder):
    return read_json(folder / "dataset.json")


def test_any_endings_become_one(pictures, tmp_path, load):
    report = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert report.is_complete and report.converted == 2
    for name in ("a", "b"):
        assert np.array_equal(load(tmp_path / f"set/imagesTr/{name}_0000.png"), GREY)
        assert np.array_equal(load(tmp_path / f"set/labelsTr/{name}.png"), MASK)
    assert description(tmp_path / "set")["labels"] == {"background": 0, "foreground": 255}
    assert "instances" not in description(tmp_path / "set")


def test_grey_among_colour_is_repeated(pictures, tmp_path, save, load):
    save(pictures / "images/a.png", COLOUR)
    convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert np.array_equal(load(tmp_path / "set/imagesTr/a_0000.png"), COLOUR)
    assert np.array_equal(load(tmp_path / "set/imagesTr/b_0000.png"), np.repeat(GREY[..., None], 3, axis=2))
    assert list(description(tmp_path / "set")["channel_names"].values()) == ["red", "green", "blue"]


def test_colour_that_is_grey_everywhere_is_one_channel(pictures, tmp_path, save, load):
    save(pictures / "images/a.png", np.repeat(GREY[..., None], 3, axis=2))
    convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert np.array_equal(load(tmp_path / "set/imagesTr/a_0000.png"), GREY)


def test_every_value_of_a_mask_is_a_class(pictures, tmp_path, save):
    save(pictures / "masks/a.tif", (MASK > 0).astype(np.uint8) * 3)
    convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert description(tmp_path / "set")["labels"] == {"background": 0, "class_3": 3, "class_255": 255}


def test_named_labels_are_taken_and_others_are_errors(pictures, tmp_path, save):
    save(pictures / "masks/a.tif", (MASK > 0).astype(np.uint8) * 3)
    report = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions({"cell": 255}))
    (problem,) = report.problems
    assert (problem.case, problem.found, problem.expected) == ("a", "label values 3", "0, 255")
    assert description(tmp_path / "set")["labels"] == {"background": 0, "cell": 255} and report.converted == 1


def test_more_values_than_classes_can_be_are_refused(pictures, tmp_path, save):
    save(pictures / "masks/a.tif", np.arange(40, dtype=np.uint8).reshape(5, 8))
    save(pictures / "images/a.png", np.zeros((5, 8), np.uint8))
    with pytest.raises(DatasetError, match="instances/"):
        convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert not (tmp_path / "set/dataset.json").exists()


def test_numbers_of_objects_are_counted_anew_without_gaps(pictures, tmp_path, save, load):
    (pictures / "masks").rename(pictures / "instances")
    save(pictures / "instances/a.tif", np.array([[0, 7, 7, 0], [300, 0, 0, 2], [300, 0, 0, 2]], np.uint16))
    report = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert report.is_complete
    label = load(tmp_path / "set/labelsTr/a.png")
    assert label.dtype == np.uint16 and label.tolist() == [[0, 2, 2, 0], [3, 0, 0, 1], [3, 0, 0, 1]]
    assert description(tmp_path / "set")["instances"] is True
    assert description(tmp_path / "set")["labels"] == {"background": 0, "object": 1}


def test_folders_of_one_mask_an_object_are_merged(pictures, tmp_path, save, load):
    (pictures / "masks/a.tif").unlink()
    save(pictures / "masks/a/0.png", np.eye(3, 4, dtype=np.uint8))
    save(pictures / "masks/a/1.png", np.ones((3, 4), np.uint8))
    report = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert load(tmp_path / "set/labelsTr/a.png").tolist() == [[1, 2, 2, 2], [2, 1, 2, 2], [2, 2, 1, 2]]
    assert [problem.found for problem in report.problems] == ["3 pixels in more than one mask"]


def test_instances_are_preferred_and_said_to_be(pictures, tmp_path, save):
    save(pictures / "instances/a.png", MASK)
    save(pictures / "instances/b.png", MASK)
    report = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert [problem.found for problem in report.problems] == ["labels beside instances/"]
    assert report.is_complete and description(tmp_path / "set")["instances"]


def test_test_images_may_have_labels_or_none(pictures, tmp_path, save):
    save(pictures / "test/images/c.png", GREY)
    convert(FOLDER, pictures, tmp_path / "without", ConversionOptions())
    assert (tmp_path / "without/imagesTs/c_0000.png").exists() and not (tmp_path / "without/labelsTs").exists()
    save(pictures / "test/masks/c.png", MASK)
    convert(FOLDER, pictures, tmp_path / "with", ConversionOptions())
    assert (tmp_path / "with/labelsTs/c.png").exists()


def test_pages_can_be_slices_channels_or_images(pictures, tmp_path, save, load):
    (pictures / "images/a.png").unlink()
    (pictures / "masks/a.tif").unlink()
    stack = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    save(pictures / "images/b.tif", stack)
    convert(FOLDER, pictures, tmp_path / "channels", ConversionOptions(pages="channels"))
    assert np.array_equal(load(tmp_path / "channels/imagesTr/b_0001.png"), stack[1])
    assert description(tmp_path / "channels")["channel_names"] == {"0": "channel_0", "1": "channel_1"}
    (pictures / "masks/b.png").unlink()
    save(pictures / "masks/b.tif", np.stack([MASK, MASK]))
    convert(FOLDER, pictures, tmp_path / "slices", ConversionOptions(pages="slices"))
    assert np.array_equal(load(tmp_path / "slices/imagesTr/b_0000.tif"), stack)
    convert(FOLDER, pictures, tmp_path / "images", ConversionOptions(pages="images"))
    assert np.array_equal(load(tmp_path / "images/imagesTr/b_01_0000.png"), stack[1])
    assert np.array_equal(load(tmp_path / "images/labelsTr/b_01.png"), MASK)


def test_numbers_that_a_png_cannot_hold_make_tiff_of_all(pictures, tmp_path, save, load):
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    save(pictures / "images/b.tif", values)
    convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert np.array_equal(load(tmp_path / "set/imagesTr/b_0000.tif"), values)
    assert np.array_equal(load(tmp_path / "set/imagesTr/a_0000.tif"), GREY)
    assert np.array_equal(load(tmp_path / "set/labelsTr/a.tif"), MASK)


def test_sixteen_bits_stay_sixteen_bits(pictures, tmp_path, save, load):
    save(pictures / "images/a.png", GREY.astype(np.uint16) * 5000)
    convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert np.array_equal(load(tmp_path / "set/imagesTr/a_0000.png"), GREY.astype(np.uint16) * 5000)


def test_names_that_would_become_one_file_are_refused(pictures, tmp_path, save):
    save(pictures / "images/a.tif", GREY)
    save(pictures / "images/B.png", GREY)
    save(pictures / "masks/B.png", MASK)
    report = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert sorted(problem.case for problem in report.problems) == ["B", "a", "a", "b"]
    assert not report.is_complete and not (tmp_path / "set").exists()


def test_what_has_no_partner_is_named(pictures, tmp_path, save):
    save(pictures / "images/c.png", GREY)
    save(pictures / "masks/d.png", MASK)
    report = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert {(problem.case, problem.found) for problem in report.problems} == {
        ("c", "no label of this name"),
        ("d", "no image of this name"),
    }
    assert report.converted == 2 and not report.is_complete


def test_two_labels_of_one_case_are_named(pictures, tmp_path, save):
    save(pictures / "masks/a.png", MASK)
    report = convert(FOLDER, pictures, tmp_path / "set", ConversionOptions())
    assert "several labels of one case: " in report.problems[0].found and report.converted == 1


def test_a_folder_of_another_layout_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no folder images/"):
        convert(FOLDER, tmp_path, tmp_path / "set", ConversionOptions())
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match="no labels"):
        convert(FOLDER, tmp_path, tmp_path / "set", ConversionOptions())


@pytest.mark.parametrize("labels", [{"a": 0}, {"a": 1, "b": 1}])
def test_labels_that_cannot_be_told_apart_are_refused(pictures, tmp_path, labels):
    with pytest.raises(DatasetError, match="none twice"):
        convert(FOLDER, pictures, tmp_path / "set", ConversionOptions(labels))
