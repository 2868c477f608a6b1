"""Overlap of soft predictions with labels, summed per class without a one-hot copy of the labels.

Everywhere: log-probabilities (b, k, *spatial) float32, target (b, *spatial) int64 with class indices, -1 = ignore.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from msseg.losses.whole_batch import batch_mean, whole_batch

_SMOOTH = 1e-5
_ROOT_OFFSET = 1e-6


@dataclass(frozen=True)
class ClassSums:
    """Sums over the voxels that count, each (b, k), or (1, k) over the batch: Σpy, Σp^power and Σy."""

    intersection: torch.Tensor
    predicted: torch.Tensor
    reference: torch.Tensor


def class_sums(log_probabilities: torch.Tensor, target: torch.Tensor, power: int, batch: bool) -> ClassSums:
    """Per class c: Σ p_c [target = c], Σ p_c^power and Σ [target = c] over the voxels with a label."""
    classes = range(log_probabilities.shape[1])
    axes = tuple(range(0 if batch else 1, target.ndim))
    known = target >= 0
    # Unbound rather than indexed: the way back stacks the classes once, instead of adding k full-size gradients.
    planes = log_probabilities.exp().unbind(1)
    each = [_one_class(planes[c], target == c, known, power, axes) for c in classes]
    intersection, predicted, reference = (torch.stack(sums, dim=-1) for sums in zip(*each, strict=True))
    if batch:
        intersection, predicted, reference = whole_batch(intersection, predicted, reference)
    shape = (1 if batch else target.shape[0], len(classes))
    return ClassSums(intersection.view(shape), predicted.view(shape), reference.view(shape))


def _one_class(
    p: torch.Tensor, here: torch.Tensor, known: torch.Tensor, power: int, axes: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    raised = p if power == 1 else p.square()
    return (p * here).sum(axes), (raised * known).sum(axes), here.sum(axes).to(p.dtype)


def exponential_logarithmic_dice(sums: ClassSums, class_weights: torch.Tensor, gamma: float = 0.3) -> torch.Tensor:
    """Σ_c w_c (-log SD_c)^gamma over the foreground classes, SD_c = 2Σpy / (Σp² + Σy²): a scalar >= 0.

    `sums` with power 2; `class_weights` (k,), the background's is not used. The logarithm is a difference of two
    logarithms of smoothed sums, so that a class which is missed entirely still has a gradient; 1e-6 under the
    power bounds the slope at a perfect overlap. A class that the reference lacks is left out and the weights are
    renormalised; without any, the result is 0. Source: MSS U-Net, Zhao et al. 2020, equations 4 and 5.
    """
    numerator = 2 * sums.intersection[:, 1:] + _SMOOTH
    denominator = sums.predicted[:, 1:] + sums.reference[:, 1:] + _SMOOTH
    distance = (denominator.log() - numerator.log()).clamp(min=0)
    weights = class_weights[1:] * (sums.reference[:, 1:] > 0)
    terms = (distance + _ROOT_OFFSET) ** gamma
    total, weight = whole_batch((weights * terms).sum(), weights.sum())
    return total / weight.clamp(min=torch.finfo(terms.dtype).tiny)


def class_dice(sums: ClassSums, smooth: float) -> torch.Tensor:
    """(2Σpy + s) / (Σp^power + Σy + s) of each class, in the shape of the sums and in (0, 1] for s > 0."""
    return (2 * sums.intersection + smooth) / (sums.predicted + sums.reference + smooth)


def soft_dice(sums: ClassSums, smooth: float) -> torch.Tensor:
    """`class_dice` averaged over the foreground classes (and samples), a scalar."""
    return batch_mean(class_dice(sums, smooth)[:, 1:])


def negative_soft_dice(sums: ClassSums) -> torch.Tensor:
    """-(2Σpy + s) / (Σp + Σy + s), s = 1e-5, averaged over the foreground classes (and samples): in [-1, 0].

    `sums` with power 1. A class that neither the reference nor the prediction has counts as met, as in nnU-Net.
    """
    return -soft_dice(sums, _SMOOTH)
