from __future__ import annotations

import math

import monai.losses
import pytest
import torch
from torch.nn import functional as F

from msseg.losses import build_loss


def random_case(classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 4, 5, 6, generator=generator)
    return logits, torch.randint(0, max(classes, 2), (2, 4, 5, 6), generator=generator)


def test_binary_cross_entropy_of_two_classes_is_torchs_on_the_difference_of_their_logits() -> None:
    logits, target = random_case(2)
    expected = F.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], target.float())
    torch.testing.assert_close(build_loss("bce", (1.0, 1.0), True)(logits, target), expected)


def test_binary_cross_entropy_of_several_classes_is_the_mean_of_each_against_the_rest() -> None:
    logits, target = random_case(4)
    p = logits.double().softmax(1)
    expected = torch.stack([F.binary_cross_entropy(p[:, c], (target == c).double()) for c in (1, 2, 3)]).mean()
    torch.testing.assert_close(build_loss("bce", (1.0,) * 4, True)(logits, target).double(), expected)


def test_rest_of_a_class_stays_exact_where_it_is_nearly_nothing() -> None:
    # 1 - p is about 2 e⁻⁴⁰, far below what is left of single precision beside p = 1.
    logits, target = torch.tensor([0.0, 40.0, 0.0])[None, :, None], torch.tensor([[0]])
    ours = build_loss("bce", (1.0,) * 3, True)(logits, target)
    assert ours.item() == pytest.approx((40 - math.log(2)) / 2, rel=1e-6)


def test_focal_loss_of_one_logit_is_monais() -> None:
    logits, target = random_case(1)
    reference = monai.losses.FocalLoss(alpha=0.25, gamma=2.0)
    ours = build_loss("focal", (1.0, 1.0), True)(logits, target)
    torch.testing.assert_close(ours, reference(logits, target[:, None].float()))


def test_focal_loss_of_several_classes_is_monais_on_softmax_summed_over_the_classes() -> None:
    logits, target = random_case(3)
    reference = monai.losses.FocalLoss(alpha=0.4, gamma=1.5, use_softmax=True, to_onehot_y=True)
    ours = build_loss("focal", (1.0,) * 3, True, {"alpha": 0.4, "gamma": 1.5})(logits, target)
    torch.testing.assert_close(ours, 3 * reference(logits, target[:, None]))


def test_focal_loss_with_the_plans_weights_is_monais() -> None:
    logits, target = random_case(3)
    weights = (0.2, 0.3, 0.5)
    reference = monai.losses.FocalLoss(gamma=2.0, use_softmax=True, to_onehot_y=True, weight=torch.tensor(weights))
    ours = build_loss("focal", weights, True, {"class_weights": "plan"})(logits, target)
    torch.testing.assert_close(ours, 3 * reference(logits, target[:, None]))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_focal_loss_keeps_a_finite_slope_at_a_perfect_prediction_for_small_powers(gamma: float) -> None:
    logits = torch.tensor([[[-50.0, 50.0], [50.0, -50.0]]], requires_grad=True)
    build_loss("focal", (1.0, 1.0), True, {"gamma": gamma})(logits, torch.tensor([[1, 0]])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_loss_of_unetpp_is_half_of_torchs_cross_entropy_and_monais_dice() -> None:
    logits, target = random_case(1)
    dice = monai.losses.DiceLoss(sigmoid=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, target[:, None])
    entropy = F.binary_cross_entropy_with_logits(logits[:, 0], target.float())
    torch.testing.assert_close(build_loss("bce_dice", (1.0, 1.0), True)(logits, target), 0.5 * entropy + dice)


def test_dice_of_unetpp_goes_over_the_batch_on_request() -> None:
    logits, target = random_case(1)
    dice = monai.losses.DiceLoss(sigmoid=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, target[:, None])
    ours = build_loss("bce_dice", (1.0, 1.0), False, {"over": "batch", "bce_weight": 0})(logits, target)
    torch.testing.assert_close(ours, dice)


@pytest.mark.parametrize(("preset", "dice_weight"), [("paper", 1.0), ("half", 0.5)])
def test_mix_of_unet_sharp_is_monais_focal_and_dice_with_the_lovasz_hinge(preset: str, dice_weight: float) -> None:
    logits, target = random_case(1)
    focal = monai.losses.FocalLoss(alpha=0.25, gamma=2.0)(logits, target[:, None].float())
    dice = monai.losses.DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)(logits, target[:, None])
    alone = {"focal_weight": 0.0, "dice_weight": 0.0, "lovasz_weight": 1.0}
    hinge = build_loss("sharp", (1.0, 1.0), True, alone)(logits, target)
    ours = build_loss("sharp", (1.0, 1.0), True, {"preset": preset})(logits, target)
    torch.testing.assert_close(ours, 0.5 * focal + dice_weight * dice + 0.5 * hinge)
