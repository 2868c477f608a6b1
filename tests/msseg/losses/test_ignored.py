"""What is ignored, -1 in the target, has no part in any loss: no value, no gradient, at any level or output."""

from __future__ import annotations

import pytest
import torch

from msseg.losses import LOSSES, SupervisedLoss, build_loss, downscale_target, region_targets
from msseg.losses.level_targets import DOWNSCALES
from msseg.losses.supervision import UPSAMPLED
from msseg.networks.outputs import Outputs, PointLogits

REGIONS = [(1, 2), (2,)]
WEIGHTS = (0.2, 0.3, 0.5)
VARIANTS = {
    **{name: (name, {}) for name in sorted(LOSSES)},
    "hybrid, focal": ("hybrid", {"mode": "focal"}),
    "hybrid, literal": ("hybrid", {"mode": "literal"}),
    "sharp, half": ("sharp", {"preset": "half"}),
    "bce_dice, batch": ("bce_dice", {"over": "batch"}),
    "dice_ce, weighted": ("dice_ce", {"class_weights": "plan"}),
    "focal, weighted": ("focal", {"class_weights": "plan"}),
}
IS_REGIONS = {"region_dice_bce"}


def labels(shape, seed=0, classes=3):
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))


def scattered(target, seed=1, share=0.5):
    """The target with about that share of its voxels ignored."""
    return target.masked_fill(torch.rand(target.shape, generator=torch.Generator().manual_seed(seed)) < share, -1)


def sliced(target):
    """The target with every third slice annotated."""
    every_third = torch.arange(target.shape[1]) % 3 != 1
    return target.masked_fill(every_third.reshape(1, -1, *(1,) * (target.ndim - 2)), -1)


def built(variant, batch_dice, classes=3):
    """The loss of logits and labels (b, *spatial), and the number of its logits."""
    name, options = VARIANTS[variant]
    loss = build_loss(name, WEIGHTS[:classes] if classes > 1 else (0.4, 0.6), batch_dice, options)
    if name not in IS_REGIONS:
        return loss, classes
    regions = REGIONS[: max(classes - 1, 1)]
    return (lambda logits, target: loss(logits, region_targets(target, regions))), len(regions)


def noise(*shape, seed=2):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("ignoring", [scattered, sliced])
@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_logits_of_ignored_voxels_get_no_gradient_and_make_no_difference(variant, classes, batch_dice, ignoring):
    loss, outputs = built(variant, batch_dice, classes)
    target = ignoring(labels((2, 6, 7, 5), classes=max(classes, 2)))
    ignored = (target < 0)[:, None]
    logits = noise(2, outputs, 6, 7, 5).requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert value.isfinite()
    assert (logits.grad * ignored == 0).all()
    assert (logits.grad * ~ignored != 0).any()
    others = torch.where(ignored, noise(2, outputs, 6, 7, 5, seed=9), logits.detach())
    torch.testing.assert_close(loss(others, target), value.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"border_ce"}))  # whose weights look around in space
def test_a_loss_is_that_of_the_annotated_voxels_alone(variant, batch_dice):
    loss, outputs = built(variant, batch_dice)
    target = labels((2, 6, 4))
    target[:, ::2] = -1
    logits = noise(2, outputs, 6, 4)
    torch.testing.assert_close(loss(logits, target), loss(logits[:, :, 1::2], target[:, 1::2]))


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_a_sample_without_any_annotated_voxel_teaches_nothing(variant):
    loss, outputs = built(variant, False)
    logits = noise(2, outputs, 4, 5).requires_grad_()
    target = labels((2, 4, 5))
    target[1] = -1
    loss(logits, target).backward()
    assert (logits.grad[1] == 0).all()
    assert (logits.grad[0] != 0).any()


def test_hand_worked_cross_entropy_of_two_annotated_voxels_of_four():
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.9, 0.1], [0.5, 0.75, 0.1, 0.9]]]))
    value = build_loss("weighted_ce", (1.0, 1.0), True)(logits, torch.tensor([[0, 1, -1, -1]]))
    assert value.item() == pytest.approx((0.693147 + 0.287682) / 2, rel=1e-5)


