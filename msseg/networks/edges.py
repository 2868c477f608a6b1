"""What an edge of the grid does: up from a coarser level, the identity on the same, down from a finer one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from msseg.networks.operators import OPERATORS


@dataclass(frozen=True)
class EdgeShape:
    """One edge between levels: channels of the source, channels of the target, and the factor on each axis."""

    dimensions: int
    source_channels: int
    target_channels: int
    factor: tuple[int, ...]
    bias: bool


class Edge(nn.Module):
    """Brings features to another level; `out_channels` is what the concatenation there receives."""

    out_channels: int

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        """`x` on the target's grid, whose shape is `size`."""
        raise NotImplementedError


class Transposed(Edge):
    """Up by a transposed convolution whose kernel is its stride; cut to a target that rounding made smaller."""

    def __init__(self, shape: EdgeShape):
        super().__init__()
        self.out_channels = shape.target_channels
        self.convolution = OPERATORS[shape.dimensions].transposed_convolution(
            shape.source_channels, shape.target_channels, shape.factor, stride=shape.factor, bias=shape.bias
        )

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        result: torch.Tensor = self.convolution(x)
        for axis, length in enumerate(size, start=2):
            result = result.narrow(axis, 0, length)
        return result


class Linear(Edge):
    """Up by (bi- or tri-)linear interpolation, without parameters."""

    def __init__(self, shape: EdgeShape):
        super().__init__()
        self.out_channels = shape.source_channels
        self.mode = OPERATORS[shape.dimensions].interpolation

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        return F.interpolate(x, size=size, mode=self.mode, align_corners=False)


class MaxPool(Edge):
    """Down by the maximum over windows of the factor; windows cut by the border count as well."""

    def __init__(self, shape: EdgeShape):
        super().__init__()
        self.out_channels = shape.source_channels
        self.factor = shape.factor
        self.max_pool = OPERATORS[shape.dimensions].max_pool

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        return self.max_pool(x, self.factor, ceil_mode=True)


class Same(Edge):
    """The identity: the target is on the source's level, or its block's first convolution is strided."""

    def __init__(self, shape: EdgeShape):
        super().__init__()
        self.out_channels = shape.source_channels

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        return x


UPS: dict[str, Callable[[EdgeShape], Edge]] = {"transposed": Transposed, "linear": Linear}
DOWNS: dict[str, Callable[[EdgeShape], Edge]] = {"strided": Same, "max_pool": MaxPool}
