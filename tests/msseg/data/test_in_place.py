from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from msseg.data.checks import check_case, check_dataset_structure
from msseg.data.dataset import read_dataset
from msseg.data.found_layouts import found_layout, is_data_set
from msseg.data.in_place import MOST_LABELS
from msseg.errors import DatasetError

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
MASK = np.array([[0, 0, 255, 255]] * 3, np.uint8)


def _save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(array)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Writes a folder of images a and b with the label `values` in a folder of that name."""

    def write(labels="masks", image=GREY, values=MASK):
        for number, name in enumerate("ab"):
            _save(tmp_path / "cells" / "images" / f"{name}.png", image + np.uint8(number))
            _save(tmp_path / "cells" / labels / f"{name}.png", values)
        return tmp_path / "cells"

    return write


def _errors(dataset):
    return [(p.case, p.found) for p in check_dataset_structure(dataset) if p.severity == "error"]


@pytest.mark.parametrize("labels", ["masks", "labels"])
def test_masks_of_one_value_are_one_foreground(folder, labels):
    dataset = read_dataset(folder(labels))
    assert dataset.channels == ("grey",)
    assert dataset.labels == dataset.class_names == {"background": 0, "foreground": 255}
    assert dataset.label_map.values == (0, 255)
    assert not dataset.instances
    assert [(case.name, case.label_path.name) for case in dataset.training] == [("a", "a.png"), ("b", "b.png")]
    assert _errors(dataset) == []


def test_several_values_are_classes_named_after_them(folder):
    dataset = read_dataset(folder(values=np.array([[0, 3, 1, 7]] * 3, np.uint8)))
    assert dataset.labels == {"background": 0, "class_1": 1, "class_3": 3, "class_7": 7}


def test_masks_that_are_all_empty_leave_one_foreground_to_the_check(folder):
    assert read_dataset(folder(values=0 * MASK)).labels == {"background": 0, "foreground": 1}


def test_too_many_values_are_refused_with_what_to_do_for_objects(folder):
    values = np.arange(MOST_LABELS + 2, dtype=np.uint16)[None]
    with pytest.raises(DatasetError, match=r"more than 32 values, such as 31, 32, 33; .*call the folder instances"):
        read_dataset(folder(values=values))


def test_a_mask_of_0_and_1_among_those_of_0_and_255_is_an_error_of_its_case_alone(folder):
    path = folder()
    _save(path / "masks/b.png", MASK > 0)
    dataset = read_dataset(path)
    assert dataset.labels == {"background": 0, "foreground": 255}
    problems = [check_case(case, 1, dataset.label_map).report.problems for case in dataset.training]
    assert [[problem.found for problem in found] for found in problems] == [[], ["label values 1 (6 voxels)"]]


def test_instances_are_taken_before_masks_and_numbers_become_levels(folder):
    path = folder("instances", values=np.array([[0, 1, 2, 2]] * 3, np.uint16))
    folder("masks")
    dataset = read_dataset(path)
    assert dataset.instances
    assert dataset.labels == {"background": 0, "object": 1}
    assert dataset.object_label == ("object", 1)
    assert next(iter(dataset.class_names.items())) == ("background", 0)
    assert len(dataset.class_names) == len(dataset.label_map.values)
    assert "(masks/ not taken)" in dataset.notes[-1].found
    levels = dataset.label_map.to_index(np.array([[[0, 1, 2, 2]] * 3]))
    assert np.array_equal(levels > 0, np.array([[[0, 1, 1, 1]] * 3]) > 0)


def test_one_colour_image_makes_three_channels_and_grey_is_repeated(folder):
    path = folder()
    _save(path / "images/b.png", COLOUR)
    dataset = read_dataset(path)
    assert dataset.channels == ("red", "green", "blue")
    assert [check_case(case, 3, dataset.label_map).report.problems for case in dataset.training] == [(), ()]


def test_colours_that_show_nothing_but_grey_are_one_channel(folder):
    dataset = read_dataset(folder(image=np.stack([GREY] * 3, axis=-1)))
    assert dataset.channels == ("grey",)
    assert check_case(dataset.training[0], 1, dataset.label_map).image.shape == (1, 1, 3, 4)


def test_a_folder_of_one_mask_per_object_for_each_image(folder):
    path = folder()
    for name in "ab":
        (path / f"masks/{name}.png").unlink()
        for number in range(2):
            _save(path / f"masks/{name}/{number}.png", np.eye(3, 4, number, np.uint8) * 255)
    dataset = read_dataset(path)
    assert dataset.instances
    assert dataset.training[0].label_path == path / "masks/a"


@pytest.mark.parametrize("suffix", ["_mask", "_segmentation", "_label"])
def test_usual_suffixes_of_labels_are_known(folder, suffix):
    path = folder()
    (path / "masks/a.png").rename(path / f"masks/a{suffix}.png")
    dataset = read_dataset(path)
    assert [case.name for case in dataset.training] == ["a", "b"]
    assert dataset.training[0].label_path.name == f"a{suffix}.png"


def test_partners_that_are_missing_and_names_that_come_twice_are_all_named(folder):
    path = folder()
    _save(path / "images/alone.png", GREY)
    _save(path / "masks/orphan.png", MASK)
    _save(path / "images/a.tif", GREY)
    _save(path / "masks/b.tif", MASK)
    assert sorted(_errors(read_dataset(path))) == [
        ("a", "the name of a.png again"),
        ("alone", "no such label file"),
        ("b", "the name of b.png again"),
        ("orphan", "no such image file"),
    ]


def test_a_file_that_cannot_be_read_is_left_to_the_check(folder):
    path = folder()
    (path / "images/a.png").write_text("no image")
    (path / "masks/b.png").write_text("no mask")
    assert read_dataset(path).labels == {"background": 0, "foreground": 255}


@pytest.mark.parametrize("inside", ["", "stage1_train"])
def test_the_folders_of_the_data_science_bowl_are_read(tmp_path, inside):
    for name in ("c1", "c2"):
        case = tmp_path / "bowl" / inside / name
        _save(case / "images" / f"{name}.png", COLOUR)
        for number in range(2):
            _save(case / "masks" / f"m{number}.png", np.eye(3, 4, number, np.uint8) * 255)
    _save(tmp_path / "bowl/stage1_test/t1/images/t1.png", COLOUR)
    dataset = read_dataset(tmp_path / "bowl")
    assert dataset.instances
    assert dataset.labels == {"background": 0, "nucleus": 1}
    assert [case.name for case in dataset.training][:2] == ["c1", "c2"]
    assert dataset.training[0].label_path.name == "masks"
    assert [case.name for case in dataset.test] == (["t1"] if inside else [])


def test_several_images_of_one_case_are_an_error(tmp_path):
    for name in ("a", "b"):
        _save(tmp_path / "bowl/c1/images" / f"{name}.png", COLOUR)
    _save(tmp_path / "bowl/c1/masks/m.png", MASK)
    assert _errors(read_dataset(tmp_path / "bowl")) == [("c1", "several images of one case (a.png, b.png)")]


def test_images_to_segment_beside_the_training_ones_are_the_test_cases(folder):
    path = folder()
    _save(path / "test/images/t.png", GREY)
    assert [(case.name, case.label_path) for case in read_dataset(path).test] == [("t", None)]


def test_images_alone_are_no_data_set(tmp_path):
    (tmp_path / "images").mkdir()
    assert found_layout(tmp_path) is None
    assert not is_data_set(tmp_path)
    (tmp_path / "masks").mkdir()
    assert is_data_set(tmp_path)
    with pytest.raises(DatasetError, match="no images"):
        read_dataset(tmp_path)


def test_what_files_show_is_looked_up_where_they_have_not_changed(folder, tmp_path, monkeypatch):
    path, cache = folder(), tmp_path / "cache"
    first = read_dataset(path, cache)
    with monkeypatch.context() as patch:
        patch.setattr("msseg.data.in_place.read_label", lambda _path: pytest.fail("opened"))
        assert read_dataset(path, cache) == first
    _save(path / "masks/b.png", MASK // 255 * 9)
    assert read_dataset(path, cache).labels == {"background": 0, "class_9": 9, "class_255": 255}
