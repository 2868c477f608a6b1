"""Cross entropies on log-probabilities, finite on a patch without any label too.

Everywhere: log-probabilities (b, k, *spatial) float32, target (b, *spatial) int64 with class indices, -1 = ignore.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from msseg.losses.probabilities import one_versus_rest
from msseg.losses.whole_batch import whole_batch

IGNORED = -1
_SMALLEST_ERROR = 1e-12


def cross_entropy(
    log_probabilities: torch.Tensor, target: torch.Tensor, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Σ w_y (-log p_y) / Σ w_y over the voxels with a label, a scalar; 0 where none has one.

    `class_weights` (k,) or None for equal ones.
    """
    total = F.nll_loss(log_probabilities, target, class_weights, ignore_index=IGNORED, reduction="sum")
    total, weight = whole_batch(total, _weight_of(target, class_weights))
    return total / weight.clamp(min=torch.finfo(total.dtype).tiny)


def _weight_of(target: torch.Tensor, class_weights: torch.Tensor | None) -> torch.Tensor:
    if class_weights is None:
        return (target >= 0).sum().to(torch.float32)
    counts = torch.stack([(target == index).sum() for index in range(len(class_weights))])
    return (counts * class_weights).sum()


def cross_entropy_per_voxel(log_probabilities: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """-log p_y (b, *spatial), 0 where the label is ignored."""
    return F.nll_loss(log_probabilities, target, ignore_index=IGNORED, reduction="none")


def labelled_mean(values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean of `values` (b, *spatial) over the voxels with a label, a scalar; 0 where none has one."""
    known = target >= 0
    total, count = whole_batch((values * known).sum(), known.sum())
    return total / count.clamp(min=1)


def binary_cross_entropy(log_probabilities: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean over voxels and foreground classes of -y log p - (1 - y) log (1 - p), a scalar >= 0.

    With two classes p is the sigmoid of the difference of their logits. Source: UNet 3+ as the U-Net school trains
    it, where the formula's x is the probability already.
    """
    terms = [-labelled_mean(each.of_truth(), target) for each in one_versus_rest(log_probabilities, target)]
    return torch.stack(terms).mean()


def focal_loss(
    log_probabilities: torch.Tensor, target: torch.Tensor, class_weights: torch.Tensor, gamma: float
) -> torch.Tensor:
    """The mean over the voxels with a label of w_y (1 - p_y)^gamma (-log p_y), a scalar >= 0.

    `class_weights` (k,). Source: Lin et al., Focal loss for dense object detection (2017), equation 5.
    """
    surprise = cross_entropy_per_voxel(log_probabilities, target)
    # The clamp keeps the slope of a power below 1 finite where the prediction is perfect.
    error = (-torch.expm1(-surprise)).clamp(min=_SMALLEST_ERROR)
    return labelled_mean(class_weights[target.clamp(min=0)] * error**gamma * surprise, target)
