"""What a network answers: logits, and what guidance and point rendering add in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from planning.regions import Region


class PointLogits(NamedTuple):
    """Logits (b, k, n) at points of coordinates (b, n, d) in [0, 1], in the order of the spatial axes."""

    coordinates: torch.Tensor
    logits: torch.Tensor


class Rendered(NamedTuple):
    """Features (b, c, *level) refined at chosen points, the logits there, and the coarse logits (b, k, *level)."""

    features: torch.Tensor
    points: PointLogits
    coarse: torch.Tensor


class Outputs(NamedTuple):
    """One forward pass.

    `logits` (b, k, *level) of each supervised node, the one that predicts first; `presence` (b, k - 1, 2), logits of
    absent and present, of each guided node; `points` and `coarse` logits (b, k, *level) of each rendered node.
    """

    logits: Sequence[torch.Tensor]
    presence: Sequence[torch.Tensor] = ()
    points: Sequence[PointLogits] = ()
    coarse: Sequence[torch.Tensor] = ()


def decided_classes(scores: torch.Tensor, regions: Sequence[Region] = (), dim: int = 1) -> torch.Tensor:
    """The class of each voxel, int64 of the shape of `scores` without the axis `dim`: that of the largest score.

    Of scores of `regions` the class that the last one with a score above 0 (a sigmoid above ½) paints, else 0.
    """
    if not regions:
        return scores.argmax(dim)
    classes = torch.zeros_like(scores.select(dim, 0), dtype=torch.int64)
    for region, score in zip(regions, scores.unbind(dim), strict=True):
        classes.masked_fill_(score > 0, region.painted)
    return classes
