from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from msseg.training.augmentation import augmentation_named
from msseg.training.plane_draws import OPERATION_NAMES, PlaneDraws, draw_planes
from msseg.training.previous_planes import OPERATIONS, dilated, eroded, shown_planes, without_component

CLASSES = ((1,), (2,))


def draws_of(operation=(-1, -1), radius=(1, 1), pick=(-1.0, -1.0), largest=0.15, order=(0, 1)) -> PlaneDraws:
    return PlaneDraws(*(np.array([row]) for row in (order, operation, radius, pick)), largest)


def ball(radius: int, dimensions: int) -> np.ndarray:
    places = np.indices((2 * radius + 1,) * dimensions) - radius
    return (places**2).sum(0) <= radius**2


@pytest.mark.parametrize("radius", [1, 2, 5, 8])
@pytest.mark.parametrize("shape", [(9, 14, 11), (17, 6)])
def test_masks_grow_and_shrink_by_a_ball(radius, shape):
    mask = np.random.default_rng(radius).random(shape) < 0.02
    grown = ndimage.binary_dilation(mask, ball(radius, len(shape)))
    np.testing.assert_array_equal(dilated(torch.from_numpy(mask), radius).numpy(), grown)
    shrunk = ndimage.binary_erosion(grown, ball(radius, len(shape)), border_value=1)
    np.testing.assert_array_equal(eroded(torch.from_numpy(grown), radius).numpy(), shrunk)


def test_opening_takes_what_is_thin_and_closing_fills_what_is_narrow():
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[2:9, 2:9] = True
    spoiled = mask.clone()
    spoiled[5, 9:] = True
    spoiled[4, 2:9] = False
    opened, closed = (OPERATIONS[OPERATION_NAMES.index(name)] for name in ("open", "close"))
    assert not opened(spoiled, 1)[5, 10:].any()
    assert closed(spoiled, 1)[4, 3:8].all()


def test_planes_are_one_hot_and_what_is_outside_is_in_none():
    classes = torch.tensor([[[-1, 0, 1], [2, 2, 1]]])
    planes = shown_planes(classes, CLASSES)
    assert planes.dtype == torch.float32
    assert planes.tolist() == [[[[0, 0, 1], [0, 0, 1]], [[0, 0, 0], [1, 1, 0]]]]


def test_planes_of_regions_may_overlap():
    planes = shown_planes(torch.tensor([[[0, 1, 2, 3]]]), ((1, 2, 3), (2, 3), (3,)))
    assert planes[0, :, 0].tolist() == [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]


def test_what_one_class_gains_the_others_lose_but_regions_stay_as_they_are():
    classes = torch.tensor([[[0, 1, 2, 2, 0, 0]]])
    grow = draws_of(operation=(OPERATION_NAMES.index("grow"), -1))
    assert shown_planes(classes, CLASSES, grow)[0, :, 0].tolist() == [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]]
    nested = shown_planes(classes, ((1, 2), (2,)), grow)[0, :, 0].tolist()
    assert nested == [[1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0]]


def test_a_component_below_the_share_is_lost_and_a_larger_one_stays():
    plane = np.zeros((10, 10), bool)
    plane[0:4, 0:5] = True  # 20 of 100
    plane[6, 6] = plane[7, 7] = True  # one, as they touch at a corner
    plane[9, 0] = True
    first, second = (without_component(plane, pick, 0.15) for pick in (0.0, 0.99))
    assert [int(one.sum()) for one in (first, second)] == [21, 22]
    assert not first[6:8, 6:8].any() and not second[9, 0]
    np.testing.assert_array_equal(without_component(plane, 0.5, 0.005), plane)
    planes = shown_planes(
        torch.from_numpy(plane.astype(np.int16))[None], ((1,),), draws_of((-1,), (1,), (0.0,), order=(0,))
    )
    np.testing.assert_array_equal(planes[0, 0].numpy(), first)


def test_nothing_is_drawn_without_augmentation_and_shares_are_the_rows():
    quiet = draw_planes(augmentation_named("none"), np.random.default_rng(0), 50, 2)
    assert (quiet.operation == -1).all() and (quiet.pick < 0).all()
    drawn = draw_planes(augmentation_named("nnunet"), np.random.default_rng(0), 4000, 3)
    changed, lossy = (drawn.operation >= 0), (drawn.pick >= 0)
    assert (changed.all(1) == changed.any(1)).all() and (lossy.all(1) == lossy.any(1)).all()
    assert changed[:, 0].mean() == pytest.approx(0.4, abs=0.03) and lossy[:, 0].mean() == pytest.approx(0.2, abs=0.03)
    assert (drawn.radius.min(), drawn.radius.max()) == (1, 8)
    assert set(np.unique(drawn.operation)) == {-1, 0, 1, 2, 3}
    assert (np.sort(drawn.order, axis=1) == np.arange(3)).all() and len(np.unique(drawn.order, axis=0)) == 6


def test_samples_change_each_for_itself():
    row = replace(augmentation_named("nnunet"), plane_change=1.0, plane_loss=1.0)
    drawn = draw_planes(row, np.random.default_rng(1), 4, 2)
    classes = torch.from_numpy(np.random.default_rng(2).integers(-1, 3, (4, 6, 7, 8)))
    whole = shown_planes(classes, CLASSES, drawn)
    for rows in (range(2), range(2, 4)):
        part = shown_planes(classes[rows.start : rows.stop], CLASSES, drawn.of(rows))
        assert torch.equal(part, whole[rows.start : rows.stop])
