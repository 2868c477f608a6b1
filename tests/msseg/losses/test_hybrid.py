from __future__ import annotations

import math

import monai.losses
import pytest
import torch
from torch.nn import functional as F

from msseg.losses import build_loss
from msseg.losses.hybrid import EMPHASES
from msseg.losses.probabilities import OneVersusRest

EQUAL = (1.0, 1.0)


def foreground(p: torch.Tensor) -> OneVersusRest:
    """Foreground voxels predicted with probability p."""
    return OneVersusRest(torch.ones_like(p, dtype=torch.bool), p.log(), (1 - p).log())


def emphasis(mode: str, p: torch.Tensor) -> torch.Tensor:
    return EMPHASES[mode](foreground(p), 0.75, 2.0, 0.1)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_sane_form_of_two_voxels_worked_by_hand() -> None:
    # Foreground at p = ¾ weighs (½ / ¼)² = 4, background at p = ½ the most there is, (½ / 0.1)² = 25.
    logits, target = torch.tensor([[[logit(0.75), logit(0.5)]]]), torch.tensor([[1, 0]])
    entropy = (4 * 0.75 * -math.log(0.75) + 25 * 0.25 * -math.log(0.5)) / 2
    dice = (2 * 0.75 + 1) / (0.75**2 + 0.5**2 + 1 + 1)
    assert build_loss("hybrid", EQUAL, True)(logits, target).item() == pytest.approx(1 - dice + entropy, rel=1e-5)


def test_literal_form_is_the_printed_one() -> None:
    logits, target = torch.tensor([[[logit(0.75), logit(0.2)]]]), torch.tensor([[1, 0]])
    printed = 0.75 * math.log(0.75) / 0.25**2 / 2 + (2 * 0.75 + 1) / (0.75**2 + 0.2**2 + 1 + 1)
    loss = build_loss("hybrid", EQUAL, True, {"mode": "literal"})
    assert loss(logits, target).item() == pytest.approx(1 - printed, rel=1e-5)


def test_without_emphasis_it_is_monais_dice_and_half_of_torchs_binary_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 5, 6, generator=generator)
    target = torch.randint(0, 2, (2, 5, 6), generator=generator)
    dice = monai.losses.DiceLoss(sigmoid=True, squared_pred=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)
    entropy = F.binary_cross_entropy_with_logits(logits[:, 0], target.float())
    for mode in ("sane", "focal"):
        ours = build_loss("hybrid", EQUAL, True, {"mode": mode, "gamma": 0, "alpha": 0.5})(logits, target)
        torch.testing.assert_close(ours, dice(logits, target[:, None].float()) + 0.5 * entropy)


def test_focal_mode_is_monais_focal_loss_beside_dice() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 1, 5, 6, generator=generator)
    target = torch.randint(0, 2, (2, 5, 6), generator=generator)
    dice = monai.losses.DiceLoss(sigmoid=True, squared_pred=True, smooth_nr=1.0, smooth_dr=1.0)
    focal = monai.losses.FocalLoss(alpha=0.75, gamma=2.0)
    ours = build_loss("hybrid", EQUAL, False, {"mode": "focal"})(logits, target)
    torch.testing.assert_close(ours, dice(logits, target[:, None].float()) + focal(logits, target[:, None].float()))


def test_printed_form_has_a_minimum_for_foreground_at_a_probability_of_0_084() -> None:
    p = torch.linspace(0.01, 0.45, 4401, dtype=torch.float64)
    assert p[emphasis("literal", p).argmin()].item() == pytest.approx(0.084, abs=5e-4)
    assert p[emphasis("focal", p).argmin()] == p[-1]


@pytest.mark.parametrize(("mode", "found"), [("sane", True), ("focal", True), ("literal", False)])
def test_descent_finds_foreground_that_starts_at_one_fifth_but_not_with_the_printed_form(
    mode: str, found: bool
) -> None:
    loss, target = build_loss("hybrid", EQUAL, True, {"mode": mode}), torch.ones(1, 8, 8, dtype=torch.int64)
    logits = torch.full((1, 1, 8, 8), logit(0.2), requires_grad=True)
    for _ in range(600):
        (gradient,) = torch.autograd.grad(loss(logits, target), logits)
        logits = (logits - 8.0 * gradient).detach().requires_grad_()
    assert bool((logits > 0).all()) is found
    if not found:
        assert 0.05 < logits.sigmoid().mean() < 0.15


def test_gradient_of_the_sane_form_always_points_to_the_truth() -> None:
    p = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    logits = (p / (1 - p)).log().requires_grad_()
    EMPHASES["sane"](
        OneVersusRest(torch.ones_like(p, dtype=torch.bool), F.logsigmoid(logits), F.logsigmoid(-logits)), 0.75, 2.0, 0.1
    ).sum().backward()
    assert logits.grad is not None
    assert (logits.grad < 0).all()


def test_several_classes_are_taken_one_against_the_rest() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(1, 3, 4, 4, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 3, (1, 4, 4), generator=generator)
    p = logits.softmax(1)
    single = build_loss("hybrid", EQUAL, True)
    parts = [single(p[:, c : c + 1].logit(), (target == c).long()) for c in (1, 2)]
    torch.testing.assert_close(build_loss("hybrid", (1.0, 1.0, 1.0), True)(logits, target), (parts[0] + parts[1]) / 2)
