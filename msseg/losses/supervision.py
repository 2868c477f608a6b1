"""Deep supervision: one loss at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from msseg.losses.table import Loss
from msseg.networks.outputs import Outputs


@dataclass(frozen=True)
class SupervisedLoss:
    """Σ_l weights[l] · loss(logits[l], target on level l's grid); a level of weight 0 costs nothing."""

    loss: Loss
    weights: Sequence[float]

    def __call__(self, outputs: Outputs, target: torch.Tensor) -> torch.Tensor:
        """A scalar from a network's outputs and target (b, *spatial)."""
        logits = outputs.logits
        if len(logits) != len(self.weights):
            raise ValueError(f"{len(logits)} levels of logits, but {len(self.weights)} weights; give one each.")
        terms = [
            weight * self.loss(level, downscale_target(target, tuple(level.shape[2:])))
            for level, weight in zip(logits, self.weights, strict=True)
            if weight
        ]
        return torch.stack(terms).sum()


def downscale_target(target: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """`target` (b, *spatial) on a grid of `size`: each cell's label nearest its centre, the lower one of a tie.

    Labels are picked, never mixed, so no class appears that was not there.
    """
    for axis, (length, wanted) in enumerate(zip(target.shape[1:], size, strict=True), start=1):
        if length != wanted:
            steps = torch.arange(wanted, device=target.device)
            target = target.index_select(axis, ((2 * steps + 1) * length - 1) // (2 * wanted))
    return target
