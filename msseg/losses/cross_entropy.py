"""Cross entropy on log-probabilities, finite on a patch without any label too."""

from __future__ import annotations

import torch
from torch.nn import functional as F

IGNORED = -1


def cross_entropy(
    log_probabilities: torch.Tensor, target: torch.Tensor, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Σ w_y (-log p_y) / Σ w_y over the voxels with a label, a scalar; 0 where none has one.

    `log_probabilities` (b, k, *spatial) float32, `target` (b, *spatial) int64 with -1 = ignore,
    `class_weights` (k,) or None for equal ones.
    """
    total = F.nll_loss(log_probabilities, target, class_weights, ignore_index=IGNORED, reduction="sum")
    return total / _weight_of(target, class_weights).clamp(min=torch.finfo(total.dtype).tiny)


def _weight_of(target: torch.Tensor, class_weights: torch.Tensor | None) -> torch.Tensor:
    if class_weights is None:
        return (target >= 0).sum().to(torch.float32)
    counts = torch.stack([(target == index).sum() for index in range(len(class_weights))])
    return (counts * class_weights).sum()
