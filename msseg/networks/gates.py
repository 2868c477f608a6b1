"""Attention gates: how much of what arrives at a node from its own level is let through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from msseg.networks.units import ConvolutionUnit, UnitShape


@dataclass(frozen=True)
class GateShape:
    """Channels of the gated feature and of the signal that came up, and the width in between."""

    dimensions: int
    feature_channels: int
    signal_channels: int
    width: int
    norm: str


class AttentionGate(nn.Module):
    """The feature times a map in (0, 1) that its own and the signal's 1-kernels decide (Oktay et al. 2018)."""

    def __init__(self, shape: GateShape):
        super().__init__()
        ones = (1,) * shape.dimensions
        unit = UnitShape(shape.dimensions, 0, shape.width, ones, ones, bias=True, norm=shape.norm, activation="none")
        self.feature = ConvolutionUnit(unit.but(in_channels=shape.feature_channels))
        self.signal = ConvolutionUnit(unit.but(in_channels=shape.signal_channels))
        self.attention = ConvolutionUnit(unit.but(in_channels=shape.width, out_channels=1))

    def forward(self, feature: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
        """`feature` (b, c, *level) gated by `signal` (b, s, *level)."""
        joined = F.relu(self.signal(signal) + self.feature(feature))
        return feature * self.attention(joined).sigmoid()


GATES: dict[str, Callable[[GateShape], nn.Module]] = {"attention": AttentionGate}
