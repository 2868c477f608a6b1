"""The losses by name: functions of a prediction and a target, made for the classes' weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from msseg.losses.border import border_cross_entropy
from msseg.losses.cross_entropy import binary_cross_entropy, cross_entropy, focal_loss
from msseg.losses.hybrid import hybrid_loss
from msseg.losses.lovasz import lovasz_loss
from msseg.losses.options import Option, checked_options
from msseg.losses.overlap import class_sums, exponential_logarithmic_dice, negative_soft_dice, soft_dice
from msseg.losses.probabilities import full_precision, log_probabilities
from msseg.losses.regions import region_dice_bce_loss
from planning.errors import PlanError

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Setting:
    """What a loss is told beside the prediction: the weight of each class (k,) and whether Dice spans the batch.

    `levels` says that the classes are the levels of numbered objects (`msseg.instances.coding`), not labels.
    """

    class_weights: torch.Tensor
    batch_dice: bool
    levels: bool = False


def exp_log_dice(log_p: torch.Tensor, target: torch.Tensor, setting: Setting, *, gamma: float = 0.3) -> torch.Tensor:
    """The exponential-logarithmic soft Dice of MSS U-Net."""
    sums = class_sums(log_p, target, power=2, batch=setting.batch_dice)
    return exponential_logarithmic_dice(sums, setting.class_weights, gamma)


def weighted_ce(log_p: torch.Tensor, target: torch.Tensor, setting: Setting) -> torch.Tensor:
    """Cross entropy with the classes' weights."""
    return cross_entropy(log_p, target, setting.class_weights)


def exp_log_dice_ce(log_p: torch.Tensor, target: torch.Tensor, setting: Setting, *, gamma: float = 0.3) -> torch.Tensor:
    """The loss of MSS U-Net at one level: exponential-logarithmic soft Dice + weighted cross entropy."""
    return exp_log_dice(log_p, target, setting, gamma=gamma) + weighted_ce(log_p, target, setting)


def dice_ce(
    log_p: torch.Tensor, target: torch.Tensor, setting: Setting, *, class_weights: Literal["equal", "plan"] = "equal"
) -> torch.Tensor:
    """nnU-Net's loss: cross entropy - mean foreground soft Dice, without class weights unless asked for."""
    sums = class_sums(log_p, target, power=1, batch=setting.batch_dice)
    weights = {"equal": None, "plan": setting.class_weights}[class_weights]
    return cross_entropy(log_p, target, weights) + negative_soft_dice(sums)


def hybrid(
    log_p: torch.Tensor,
    target: torch.Tensor,
    setting: Setting,
    *,
    mode: Literal["sane", "focal", "literal"] = "sane",
    alpha: float = 0.75,
    gamma: float = 2.0,
    smooth: float = 1.0,
    margin: float = 0.1,
) -> torch.Tensor:
    """The hybrid loss of ANU-Net and Render U-Net at one branch; `literal` is the printed form, for tests."""
    return hybrid_loss(
        log_p, target, setting.batch_dice, mode=mode, alpha=alpha, gamma=gamma, smooth=smooth, margin=margin
    )


# Weights of focal, Dice and Lovász: as UNet#'s equations 2 and 6 say together, and equation 2's other reading.
_SHARP_PRESETS = {"paper": (0.5, 1.0, 0.5), "half": (0.5, 0.5, 0.5)}


