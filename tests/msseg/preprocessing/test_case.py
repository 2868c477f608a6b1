from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.transform import resize

from msseg.errors import DatasetError
from msseg.preprocessing.case import preprocess_case
from planning.plan import Plan

PlanMaker = Callable[..., Plan]


def margins(shape: tuple[int, int, int] = (9, 10, 11)) -> tuple[np.ndarray, np.ndarray]:
    """Noise with margins of zeros of different widths, and a label inside."""
    image = np.random.default_rng(0).normal(100, 10, (1, *shape)).astype(np.float32)
    image[:, :1] = image[:, :, :2] = image[..., 8:] = 0
    label = np.zeros(shape, np.uint8)
    label[3:6, 4:8, 2:5] = 1
    return image, label


def test_steps_follow_each_other_as_written_out(make_plan: PlanMaker) -> None:
    image, label = margins()
    plan = make_plan(spacing_mm=(1.5, 1.0, 2.0), axis_order=(2, 0, 1))
    prepared = preprocess_case(image, label, (1.0, 2.0, 1.5), plan, plan.configurations["3d"])
    by_hand = image[0].transpose(2, 0, 1)[:8, 1:, 2:]
    by_hand = (by_hand - by_hand.mean()) / by_hand.std()
    expected = resize(by_hand, (8, 8, 8), 3, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(prepared.image[0], expected, atol=1e-4)
    assert prepared.label is not None and prepared.label.shape == (8, 8, 8)
    assert prepared.spacing_mm == (1.5, 1.0, 2.0)


def test_properties_hold_the_way_back_and_are_json(make_plan: PlanMaker) -> None:
    image, _ = margins()
    plan = make_plan(spacing_mm=(1.5, 1.0, 2.0), axis_order=(2, 0, 1))
    prepared = preprocess_case(image, None, (1.0, 2.0, 1.5), plan, plan.configurations["3d"])
    assert json.loads(json.dumps(prepared.properties)) == {
        "axis_order": [2, 0, 1],
        "spacing_before_mm": [1.5, 1.0, 2.0],
        "shape_before_crop": [11, 9, 10],
        "crop_box": [[0, 8], [1, 9], [2, 10]],
        "shape_after_crop": [8, 8, 8],
        "spacing_mm": [1.5, 1.0, 2.0],
        "shape": [8, 8, 8],
    }


def test_training_and_prediction_see_the_same_image(make_plan: PlanMaker) -> None:
    image, label = margins()
    plan = make_plan(spacing_mm=(0.7, 0.8, 0.9), inside_nonzero_mask=True)
    with_label = preprocess_case(image, label, (1.0, 1.0, 1.0), plan, plan.configurations["3d"])
    without = preprocess_case(image, None, (1.0, 1.0, 1.0), plan, plan.configurations["3d"])
    np.testing.assert_array_equal(with_label.image, without.image)
    assert without.label is None and without.locations == {}


def test_locations_are_on_the_prepared_grid(make_plan: PlanMaker) -> None:
    image, label = margins()
    plan = make_plan(spacing_mm=(0.5, 0.5, 0.5), axis_order=(1, 2, 0))
    prepared = preprocess_case(image, label, (1.0, 1.0, 1.0), plan, plan.configurations["3d"])
    assert prepared.label is not None
    np.testing.assert_array_equal(prepared.locations[1], np.argwhere(prepared.label == 1))


def test_the_inputs_are_left_as_they_are(make_plan: PlanMaker) -> None:
    image, label = margins()
    before = image.copy(), label.copy()
    plan = make_plan(normalisation="ct")
    preprocess_case(image, label, (1.0, 1.0, 1.0), plan, plan.configurations["3d"])
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label, before[1])


def test_a_2d_configuration_keeps_the_slices(make_plan: PlanMaker) -> None:
    plan = make_plan(spacing_mm=(0.5, 0.5))
    image = np.random.default_rng(0).normal(size=(1, 3, 8, 8))
    prepared = preprocess_case(image, None, (9.0, 1.0, 1.0), plan, plan.configurations["3d"])
    assert prepared.image.shape == (1, 3, 16, 16)
    assert prepared.spacing_mm == (9.0, 0.5, 0.5)


def test_a_label_of_another_shape_is_refused(make_plan: PlanMaker) -> None:
    plan = make_plan()
    with pytest.raises(DatasetError, match="shape"):
        preprocess_case(np.ones((1, 2, 2, 2)), np.ones((2, 2, 3)), (1, 1, 1), plan, plan.configurations["3d"])


def test_the_torso_ct_keeps_every_structure(test_data: Path, make_plan: PlanMaker) -> None:
    from msseg.data.image import read_image, read_label

    folder = test_data / "volumes" / "CT_MR_multiorgan"
    image, geometry = read_image([folder / "ct_torso_image.nii.gz"])
    label, _ = read_label(folder / "ct_torso_label.nii.gz")
    plan = make_plan(spacing_mm=(2.5, 2.5, 2.5), normalisation="ct")
    prepared = preprocess_case(image, label, geometry.spacing_mm, plan, plan.configurations["3d"])
    assert prepared.label is not None
    assert set(np.unique(prepared.label)) <= set(np.unique(label))
    before, after = np.bincount(label.ravel()) * 27, np.bincount(prepared.label.ravel()) * 2.5**3
    large = before > 20_000
    assert abs(after[large] / before[large] - 1).max() < 0.1


def test_an_image_without_spacing_is_taken_to_be_as_fine_as_those_trained_on(make_plan: PlanMaker) -> None:
    image = np.random.default_rng(0).normal(100, 10, (1, 1, 10, 12)).astype(np.float32)
    plan = make_plan(spacing_mm=(0.25, 0.5))
    prepared = preprocess_case(image, None, None, plan, plan.configurations[plan.default_configuration])
    assert prepared.image.shape == (1, 1, 10, 12)
    assert prepared.spacing_before_mm == (0.5, 0.25, 0.5)


def test_a_plan_in_pixels_takes_no_notice_of_a_files_spacing(make_plan: PlanMaker) -> None:
    image = np.random.default_rng(0).normal(100, 10, (1, 1, 10, 12)).astype(np.float32)
    plan = replace(make_plan(spacing_mm=(1.0, 1.0)), has_spacing=False)
    prepared = preprocess_case(image, None, (0.0005,) * 3, plan, plan.configurations[plan.default_configuration])
    assert prepared.image.shape == (1, 1, 10, 12)
    assert prepared.spacing_before_mm == (1.0, 1.0, 1.0)
