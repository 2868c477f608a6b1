"""Supervision of everything that a network answers: one loss at several resolutions, presence, rendered points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from msseg.losses.level_targets import DOWNSCALES, downscale_target
from msseg.losses.points import point_loss
from msseg.losses.presence import presence_loss
from msseg.losses.probabilities import full_precision
from msseg.losses.regions import region_targets
from msseg.losses.table import Loss
from msseg.networks.outputs import Outputs
from planning.errors import PlanError

__all__ = ["SupervisedLoss", "downscale_target"]

UPSAMPLED = "upsampled_logits"
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class SupervisedLoss:
    """Σ_l weights[l] · loss(logits[l], target on level l's grid), and what guidance and point rendering add.

    A level of weight 0 costs nothing. `level_targets` says how the target reaches a coarser level: by a row of
    `DOWNSCALES`, or not at all, the logits being upsampled ("upsampled_logits"). `class_order` has the foreground
    classes, the rarest first (see `rarest_first`); None takes the higher index for the rarer. The other weights are
    of the mean over the guided nodes' presence losses, of the mean over the rendered nodes' point losses, and of the
    mean of the loss over their coarse logits. With `regions` (classes of each) the loss is one of regions, which reach
    coarser levels plane by plane. Raises PlanError at an unknown `level_targets`.
    """

    loss: Loss
    weights: Sequence[float]
    level_targets: str = "nearest"
    presence_weight: float = 1.0
    point_weight: float = 1.0
    coarse_weight: float = 1.0
    class_order: Sequence[int] | None = None
    regions: Sequence[Sequence[int]] = ()

    def __post_init__(self) -> None:
        if self.level_targets not in (*DOWNSCALES, UPSAMPLED):
            known = ", ".join((*DOWNSCALES, UPSAMPLED))
            raise PlanError(f"level_targets: found {self.level_targets!r}, expected one of {known}.")

    def __call__(self, outputs: Outputs, target: torch.Tensor) -> torch.Tensor:
        """A scalar from a network's outputs and target (b, *spatial) of classes, or (b, r, *spatial) of regions."""
        logits = outputs.logits
        if self.regions and target.ndim < logits[0].ndim:
            target = region_targets(target, self.regions)
        if len(logits) != len(self.weights):
            raise ValueError(f"{len(logits)} levels of logits, but {len(self.weights)} weights; give one each.")
        pyramid = _Pyramid(target, self.level_targets, self.class_order)
        terms = [
            weight * self._at_level(level, pyramid)
            for level, weight in zip(logits, self.weights, strict=True)
            if weight
        ]
        if outputs.presence and self.presence_weight:
            terms.append(self.presence_weight * _mean([presence_loss(each, target) for each in outputs.presence]))
        if outputs.points and self.point_weight:
            terms.append(self.point_weight * _mean([point_loss(each, target) for each in outputs.points]))
        if outputs.coarse and self.coarse_weight:
            terms.append(self.coarse_weight * _mean([self._at_level(each, pyramid) for each in outputs.coarse]))
        return torch.stack(terms).sum()

    def _at_level(self, logits: torch.Tensor, pyramid: _Pyramid) -> torch.Tensor:
        size = tuple(pyramid.target.shape[-(logits.ndim - 2) :])
        if self.level_targets == UPSAMPLED and tuple(logits.shape[2:]) != size:
            logits = upsampled(logits, size)
        return self.loss(logits, pyramid.at(logits))


@dataclass
class _Pyramid:
    """The target of one step at the sizes asked for so far."""

    target: torch.Tensor
    mode: str
    class_order: Sequence[int] | None
    levels: dict[tuple[int, ...], torch.Tensor] = field(default_factory=dict)

    def at(self, logits: torch.Tensor) -> torch.Tensor:
        """The target on the logits' grid, made once a size."""
        size = tuple(logits.shape[2:])
        if size not in self.levels:
            self.levels[size] = downscale_target(self.target, size, self.mode, self._order(logits))
        return self.levels[size]

    def _order(self, logits: torch.Tensor) -> Sequence[int]:
        if self.target.ndim == logits.ndim:  # regions: each plane is a binary mask
            return (1,)
        return range(max(logits.shape[1], 2) - 1, 0, -1) if self.class_order is None else self.class_order


def upsampled(logits: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Logits (b, k, *size) in float32 between those of a coarser grid, linearly, the corners not aligned."""
    with torch.autocast(logits.device.type, enabled=False):
        return F.interpolate(full_precision(logits), size, mode=_LINEAR[len(size)], align_corners=False)


def _mean(terms: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms)).mean()
