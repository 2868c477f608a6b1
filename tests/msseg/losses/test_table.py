from __future__ import annotations

import math
from collections.abc import Mapping

import monai.losses
import pytest
import torch

from msseg.losses import LOSSES, build_loss, region_targets
from msseg.losses.table import Loss
from planning.errors import PlanError

EQUAL = (1.0, 1.0, 1.0)


def logits_of(*probabilities: tuple[float, ...]) -> torch.Tensor:
    """Logits (1, k, voxels) whose softmax gives these probabilities, one tuple a voxel."""
    return torch.tensor(probabilities, dtype=torch.float32).log().T[None]


def random_case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, 5, 6, generator=generator)
    return logits, torch.randint(0, 3, (2, 4, 5, 6), generator=generator)


def loss_of_labels(
    name: str, weights: tuple[float, ...], batch_dice: bool, options: Mapping[str, float | str] | None = None
) -> Loss:
    """The loss as a function of logits and labels: of regions, each class is one."""
    loss = build_loss(name, weights, batch_dice, options)
    if name != "region_dice_bce":
        return loss
    return lambda logits, target: loss(logits, region_targets(target, [(0,), (1,), (2,)]))


def test_exponential_logarithmic_dice_of_a_hand_worked_patch() -> None:
    # Class 1: 2 * 0.5 / (0.5² + 0.25² + 1) = 16 / 21; class 2: 2 * 0.75 / (0.75² + 0.25² + 1) = 12 / 13.
    logits = logits_of((0.25, 0.5, 0.25), (0.0 + 1e-12, 0.25, 0.75))
    target = torch.tensor([[1, 2]])
    loss = build_loss("exp_log_dice", (0.2, 0.4, 0.6), batch_dice=True)
    expected = 0.4 * math.log(21 / 16) ** 0.3 + 0.6 * math.log(13 / 12) ** 0.3
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-4)


def test_class_that_the_reference_lacks_leaves_the_others_with_all_the_weight() -> None:
    logits = logits_of((0.5, 0.25, 0.25), (0.25, 0.5, 0.25))
    target = torch.tensor([[0, 1]])
    loss = build_loss("exp_log_dice", (0.2, 0.4, 0.6), batch_dice=True)
    similarity = 2 * 0.5 / (0.5**2 + 0.25**2 + 1)
    assert loss(logits, target).item() == pytest.approx((-math.log(similarity)) ** 0.3, rel=1e-4)


def test_weighted_cross_entropy_equals_pytorchs_and_that_of_monai() -> None:
    logits, target = random_case()
    weights = (0.28, 0.28, 0.44)
    ours = build_loss("weighted_ce", weights, batch_dice=True)(logits, target)
    torchs = torch.nn.functional.cross_entropy(logits, target, torch.tensor(weights))
    torch.testing.assert_close(ours, torchs)
    monais = monai.losses.DiceCELoss(to_onehot_y=True, softmax=True, lambda_dice=0.0, weight=torch.tensor(weights))
    torch.testing.assert_close(ours, monais(logits, target[:, None]))


@pytest.mark.parametrize("batch_dice", [True, False])
def test_dice_ce_is_monais_less_one(batch_dice: bool) -> None:
    logits, target = random_case()
    reference = monai.losses.DiceCELoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=batch_dice,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    ours = build_loss("dice_ce", EQUAL, batch_dice)(logits, target)
    torch.testing.assert_close(ours, reference(logits, target[:, None]) - 1)


def test_dice_ce_takes_no_notice_of_the_class_weights() -> None:
    logits, target = random_case()
    losses = [build_loss("dice_ce", weights, False)(logits, target) for weights in (EQUAL, (0.1, 0.2, 0.7))]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("batch_dice", [True, False])
def test_ignored_voxels_count_as_if_they_were_not_there(name: str, batch_dice: bool) -> None:
    logits, target = random_case()
    loss = loss_of_labels(name, (0.2, 0.3, 0.5), batch_dice)
    masked = target.clone()
    masked[:, 2:] = -1
    torch.testing.assert_close(loss(logits, masked), loss(logits[:, :, :2], target[:, :2]))


def perfect(target: torch.Tensor, scale: float = 60.0) -> torch.Tensor:
    return scale * torch.nn.functional.one_hot(target.clamp(min=0), 3).movedim(-1, 1).float()


CASES = {
    "perfect": lambda target: (perfect(target), target),
    "opposite": lambda target: (perfect((target + 1) % 3), target),
    "hugely opposite": lambda target: (perfect((target + 1) % 3, 1e4), target),
    "class missing in the reference": lambda target: (perfect(target, 1.0), target.clamp(max=1)),
    "background alone": lambda target: (perfect(target, 1.0), torch.zeros_like(target)),
    "nothing labelled": lambda target: (perfect(target, 1.0), torch.full_like(target, -1)),
    "one sample unlabelled": lambda target: (perfect(target, 1.0), torch.stack([target[0], target[1] * 0 - 1])),
}


