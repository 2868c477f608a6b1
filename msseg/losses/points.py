"""The loss of logits at single points, as point rendering gives them."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from msseg.losses.cross_entropy import cross_entropy
from msseg.networks.outputs import PointLogits
from msseg.networks.points import nearest_cells


def point_loss(points: PointLogits, target: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of the points, a float32 scalar, against the label of the voxel that each lies in.

    `target` (b, *spatial) int64 with -1 = ignore, at any resolution. Logits of a single class are those of "label 1
    or more" (binary cross entropy). 0, with a gradient of 0, where no point has a label.
    """
    cells = nearest_cells(points.coordinates, tuple(target.shape[1:]))
    labels = target.flatten(1).gather(1, cells)  # (b, n)
    with torch.autocast(target.device.type, enabled=False):
        logits = points.logits.float()
        if logits.shape[1] == 1:  # a softmax of (0, z) is z's sigmoid
            logits, labels = torch.cat((torch.zeros_like(logits), logits), dim=1), labels.clamp(max=1)
        return cross_entropy(F.log_softmax(logits, dim=1), labels)
