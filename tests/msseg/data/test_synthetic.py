from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msseg.data.dataset import read_dataset
from msseg.data.image import read_image, read_label
from msseg.data.synthetic import LABELS, SyntheticCase, Tissue, synthetic_case, write_synthetic_dataset


@pytest.fixture(scope="module")
def cases() -> list[SyntheticCase]:
    return [synthetic_case(0, index) for index in range(8)]


def test_same_seed_same_voxels(cases: list[SyntheticCase]):
    again = synthetic_case(0, 3)
    assert np.array_equal(again.image, cases[3].image)
    assert np.array_equal(again.label, cases[3].label)
    assert again.geometry == cases[3].geometry


def test_cases_and_seeds_differ(cases: list[SyntheticCase]):
    other_seed = synthetic_case(1, 0)
    for other in (cases[1], other_seed):
        assert not np.array_equal(other.image, cases[0].image)


def test_volumes_are_small_and_anisotropic(cases: list[SyntheticCase]):
    for case in cases:
        depth, height, width = case.geometry.shape
        assert 24 <= depth <= 42 and (height, width) == (80, 96)
        slice_mm, row_mm, column_mm = case.geometry.spacing_mm
        assert 3.0 <= slice_mm <= 5.0 and row_mm == column_mm and 1.8 <= row_mm <= 2.0
    assert len({case.geometry.spacing_mm for case in cases}) > 2


def test_every_case_has_kidney_and_tumour_of_sensible_size(cases: list[SyntheticCase]):
    for case in cases:
        voxel_ml = np.prod(case.geometry.spacing_mm) / 1000
        kidney_ml, tumour_ml = ((case.label == LABELS[name]).sum() * voxel_ml for name in ("kidney", "tumour"))
        assert 10 < kidney_ml < 120
        assert 0.8 < tumour_ml < 60


def test_intensities_are_those_of_an_abdominal_ct(cases: list[SyntheticCase]):
    kidney = np.concatenate([case.image[0][case.label == LABELS["kidney"]] for case in cases])
    tumour = np.concatenate([case.image[0][case.label == LABELS["tumour"]] for case in cases])
    assert 110 < np.median(kidney) < 190
    assert 50 < np.median(tumour) < 110
    for case in cases:
        assert case.image.dtype == np.int16
        assert -1024 <= case.image.min() < -950
        assert 250 < case.image.max() < 1000


def test_tumours_cannot_be_found_by_brightness_alone(cases: list[SyntheticCase]):
    for case in cases:
        image, tumour = case.image[0], case.label == LABELS["tumour"]
        low, high = np.percentile(image[tumour], [10, 90])
        guessed = (image >= low) & (image <= high)
        assert 2 * (guessed & tumour).sum() / (guessed.sum() + tumour.sum()) < 0.35


def test_tumours_touch_a_kidney(cases: list[SyntheticCase]):
    for case in cases:
        kidney, tumour = case.label == LABELS["kidney"], case.label == LABELS["tumour"]
        near = np.zeros_like(kidney)
        for axis in range(3):
            for step in (-1, 1):
                near |= np.roll(kidney, step, axis)
        assert (near & tumour).any()


def test_a_turned_ellipsoid_points_along_its_axes():
    quarter = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    tissue = Tissue((0, 0, 0), (5, 1, 1), 50, turn=quarter)
    points = np.array([[0, 4, 0], [4, 0, 0], [0, -4, 0]], dtype=np.float32).T
    assert tissue.covers(points).tolist() == [True, False, True]


def test_the_folder_is_a_data_set_with_references_for_its_test_cases(tmp_path: Path):
    folder = write_synthetic_dataset(tmp_path / "Dataset900_SyntheticKidneys", training=2, test=1, seed=5)
    dataset = read_dataset(folder)
    assert dataset.channels == ("CT",)
    assert dataset.labels == LABELS
    assert (len(dataset.training), len(dataset.test)) == (2, 1)
    image, geometry = read_image(dataset.test[0].image_paths)
    label, label_geometry = read_label(folder / "labelsTs" / "abdomen_002.nii.gz")
    expected = synthetic_case(5, 2)
    assert np.array_equal(image, expected.image)
    assert np.array_equal(label, expected.label)
    assert geometry.shape == label_geometry.shape == expected.geometry.shape
