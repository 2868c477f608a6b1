"""The loss of what classification-guided modules say: which classes are in the image."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from msseg.losses.whole_batch import whole_batch


def presence_loss(presence: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean binary cross entropy of the classes' presence, a float32 scalar, finite.

    `presence` (b, k - 1, 2): logits of absent and present of each foreground class, of which a softmax is taken;
    `target` (b, *spatial) int64, -1 = ignore. The two probabilities sum to 1, so that their binary cross entropy
    against (1, 0) or (0, 1) is the cross entropy. A class that no labelled voxel has, where some are ignored, may be
    there or not: it does not count. 0, with a gradient of 0, where none counts.
    """
    answers, counts = presence_targets(target, presence.shape[1])
    with torch.autocast(presence.device.type, enabled=False):
        loss = F.cross_entropy(presence.float().flatten(0, 1), answers.flatten().long(), reduction="none")
        total, count = whole_batch((loss * counts.flatten()).sum(), counts.sum())
        return total / count.clamp(min=1)


def presence_targets(target: torch.Tensor, num_foreground: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether each foreground class is in each image, and whether that is known: two times (b, num_foreground) bool.

    `target` (b, *spatial) int64, -1 = ignore.
    """
    flat = target.flatten(1)
    present = torch.stack([(flat == index).any(1) for index in range(1, num_foreground + 1)], dim=1)
    whole = (flat >= 0).all(1, keepdim=True)
    return present, present | whole
