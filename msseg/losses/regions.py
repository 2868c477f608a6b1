"""Loss of regions that may overlap (a tumour and its core): one sigmoid each instead of a softmax over classes."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from msseg.losses.overlap import ClassSums, class_dice
from msseg.losses.whole_batch import batch_mean, whole_batch
from planning.errors import PlanError

_SMOOTH = 1e-5


def region_targets(target: torch.Tensor, regions: Sequence[Sequence[int]]) -> torch.Tensor:
    """Membership (b, r, *spatial) int8 of each region, a set of labels: 1 inside, 0 outside, -1 where ignored.

    `target` (b, *spatial) int64 with class indices, -1 = ignore.
    """
    inside = [functools.reduce(torch.logical_or, [target == label for label in region]) for region in regions]
    return torch.stack(inside, dim=1).to(torch.int8).masked_fill((target < 0)[:, None], -1)


def region_dice_bce_loss(logits: torch.Tensor, target: torch.Tensor, batch: bool) -> torch.Tensor:
    """Binary cross entropy on logits - mean soft Dice of the regions, over what is not ignored, a scalar >= -1.

    `logits` (b, r, *spatial) float32, `target` (b, r, *spatial): 1 or True inside, 0 outside, -1 = ignore.
    Raises PlanError where the shapes differ. Source: nnU-Net 2, compound_losses.py.
    """
    if target.shape != logits.shape:
        raise PlanError(
            f"target has shape {tuple(target.shape)}, expected the logits' {tuple(logits.shape)}: a plane a region. "
            "Make it by region_targets, or choose a loss of exclusive classes."
        )
    here, known = target > 0, target >= 0
    dice = class_dice(_sums(logits, here, known, batch), _SMOOTH)
    entropy = F.softplus(torch.where(here, -logits, logits))
    total, count = whole_batch((entropy * known).sum(), known.sum())
    return total / count.clamp(min=1) - batch_mean(dice)


def _sums(logits: torch.Tensor, here: torch.Tensor, known: torch.Tensor, batch: bool) -> ClassSums:
    axes = (*((0,) if batch else ()), *range(2, logits.ndim))
    p = logits.sigmoid()
    sums = (p * here).sum(axes), (p * known).sum(axes), here.sum(axes).to(p.dtype)
    return ClassSums(*(whole_batch(*sums) if batch else sums))