def sharp(
    log_p: torch.Tensor,
    target: torch.Tensor,
    _setting: Setting,
    *,
    preset: Literal["paper", "half"] = "paper",
    focal_weight: float | None = None,
    dice_weight: float | None = None,
    lovasz_weight: float | None = None,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> torch.Tensor:
    """UNet#'s mix of focal, Dice (per image, smoothed by 1) and Lovász loss; a weight given replaces the preset's."""
    given = (focal_weight, dice_weight, lovasz_weight)
    chosen = [own if own is not None else usual for own, usual in zip(given, _SHARP_PRESETS[preset], strict=True)]
    terms = (
        lambda: focal_loss(log_p, target, _background_and_rest(alpha, log_p), gamma),
        lambda: 1 - soft_dice(class_sums(log_p, target, power=1, batch=False), smooth=1.0),
        lambda: lovasz_loss(log_p, target),
    )
    return torch.stack([weight * term() for weight, term in zip(chosen, terms, strict=True) if weight]).sum()


def bce_dice(
    log_p: torch.Tensor,
    target: torch.Tensor,
    _setting: Setting,
    *,
    bce_weight: float = 0.5,
    smooth: float = 1e-5,
    over: Literal["image", "batch"] = "image",
) -> torch.Tensor:
    """UNet++'s loss: half the binary cross entropy + 1 - soft Dice, which the paper takes image by image."""
    dice = soft_dice(class_sums(log_p, target, power=1, batch=over == "batch"), smooth)
    return bce_weight * binary_cross_entropy(log_p, target) + 1 - dice


def bce(log_p: torch.Tensor, target: torch.Tensor, _setting: Setting) -> torch.Tensor:
    """Binary cross entropy of each foreground class, as UNet 3+ is trained by the U-Net school."""
    return binary_cross_entropy(log_p, target)


def border_ce(
    log_p: torch.Tensor, target: torch.Tensor, setting: Setting, *, w0: float = 10.0, sigma_px: float = 5.0
) -> torch.Tensor:
    """U-Net's cross entropy, weighted by class and by how narrow the background between two cells is."""
    return border_cross_entropy(log_p, target, setting.class_weights, w0, sigma_px, levels=setting.levels)


def focal(
    log_p: torch.Tensor,
    target: torch.Tensor,
    setting: Setting,
    *,
    class_weights: Literal["alpha", "plan"] = "alpha",
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> torch.Tensor:
    """The focal loss, weighted by `alpha` on foreground and 1 - `alpha` on background, or by the classes' weights."""
    by_plan = class_weights == "plan"
    return focal_loss(log_p, target, setting.class_weights if by_plan else _background_and_rest(alpha, log_p), gamma)


def region_dice_bce(logits: torch.Tensor, target: torch.Tensor, setting: Setting) -> torch.Tensor:
    """nnU-Net's loss of regions: logits and target (b, r, *spatial), a sigmoid each."""
    return region_dice_bce_loss(logits, target, setting.batch_dice)


def _background_and_rest(alpha: float, log_p: torch.Tensor) -> torch.Tensor:
    """Weights (k,): 1 - alpha for the background, alpha for every other class."""
    weights = log_p.new_full((log_p.shape[1],), alpha)
    weights[0] = 1 - alpha
    return weights


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    each.__name__: each
    for each in (
        exp_log_dice, weighted_ce, exp_log_dice_ce, dice_ce, hybrid, sharp, bce_dice, bce, border_ce, focal,
        region_dice_bce,
    )
}  # fmt: skip

# What a loss reads where it is not the log-probabilities of exclusive classes.
REGION_LOSS = "region_dice_bce"
_READS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {REGION_LOSS: full_precision}


def build_loss(
    name: str,
    class_weights: Sequence[float],
    batch_dice: bool,
    options: Mapping[str, Option] | None = None,
    levels: bool = False,
) -> Loss:
    """The loss `name` as a function of logits (b, k, *spatial) and target (b, *spatial) int64, giving a scalar.

    It computes in float32 whatever autocast says (float64 stays). Target -1 = ignore. A single logit (k = 1) is that
    of class 1 against the background. `class_weights` has an entry a class, background first. `options` are the
    loss's own keywords, `levels` as in `Setting`. The target of `region_dice_bce` is (b, r, *spatial). Raises
    PlanError at an unknown name or option.
    """
    if name not in LOSSES:
        raise PlanError(f"loss is {name!r}, expected one of {', '.join(sorted(LOSSES))}. Choose one of these.")
    read = _READS.get(name, log_probabilities)
    keywords: dict[str, Any] = checked_options(name, LOSSES[name], options or {})
    function = functools.partial(LOSSES[name], **keywords)

    @functools.cache
    def setting(device: torch.device, dtype: torch.dtype) -> Setting:
        return Setting(torch.tensor(class_weights, dtype=dtype, device=device), batch_dice, levels)

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            prediction = read(logits)
            return function(prediction, target, setting(prediction.device, prediction.dtype))

    return loss
