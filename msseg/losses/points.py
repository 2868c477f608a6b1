"""The loss of logits at single points, as point rendering gives them."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from msseg.losses.cross_entropy import cross_entropy
from msseg.losses.whole_batch import whole_batch
from msseg.networks.outputs import PointLogits
from msseg.networks.points import nearest_cells


def point_loss(points: PointLogits, target: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of the points, a float32 scalar, against the label of the voxel that each lies in.

    `target` (b, *spatial) int64 with -1 = ignore, at any resolution. Logits of a single class are those of "label 1
    or more"; `target` (b, k, *spatial) of 1 inside and 0 outside holds each class as a region of its own. Both are
    binary cross entropy. 0, with a gradient of 0, where no point has a label.
    """
    size = tuple(target.shape[-points.coordinates.shape[2] :])
    cells = nearest_cells(points.coordinates, size)
    planes = target.reshape(len(target), -1, math.prod(size))  # (b, 1 or k, voxels)
    labels = planes.gather(2, cells[:, None].expand(-1, planes.shape[1], -1)).long()  # (b, 1 or k, n)
    with torch.autocast(target.device.type, enabled=False):
        logits = points.logits.float()
        if logits.shape[1] == 1 or target.ndim == len(size) + 2:
            return _binary_cross_entropy(logits, labels)
        return cross_entropy(F.log_softmax(logits, dim=1), labels[:, 0])


def _binary_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    known = labels >= 0
    entropy = F.softplus(torch.where(labels > 0, -logits, logits))
    total, count = whole_batch((entropy * known).sum(), known.sum())
    return total / count.clamp(min=1)