VARIANTS = {
    **{name: (name, {}) for name in sorted(LOSSES)},
    "hybrid, focal": ("hybrid", {"mode": "focal"}),
    "hybrid, literal": ("hybrid", {"mode": "literal"}),
    "focal, small power": ("focal", {"gamma": 0.5}),
    "bce_dice, batch": ("bce_dice", {"over": "batch"}),
    "dice_ce, weighted": ("dice_ce", {"class_weights": "plan"}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_loss_and_gradient_are_finite(variant: str, case: str, dtype: torch.dtype) -> None:
    name, options = VARIANTS[variant]
    logits, target = CASES[case](random_case()[1])
    for batch_dice in (True, False):
        logits = logits.detach().to(dtype).requires_grad_()
        value = loss_of_labels(name, (0.2, 0.3, 0.5), batch_dice, options)(logits, target)
        value.backward()
        assert value.isfinite()
        assert value.dtype == torch.float32
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_patch_without_labels_gives_no_gradient(variant: str) -> None:
    name, options = VARIANTS[variant]
    logits, target = random_case()
    loss_of_labels(name, EQUAL, False, options)(logits.requires_grad_(), torch.full_like(target, -1)).backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_class_missed_entirely_still_gets_a_gradient_from_dice() -> None:
    target = torch.ones(1, 4, 4, 4, dtype=torch.int64)
    logits = torch.zeros(1, 2, 4, 4, 4)
    logits[:, 0] = 20.0
    logits.requires_grad_()
    build_loss("exp_log_dice", (0.5, 0.5), True)(logits, target).backward()
    assert (logits.grad[:, 1] < 0).all()


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"hybrid, literal"}))
def test_perfect_prediction_is_better_than_a_wrong_one(variant: str) -> None:
    name, options = VARIANTS[variant]
    target = random_case()[1]
    loss = loss_of_labels(name, EQUAL, True, options)
    assert loss(perfect(target), target) < loss(perfect(target, 1.0), target) < loss(perfect(2 - target), target)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_nothing_beats_the_perfect_prediction(variant: str) -> None:
    name, options = VARIANTS[variant]
    target = random_case()[1]
    loss = loss_of_labels(name, EQUAL, True, options)
    best = loss(perfect(target), target)
    generator = torch.Generator().manual_seed(1)
    for scale in (0.1, 1.0, 10.0, 100.0):
        assert loss(scale * torch.randn(2, 3, 4, 5, 6, generator=generator), target) > best
    one_wrong = target.clone()
    one_wrong[0, 0, 0, 0] = (target[0, 0, 0, 0] + 1) % 3
    assert loss(perfect(one_wrong), target) > best


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_descent_from_undecided_logits_finds_the_target_but_not_with_the_printed_hybrid(variant: str) -> None:
    name, options = VARIANTS[variant]
    target = torch.zeros(2, 8, 8, dtype=torch.int64)
    target[0, 1:5, 1:5], target[:, 6, 6:] = 1, 2
    logits = torch.zeros(2, 3, 8, 8, requires_grad=True)
    loss, optimiser = loss_of_labels(name, (0.2, 0.3, 0.5), True, options), torch.optim.Adam([logits], lr=0.1)
    for _ in range(100):
        optimiser.zero_grad()
        loss(logits, target).backward()
        optimiser.step()
    assert torch.equal(logits.argmax(dim=1), target) == (variant != "hybrid, literal")


# The sane hybrid is left out: no gradient passes through its weights, so that finite differences must disagree.
@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"hybrid"}))
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_gradient_is_that_of_finite_differences(variant: str, classes: int) -> None:
    name, options = VARIANTS[variant]
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(2, classes, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(-1, max(classes, 2), (2, 3, 4), generator=generator)
    if name == "region_dice_bce":
        target = region_targets(target, [(index,) for index in range(classes)])
    loss = build_loss(name, (0.2, 0.3, 0.5)[: max(classes, 2)], True, options)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"region_dice_bce"}))
def test_single_logit_is_that_of_class_1_against_a_background_of_logit_0(name: str) -> None:
    generator = torch.Generator().manual_seed(6)
    logit = torch.randn(2, 1, 6, 5, generator=generator)
    target = torch.randint(-1, 2, (2, 6, 5), generator=generator)
    loss = build_loss(name, (0.3, 0.7), False)
    torch.testing.assert_close(loss(logit, target), loss(torch.cat([torch.zeros_like(logit), logit], dim=1), target))


def test_dice_ce_with_the_plans_weights_is_monais_less_one() -> None:
    logits, target = random_case()
    weights = torch.tensor((0.2, 0.3, 0.5))
    entropy = torch.nn.functional.cross_entropy(logits, target, weights)
    dice = monai.losses.DiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    ours = build_loss("dice_ce", weights.tolist(), True, {"class_weights": "plan"})(logits, target)
    torch.testing.assert_close(ours, entropy + dice(logits, target[:, None]) - 1)


def test_power_of_the_exponential_logarithmic_dice_can_be_chosen() -> None:
    logits, target = logits_of((0.25, 0.75), (0.75, 0.25)), torch.tensor([[1, 0]])
    similarity = 2 * 0.75 / (0.75**2 + 0.25**2 + 1)
    loss = build_loss("exp_log_dice", (0.5, 0.5), True, {"gamma": 1})
    assert loss(logits, target).item() == pytest.approx(-math.log(similarity), rel=1e-4)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_half_precision_logits_inside_autocast_are_summed_in_single_precision(name: str) -> None:
    logits, target = random_case()
    logits = logits.bfloat16()
    loss = loss_of_labels(name, EQUAL, True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(logits, target)
    assert inside.dtype == torch.float32
    assert inside == loss(logits.float(), target)


def test_unknown_loss_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PlanError, match=r"'dise'.*dice_ce"):
        build_loss("dise", EQUAL, True)
