from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from msseg.losses.points import point_loss
from msseg.networks.outputs import PointLogits

# Four points of a grid of 2 × 3: in cells (0, 0), (0, 2), (1, 1), (1, 2).
COORDINATES = torch.tensor([[[0.1, 0.1], [0.4, 0.7], [0.6, 0.5], [0.9, 0.99]]])
TARGET = torch.tensor([[[0, 1, 2], [1, 2, -1]]])


def make_points(num_classes: int, dtype: torch.dtype = torch.float32) -> PointLogits:
    logits = torch.randn(1, num_classes, 4, generator=torch.Generator().manual_seed(1))
    return PointLogits(COORDINATES, logits.to(dtype).requires_grad_())


def test_each_point_is_held_to_the_label_of_its_voxel() -> None:
    points = make_points(3)
    wanted = F.cross_entropy(points.logits[0, :, :3].T, torch.tensor([0, 2, 2]))  # the fourth has no label
    torch.testing.assert_close(point_loss(points, TARGET), wanted)


def test_equal_logits_cost_the_logarithm_of_the_number_of_classes() -> None:
    points = PointLogits(COORDINATES, torch.zeros(1, 5, 4))
    assert point_loss(points, TARGET).item() == pytest.approx(math.log(5))


def test_a_single_class_is_held_to_label_1_or_more_by_binary_cross_entropy() -> None:
    points = make_points(1)
    wanted = F.binary_cross_entropy_with_logits(points.logits[0, 0, :3], torch.tensor([0.0, 1.0, 1.0]))
    torch.testing.assert_close(point_loss(points, TARGET), wanted)


def test_regions_are_held_to_their_own_planes() -> None:
    points = make_points(2)
    regions = torch.stack((TARGET > 0, TARGET > 1), dim=1).to(torch.int8).masked_fill((TARGET < 0)[:, None], -1)
    wanted = F.binary_cross_entropy_with_logits(
        points.logits[0, :, :3], torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    )
    torch.testing.assert_close(point_loss(points, regions), wanted)


def test_points_of_a_volume_find_their_labels() -> None:
    target = torch.arange(2 * 3 * 4).reshape(1, 2, 3, 4)
    coordinates = torch.tensor([[[0.75, 0.5, 0.99]]])  # voxel (1, 1, 3)
    logits = torch.zeros(1, 24, 1)
    logits[0, 12 + 4 + 3] = 50.0
    assert point_loss(PointLogits(coordinates, logits), target).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_points_without_any_label_cost_nothing(num_classes: int) -> None:
    points = make_points(num_classes)
    loss = point_loss(points, torch.full_like(TARGET, -1))
    loss.backward()
    assert loss.item() == 0
    assert points.logits.grad is not None and not points.logits.grad.any()


def test_a_wrong_decision_beyond_doubt_has_a_finite_gradient() -> None:
    logits = torch.tensor([[[1e4], [-1e4]]]).expand(1, 2, 4).clone().requires_grad_()
    loss = point_loss(PointLogits(COORDINATES, logits), torch.ones_like(TARGET))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_low_precision_logits_are_summed_in_float32_inside_autocast() -> None:
    points = make_points(3, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = point_loss(points, TARGET)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, point_loss(PointLogits(COORDINATES, points.logits.float()), TARGET))
