"""What an edge of the grid does: up from a coarser level, the identity on the same, down from a finer one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from msseg.networks.convolutions import mirrored
from msseg.networks.operators import OPERATORS
from msseg.networks.units import ConvolutionUnit, UnitShape, norm_activation


@dataclass(frozen=True)
class EdgeShape:
    """One edge between levels: the factor on each axis, and the unit, from the source's channels to the target's.

    An edge uses of the unit what it needs: its kernel is the plan's on the target's level.
    """

    unit: UnitShape
    factor: tuple[int, ...]


class Edge(nn.Module):
    """Brings features to another level; `out_channels` is what the concatenation there receives.

    Where convolutions are not padded, `lost` voxels are missing on both sides of each axis of the target's grid.
    """

    def __init__(self, out_channels: int, lost: tuple[int, ...]):
        super().__init__()
        self.out_channels, self.lost = out_channels, lost

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        """`x` on the target's grid, whose shape is `size`."""
        raise NotImplementedError


class Transposed(Edge):
    """Up by a transposed convolution whose kernel is its stride; cut to a target that rounding made smaller."""

    def __init__(self, shape: EdgeShape):
        unit = shape.unit
        super().__init__(unit.out_channels, (0,) * unit.dimensions)
        self.convolution = OPERATORS[unit.dimensions].transposed_convolution(
            unit.in_channels, unit.out_channels, shape.factor, stride=shape.factor, bias=unit.bias
        )

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        result: torch.Tensor = self.convolution(x)
        for axis, length in enumerate(size, start=2):
            result = result.narrow(axis, 0, length)
        return result


class TransposedNorm(Transposed):
    """Up by a transposed convolution, then norm and activation."""

    def __init__(self, shape: EdgeShape):
        super().__init__(shape)
        self.norm_activation = norm_activation(shape.unit)

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        result: torch.Tensor = self.norm_activation(super().forward(x, size))
        return result


class Linear(Edge):
    """Up by (bi- or tri-)linear interpolation, without parameters."""

    def __init__(self, shape: EdgeShape):
        unpadded = shape.unit.padding == "valid"
        super().__init__(shape.unit.in_channels, tuple(factor // 2 if unpadded else 0 for factor in shape.factor))
        self.mode = OPERATORS[shape.unit.dimensions].interpolation

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        return cut(F.interpolate(x, size=size, mode=self.mode, align_corners=False), self.lost)


class NearestConvolution(Edge):
    """Up to the nearest neighbour, then a convolution unit of the target's kernel."""

    def __init__(self, shape: EdgeShape):
        unit = shape.unit
        unpadded = unit.padding == "valid"
        super().__init__(unit.out_channels, tuple(edge // 2 if unpadded else 0 for edge in unit.kernel_size))
        self.unit = ConvolutionUnit(unit)

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        result: torch.Tensor = self.unit(F.interpolate(x, size=size, mode="nearest"))
        return result


class NearestConvolutionPair(Edge):
    """Up to the nearest neighbour, then a convolution over each voxel and the next, and an activation, no norm.

    The kernel is 2 on the axes that go up, 1 on the others. Behind the last voxel lies zero or its mirror image.
    """

    def __init__(self, shape: EdgeShape):
        kernel = tuple(2 if factor > 1 else 1 for factor in shape.factor)
        reach = tuple(edge - 1 for edge in kernel)
        super().__init__(shape.unit.out_channels, reach if shape.unit.padding == "valid" else (0,) * len(kernel))
        self.reach, self.padding = reach, shape.unit.padding
        self.unit = ConvolutionUnit(shape.unit.but(kernel_size=kernel, padding="valid", norm="none"))

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        x = F.interpolate(x, size=size, mode="nearest")
        result: torch.Tensor = self.unit(_CONTINUED[self.padding](x, self.reach))
        return result


def _with_zeros(x: torch.Tensor, edges: tuple[int, ...]) -> torch.Tensor:
    return F.pad(x, [edge for axis in reversed(edges) for edge in (0, axis)])


def _with_mirror_image(x: torch.Tensor, edges: tuple[int, ...]) -> torch.Tensor:
    return mirrored(x, [(0, edge) for edge in edges])


def _without_first(x: torch.Tensor, edges: tuple[int, ...]) -> torch.Tensor:
    """`x` without the voxels that make both sides lose the same."""
    for axis, edge in enumerate(edges, start=2):
        x = x.narrow(axis, edge, x.shape[axis] - edge)
    return x


_CONTINUED = {"zeros": _with_zeros, "mirrored": _with_mirror_image, "valid": _without_first}


class MaxPool(Edge):
    """Down by the maximum over windows of the factor; windows cut by the border count as well."""

    def __init__(self, shape: EdgeShape):
        super().__init__(shape.unit.in_channels, (0,) * shape.unit.dimensions)
        self.factor = shape.factor
        self.max_pool = OPERATORS[shape.unit.dimensions].max_pool

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        return self.max_pool(x, self.factor, ceil_mode=True)


class Same(Edge):
    """The identity: the target is on the source's level, or its block's first convolution is strided."""

    def __init__(self, shape: EdgeShape):
        super().__init__(shape.unit.in_channels, (0,) * shape.unit.dimensions)

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        return x


class Unified(Edge):
    """Another edge, then a convolution unit: every source arrives with the same number of channels."""

    def __init__(self, edge: Edge, shape: UnitShape):
        reach = (edge // 2 if shape.padding == "valid" else 0 for edge in shape.kernel_size)
        super().__init__(shape.out_channels, tuple(a + b for a, b in zip(edge.lost, reach, strict=True)))
        self.edge, self.unit = edge, ConvolutionUnit(shape.but(in_channels=edge.out_channels))

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        result: torch.Tensor = self.unit(self.edge(x, size))
        return result


def cut(x: torch.Tensor, edges: Sequence[int]) -> torch.Tensor:
    """`x` (b, c, *spatial) without edges[axis] voxels on both sides of each axis."""
    for axis, edge in enumerate(edges, start=2):
        if edge:
            x = x.narrow(axis, edge, x.shape[axis] - 2 * edge)
    return x


UPS: dict[str, Callable[[EdgeShape], Edge]] = {
    "transposed": Transposed,
    "transposed_norm": TransposedNorm,
    "linear": Linear,
    "nearest_convolution": NearestConvolution,
    "nearest_convolution_pair": NearestConvolutionPair,
}
DOWNS: dict[str, Callable[[EdgeShape], Edge]] = {"strided": Same, "max_pool": MaxPool}
