from __future__ import annotations

import math

import pytest
import torch

from msseg.losses import SupervisedLoss, build_loss, region_targets
from msseg.losses.level_targets import DOWNSCALES, OF_SPARSE_LABELS
from msseg.losses.presence import presence_loss
from msseg.losses.supervision import UPSAMPLED, downscale_target
from msseg.networks.outputs import Outputs, PointLogits
from planning.errors import PlanError
from planning.network_row import CHOICES


def any_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return logits.sum() + target.sum()


def test_levels_are_weighed_and_added() -> None:
    loss = SupervisedLoss(lambda logits, target: logits.mean(), weights=(0.5, 0.25))
    levels = [torch.full((1, 2, 4, 4), 2.0), torch.full((1, 2, 2, 2), 4.0)]
    assert loss(Outputs(levels), torch.zeros(1, 4, 4, dtype=torch.int64)) == 0.5 * 2 + 0.25 * 4


def test_level_of_weight_zero_is_never_looked_at() -> None:
    def refuse_small(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        assert logits.shape[2] == 4
        return logits.mean()

    levels = [torch.ones(1, 2, 4, 4), torch.ones(1, 2, 2, 2)]
    assert (
        SupervisedLoss(refuse_small, weights=(1.0, 0.0))(Outputs(levels), torch.zeros(1, 4, 4, dtype=torch.int64)) == 1
    )


def test_number_of_levels_and_weights_must_agree() -> None:
    loss = SupervisedLoss(any_loss, weights=(1.0,))
    with pytest.raises(ValueError, match="2 levels"):
        loss(Outputs([torch.ones(1, 1, 2), torch.ones(1, 1, 1)]), torch.zeros(1, 2, dtype=torch.int64))


def test_each_size_gets_its_target_once_and_full_resolution_the_given_one() -> None:
    seen: list[torch.Tensor] = []
    loss = SupervisedLoss(lambda logits, target: seen.append(target) or logits.mean(), weights=(1.0,) * 5)
    target = torch.arange(16).reshape(1, 4, 4)
    loss(Outputs([torch.ones(1, 2, size, size) for size in (4, 4, 2, 4, 2)]), target)
    assert seen[0] is seen[1] is seen[3] is target
    assert seen[2] is seen[4]
    assert seen[2].tolist() == downscale_target(target, (2, 2)).tolist()


@pytest.mark.parametrize(("mode", "expected"), [("nearest", [[0]]), ("max_pool", [[1]]), ("area", [[0]])])
def test_level_targets_name_the_way_down(mode: str, expected: list[list[int]]) -> None:
    seen: list[torch.Tensor] = []
    loss = SupervisedLoss(lambda logits, target: seen.append(target) or logits.mean(), (1.0,), level_targets=mode)
    loss(Outputs([torch.ones(1, 2, 1)]), torch.tensor([[0, 0, 0, 1]]))
    assert seen[0].tolist() == expected


def test_classes_of_a_cell_are_taken_in_the_given_order_else_from_the_last_index_down() -> None:
    seen: list[torch.Tensor] = []
    target, outputs = torch.tensor([[1, 2]]), Outputs([torch.ones(1, 3, 1)])
    for order in ((1, 2), None):
        SupervisedLoss(
            lambda logits, target: seen.append(target) or logits.mean(), (1.0,), "max_pool", class_order=order
        )(outputs, target)
    assert [each.tolist() for each in seen] == [[[1]], [[2]]]


def test_upsampled_logits_meet_the_target_at_full_resolution() -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    loss = SupervisedLoss(
        lambda logits, target: seen.append((logits, target)) or logits.mean(), (1.0, 1.0), "upsampled_logits"
    )
    full, half = torch.zeros(1, 1, 4), torch.tensor([[[0.0, 4.0]]])
    target = torch.tensor([[0, 1, 1, 1]])
    loss(Outputs([full, half]), target)
    assert seen[0][0] is full
    assert seen[1][0].tolist() == [[[0.0, 1.0, 3.0, 4.0]]]
    assert seen[1][1] is target


@pytest.mark.parametrize("dimensions", [2, 3])
def test_upsampled_logits_pass_gradients_in_single_precision_inside_autocast(dimensions: int) -> None:
    half = torch.randn(1, 2, *[3] * dimensions, dtype=torch.bfloat16, requires_grad=True)
    loss = SupervisedLoss(build_loss("dice_ce", (1.0, 1.0), True), (1.0,), "upsampled_logits")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(Outputs([half]), torch.ones(1, *[5] * dimensions, dtype=torch.int64))
    value.backward()
    assert value.dtype == torch.float32
    assert half.grad is not None
    assert (half.grad != 0).all()


def test_points_and_coarse_logits_add_their_means() -> None:
    target = torch.tensor([[[0, 1], [1, 1]]])
    points = [PointLogits(torch.full((1, 1, 2), 0.25), torch.tensor([[[0.0], [x]]])) for x in (0.0, 2.0)]
    outputs = Outputs([torch.zeros(1, 2, 2, 2)], (), points, [torch.full((1, 2, 1, 1), x) for x in (1.0, 3.0)])
    loss = SupervisedLoss(lambda logits, target: logits.mean(), (1.0,), point_weight=0.5, coarse_weight=0.25)
    # The points lie in a voxel of background: log (1 + e^x) each.
    expected = 0.5 * (math.log(2) + math.log(1 + math.exp(2))) / 2 + 0.25 * (1 + 3) / 2
    assert loss(outputs, target).item() == pytest.approx(expected)


def test_presence_adds_its_mean_over_the_guided_nodes() -> None:
    target = torch.tensor([[[0, 1], [1, 1]]])
    presence = [torch.tensor([[[0.0, x]]]) for x in (0.0, 2.0)]
    each = [presence_loss(logits, target) for logits in presence]
    loss = SupervisedLoss(lambda logits, target: logits.mean(), (1.0,), presence_weight=3.0)
    outputs = Outputs([torch.zeros(1, 2, 2, 2)], presence)
    torch.testing.assert_close(loss(outputs, target), 3 * (each[0] + each[1]) / 2)


def test_terms_of_weight_zero_are_never_looked_at() -> None:
    outputs = Outputs([torch.ones(1, 2, 4)], ["presence"], ["points"], ["coarse"])
    loss = SupervisedLoss(any_loss, (1.0,), presence_weight=0, point_weight=0, coarse_weight=0)
    assert loss(outputs, torch.zeros(1, 4, dtype=torch.int64)) == 8


@pytest.mark.parametrize("mode", ["nearest", "max_pool", "area"])
def test_regions_are_downscaled_plane_by_plane(mode: str) -> None:
    target = torch.tensor([[1, 1, 0, 0, -1, -1], [0, 0, 0, 0, 1, 1]])[None]
    seen: list[torch.Tensor] = []
    loss = SupervisedLoss(lambda logits, target: seen.append(target) or logits.mean(), (1.0,), mode)
    loss(Outputs([torch.ones(1, 2, 3)]), target)
    assert seen[0].tolist() == [[[1, 0, -1], [0, 0, 1]]]


def test_unknown_level_targets_are_refused_with_the_known_ones() -> None:
    with pytest.raises(PlanError, match=r"'middle'.*nearest, max_pool, max_pool_known, area, upsampled_logits"):
        SupervisedLoss(any_loss, (1.0,), level_targets="middle")


def test_level_targets_are_those_that_a_network_may_name() -> None:
    named = [name for name in DOWNSCALES if name not in OF_SPARSE_LABELS.values()]
    assert (*named, UPSAMPLED) == CHOICES["level_targets"]


@pytest.mark.parametrize("mode", ["nearest", "max_pool", "area"])
def test_labels_become_regions_before_they_reach_coarser_levels(mode: str) -> None:
    generator = torch.Generator().manual_seed(4)
    target = torch.randint(-1, 4, (2, 8, 8), generator=generator)
    logits = [torch.randn(2, 2, edge, edge, generator=generator) for edge in (8, 4)]
    regions = ((1, 2, 3), (2, 3))
    loss = build_loss("region_dice_bce", (1.0,) * 4, True)
    supervised = SupervisedLoss(loss, (0.75, 0.25), mode, regions=regions)
    planes = region_targets(target, regions)
    expected = 0.75 * loss(logits[0], planes) + 0.25 * loss(logits[1], downscale_target(planes, (4, 4), mode, (1,)))
    torch.testing.assert_close(supervised(Outputs(logits), target), expected)
    torch.testing.assert_close(supervised(Outputs(logits), planes), expected)
