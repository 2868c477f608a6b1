"""The hybrid loss of ANU-Net and Render U-Net: soft Dice + cross entropy that weighs the undecided voxels most."""

from __future__ import annotations

from collections.abc import Callable

import torch

from msseg.losses.cross_entropy import labelled_mean
from msseg.losses.overlap import class_sums, soft_dice
from msseg.losses.probabilities import OneVersusRest, one_versus_rest

_SMALLEST_DISTANCE = 1e-7

Emphasis = Callable[[OneVersusRest, float, float, float], torch.Tensor]


def hybrid_loss(
    log_probabilities: torch.Tensor,
    target: torch.Tensor,
    batch: bool,
    *,
    mode: str,
    alpha: float,
    gamma: float,
    smooth: float,
    margin: float,
) -> torch.Tensor:
    """1 - (2Σpy + s) / (Σp² + Σy² + s) + the mean of the weighted cross entropy, averaged over the foreground classes.

    `log_probabilities` (b, k, *spatial), target (b, *spatial), -1 = ignore; `mode` names a row of `EMPHASES`.
    Sources: ANU-Net, Li et al. 2020, equation 8; Render U-Net, Li et al. 2020, equation 1.
    """
    dice = soft_dice(class_sums(log_probabilities, target, power=2, batch=batch), smooth)
    weighted = [
        labelled_mean(EMPHASES[mode](each, alpha, gamma, margin), target)
        for each in one_versus_rest(log_probabilities, target)
    ]
    return 1 - dice + torch.stack(weighted).mean()


def sane_emphasis(each: OneVersusRest, alpha: float, gamma: float, margin: float) -> torch.Tensor:
    """w (-α y log p - (1 - α) (1 - y) log (1 - p)) per voxel, w = (½ / max(|p - ½|, margin))^gamma.

    No gradient passes through w: where it does, going away from ½ to the wrong side lowers the loss.
    """
    weight = (0.5 / (each.log_p.detach().exp() - 0.5).abs().clamp(min=margin)) ** gamma
    return -weight * torch.where(each.here, alpha * each.log_p, (1 - alpha) * each.log_rest)


def focal_emphasis(each: OneVersusRest, alpha: float, gamma: float, _margin: float) -> torch.Tensor:
    """The textbook's focal weight (1 - p)^gamma of the true side, in place of the paper's."""
    weight = (gamma * each.of_error()).exp()
    return -weight * torch.where(each.here, alpha * each.log_p, (1 - alpha) * each.log_rest)


def literal_emphasis(each: OneVersusRest, alpha: float, gamma: float, _margin: float) -> torch.Tensor:
    """-α y log p / |p - ½|^gamma as printed: for tests, since it holds a foreground voxel near p = 0.084."""
    distance = (each.log_p.exp() - 0.5).abs().clamp(min=_SMALLEST_DISTANCE)
    return -alpha * each.here * each.log_p / distance**gamma


EMPHASES: dict[str, Emphasis] = {"sane": sane_emphasis, "focal": focal_emphasis, "literal": literal_emphasis}