def test_hand_worked_soft_dice_of_two_annotated_voxels_of_four():
    # Class 1: 2 · 0.75 / (0.5 + 0.75 + 1) = 2 / 3; what is predicted beyond does not count.
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.9, 0.1], [0.5, 0.75, 0.1, 0.9]]]))
    value = build_loss("bce_dice", (1.0, 1.0), True, {"bce_weight": 0.0, "smooth": 1e-9})(
        logits, torch.tensor([[0, 1, -1, -1]])
    )
    assert value.item() == pytest.approx(1 - 2 / 3, rel=1e-5)


def full_outputs(levels, shape, classes, seed=3):
    """Answers of a network with logits at several levels, presence, points and coarse logits."""
    sizes = [tuple(edge >> level for edge in shape) for level in range(levels)]
    generator = torch.Generator().manual_seed(seed)
    points = PointLogits(torch.rand(2, 20, len(shape), generator=generator), noise(2, classes, 20, seed=seed))
    return Outputs(
        logits=[noise(2, classes, *size, seed=seed + place).requires_grad_() for place, size in enumerate(sizes)],
        presence=[noise(2, max(classes - 1, 1), 2, seed=seed).requires_grad_()],
        points=[PointLogits(points.coordinates, points.logits.requires_grad_())],
        coarse=[noise(2, classes, *sizes[-1], seed=seed + 8).requires_grad_()],
    )


@pytest.mark.parametrize("mode", [*DOWNSCALES, UPSAMPLED])
@pytest.mark.parametrize("variant", sorted(set(LOSSES) - IS_REGIONS))
def test_supervision_teaches_nothing_where_all_is_ignored(variant, mode):
    loss = SupervisedLoss(build_loss(variant, WEIGHTS, False), (0.5, 0.3, 0.2), mode)
    outputs = full_outputs(3, (8, 8), 3)
    target = labels((2, 8, 8))
    target[1] = -1
    loss(outputs, target).backward()
    for logits in (*outputs.logits, *outputs.coarse, *outputs.presence, outputs.points[0].logits):
        assert (logits.grad[1] == 0).all()
        assert (logits.grad[0] != 0).any()


@pytest.mark.parametrize("mode", [*DOWNSCALES, UPSAMPLED])
def test_supervision_of_regions_teaches_nothing_where_all_is_ignored(mode):
    loss = SupervisedLoss(build_loss("region_dice_bce", WEIGHTS, False), (0.5, 0.3, 0.2), mode, presence_weight=0)
    outputs = full_outputs(3, (8, 8), 2)
    target = labels((2, 8, 8))
    target[1] = -1
    loss(outputs, region_targets(target, REGIONS)).backward()
    for logits in (*outputs.logits, *outputs.coarse, outputs.points[0].logits):
        assert (logits.grad[1] == 0).all()
        assert (logits.grad[0] != 0).any()


@pytest.mark.parametrize("mode", sorted(DOWNSCALES))
def test_a_level_gets_no_gradient_in_cells_that_are_ignored_altogether(mode):
    loss = SupervisedLoss(build_loss("dice_ce", WEIGHTS, False), (0.6, 0.4), mode)
    outputs = Outputs(full_outputs(2, (8, 8), 3).logits)
    target = labels((2, 8, 8))
    target[:, 4:] = -1
    loss(outputs, target).backward()
    for logits, rows in zip(outputs.logits, (4, 2), strict=True):
        assert (logits.grad[:, :, rows:] == 0).all()
        assert (logits.grad[:, :, :rows] != 0).any()


def test_pooling_known_labels_keeps_background_between_ignored_slices():
    target = torch.tensor([[0, -1, 1, -1, 0, 0, -1, -1]])
    assert downscale_target(target, (4,), "max_pool_known", (1,)).tolist() == [[0, 1, 0, -1]]
    assert downscale_target(target, (4,), "max_pool", (1,)).tolist() == [[-1, 1, 0, -1]]


def test_pooling_known_labels_of_a_whole_map_is_pooling():
    target = labels((2, 9, 7), classes=4)
    pooled = [downscale_target(target, (4, 3), mode, (2, 3, 1)) for mode in ("max_pool", "max_pool_known")]
    assert torch.equal(*pooled)
