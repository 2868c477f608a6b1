from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from msseg.preprocessing import locations, measure
from msseg.preprocessing.measure import foreground_intensities, measure_case, object_sizes
from planning.fingerprint import sketch_intensities


def test_a_case_measured_by_hand() -> None:
    image = np.zeros((1, 3, 4, 5), np.float32)
    image[0, 1:, 1:, :4] = 5
    label = np.zeros((3, 4, 5), np.uint8)
    label[1, 1, 0] = label[1, 1, 1] = label[2, 3, 3] = 1
    label[0, 0, 4] = 2  # where the image shows nothing: cropped away
    measured = measure_case("a", image, label, (2.0, 1.0, 0.5), num_classes=4)
    found = measured.fingerprint
    assert (found.shape, found.cropped_shape, found.spacing_mm) == ((3, 4, 5), (2, 3, 4), (2.0, 1.0, 0.5))
    assert found.voxels_per_class == (3, 0, 0)
    assert found.components_per_class == (2, 0, 0)
    assert found.object_sizes_mm3 == ((2.0, 1.0), (), ())
    assert (measured.sketches[0].count, measured.sketches[0].mean) == (3, 5.0)


def test_touching_corners_are_one_object_and_touching_classes_are_two() -> None:
    label = np.array([[[1, 0, 2], [0, 1, 2]]], np.uint8)
    assert [sizes.tolist() for sizes in object_sizes(label, 3)] == [[2], [2]]


def test_objects_equal_scipys_labelling_class_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "_SLAB_VOXELS", 200)
    label = np.random.default_rng(0).choice(4, (9, 10, 11), p=(0.8, 0.1, 0.06, 0.04)).astype(np.uint8)
    for index, sizes in enumerate(object_sizes(label, 4), start=1):
        components, _ = ndimage.label(label == index, np.ones((3, 3, 3)))
        np.testing.assert_array_equal(sizes, np.sort(np.bincount(components.ravel())[1:])[::-1])


def test_only_the_largest_hundred_objects_are_listed_and_all_are_counted() -> None:
    label = np.zeros((1, 30, 40), np.uint8)
    label[0, ::2, ::2] = 1
    found = measure_case("a", np.ones((1, 1, 30, 40)), label, (1.0, 1.0, 1.0), 2).fingerprint
    assert (found.components_per_class, len(found.object_sizes_mm3[0])) == ((300,), 100)


def test_every_step_th_voxel_is_taken_across_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "_SLAB_VOXELS", 7)
    label = (np.arange(60).reshape(5, 3, 4) % 3 > 0).astype(np.uint8)
    channel = np.arange(60.0).reshape(5, 3, 4)
    np.testing.assert_array_equal(foreground_intensities(channel, label, 4), channel[label > 0][::4])


def test_a_huge_foreground_is_thinned_and_keeps_its_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_MOST_INTENSITIES", 1000)
    image = np.random.default_rng(0).normal(size=(1, 20, 20, 20))
    sketch = measure_case("a", image, np.ones((20, 20, 20), np.uint8), (1.0, 1.0, 1.0), 2).sketches[0]
    assert sketch.count == 1000
    assert sketch.mean == pytest.approx(0, abs=0.1)


def test_each_channel_has_its_sketch() -> None:
    image = np.stack([np.full((2, 2, 2), 3.0), np.arange(8.0).reshape(2, 2, 2)])
    sketches = measure_case("a", image, np.ones((2, 2, 2), np.uint8), (1.0, 1.0, 1.0), 2).sketches
    assert sketches == (sketch_intensities(np.full(8, 3.0)), sketch_intensities(np.arange(8.0)))


def test_the_contrast_is_the_step_in_deviations_mean_over_the_channels() -> None:
    label = np.array([[[0, 1, 1, 0]]], np.uint8)
    image = np.array([[1.0, 3.0, 3.0, 1.0], [30.0, 10.0, 10.0, 30.0], [5.0, 9.0, 9.0, 5.0]]).reshape(3, 1, 1, 4)
    # Each channel has a deviation of half its step: 2, -2 and 2 of them.
    measured = measure_case("a", image.astype(np.float32), label, (1.0, 1.0, 1.0), 2)
    assert measured.fingerprint.contrast == pytest.approx(2 / 3)


def test_volumes_and_slices_without_foreground_have_no_contrast() -> None:
    image = np.ones((1, 2, 2, 2), np.float32)
    label = np.zeros((2, 2, 2), np.uint8)
    label[0] = 1
    assert measure_case("a", image, label, (1.0, 1.0, 1.0), 2).fingerprint.contrast is None
    assert measure_case("a", image[:, :1], label[1:], (1.0, 1.0, 1.0), 2).fingerprint.contrast is None
