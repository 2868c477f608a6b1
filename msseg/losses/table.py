"""The losses by name: functions of logits and target, made for the classes' weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from msseg.losses.cross_entropy import cross_entropy
from msseg.losses.overlap import class_sums, exponential_logarithmic_dice, negative_soft_dice
from planning.errors import PlanError

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Setting:
    """What a loss is told beside the prediction: the weight of each class (k,) and whether Dice spans the batch."""

    class_weights: torch.Tensor
    batch_dice: bool


def exp_log_dice(log_probabilities: torch.Tensor, target: torch.Tensor, setting: Setting) -> torch.Tensor:
    """The exponential-logarithmic soft Dice of MSS U-Net."""
    sums = class_sums(log_probabilities, target, power=2, batch=setting.batch_dice)
    return exponential_logarithmic_dice(sums, setting.class_weights)


def weighted_cross_entropy(log_probabilities: torch.Tensor, target: torch.Tensor, setting: Setting) -> torch.Tensor:
    """Cross entropy with the classes' weights."""
    return cross_entropy(log_probabilities, target, setting.class_weights)


def exp_log_dice_ce(log_probabilities: torch.Tensor, target: torch.Tensor, setting: Setting) -> torch.Tensor:
    """The loss of MSS U-Net at one level: exponential-logarithmic soft Dice + weighted cross entropy."""
    return exp_log_dice(log_probabilities, target, setting) + weighted_cross_entropy(log_probabilities, target, setting)


def dice_ce(log_probabilities: torch.Tensor, target: torch.Tensor, setting: Setting) -> torch.Tensor:
    """nnU-Net's loss: cross entropy - mean foreground soft Dice. The classes' weights do not enter, as there."""
    sums = class_sums(log_probabilities, target, power=1, batch=setting.batch_dice)
    return cross_entropy(log_probabilities, target) + negative_soft_dice(sums)


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, Setting], torch.Tensor]] = {
    "exp_log_dice": exp_log_dice,
    "weighted_ce": weighted_cross_entropy,
    "exp_log_dice_ce": exp_log_dice_ce,
    "dice_ce": dice_ce,
}


def build_loss(name: str, class_weights: Sequence[float], batch_dice: bool) -> Loss:
    """The loss `name` as a function of logits (b, k, *spatial) and target (b, *spatial) int64, giving a scalar.

    It computes in float32 whatever autocast says. Target -1 = ignore. `class_weights` has k entries, background
    first. Raises PlanError at an unknown name.
    """
    if name not in LOSSES:
        raise PlanError(f"loss is {name!r}, expected one of {', '.join(sorted(LOSSES))}. Choose one of these.")
    function = LOSSES[name]
    weights = torch.tensor(class_weights, dtype=torch.float32)

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            setting = Setting(weights.to(logits.device, non_blocking=True), batch_dice)
            return function(logits.float().log_softmax(dim=1), target, setting)

    return loss
