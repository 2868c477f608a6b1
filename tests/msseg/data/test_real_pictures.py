"""Real microscopy, read in place as it was published."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.io import imread

from msseg.data.checks import check_case
from msseg.data.dataset import read_dataset
from msseg.data.found_layouts import is_data_set
from msseg.data.image import read_label


@pytest.fixture(scope="module")
def nuclei(test_data):
    return read_dataset(test_data / "DSB2018")


def test_nuclei_are_numbered_objects_in_colour(nuclei):
    assert nuclei.channels == ("red", "green", "blue")
    assert nuclei.instances
    assert len(nuclei.training) == 200
    assert "masks/ not taken" in nuclei.notes[-1].found


@pytest.mark.parametrize("index", [0, 6, 34])
def test_nuclei_pass_the_check_as_another_reader_reads_them(nuclei, index):
    case = nuclei.training[index]
    checked = check_case(case, 3, nuclei.label_map, nuclei.channels)
    assert checked.report.problems == ()
    want = imread(case.image_paths[0])
    assert (want[..., 3] == 255).all()
    assert np.array_equal(checked.image[:, 0], np.moveaxis(want[..., :3], -1, 0))
    assert np.array_equal(checked.label[0] > 0, imread(case.label_path) > 0)


def test_the_numbers_of_nuclei_are_those_of_the_file(nuclei):
    label, _ = read_label(nuclei.training[0].label_path)
    assert label.dtype == np.uint16
    assert np.array_equal(label[0], imread(nuclei.training[0].label_path))


def test_membranes_are_grey_with_one_foreground_of_255(test_data):
    folder = test_data / "ISBI2012_EM"
    assert is_data_set(folder)
    dataset = read_dataset(folder)
    assert (dataset.channels, dataset.labels) == (("grey",), {"background": 0, "foreground": 255})
    checked = check_case(dataset.training[3], 1, dataset.label_map)
    assert checked.report.problems == ()
    assert not checked.report.has_spacing
    assert checked.image.shape == (1, 1, 512, 512)
    assert 0.7 < checked.report.foreground_voxels / 512**2 < 0.85
