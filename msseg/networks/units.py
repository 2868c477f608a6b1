"""The unit that blocks, edges and heads are made of: convolution, norm, activation; and the tables of the last two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from msseg.networks.convolutions import Convolution2d, Convolution3d
from msseg.networks.norm_activation import InstanceNormActivation
from msseg.networks.operators import OPERATORS

_LEAKY_SLOPE = 0.01


@dataclass(frozen=True)
class UnitShape:
    """A convolution's kernel, stride and padding, and what follows it; `activation` may be "none" as well."""

    dimensions: int
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    bias: bool
    norm: str
    activation: str
    padding: str = "zeros"

    def but(self, **changes: object) -> UnitShape:
        """This shape with some values replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def pointwise(self) -> UnitShape:
        """This shape with a kernel of one voxel and no stride."""
        ones = (1,) * self.dimensions
        return self.but(kernel_size=ones, stride=ones)


class ConvolutionUnit(nn.Module):
    """Convolution (padded to keep the grid, unless padding is "valid"), norm, activation.

    `starts_at_zero`: the norm's first scale is 0, so that what goes past the unit is all at first.
    """

    starts_at_zero = False

    def __init__(self, shape: UnitShape):
        super().__init__()
        self.convolution = convolution(shape)
        if isinstance(self.convolution, Convolution3d):
            self.convolution.norm_follows = shape.norm == "instance"
        self.norm_activation = norm_activation(shape)
        if isinstance(self.norm_activation, InstanceNormActivation):
            self.norm_activation.overwrites = True  # nobody else sees what the convolution gives

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm_activation(self.convolution(x))
        return result


def convolution(shape: UnitShape) -> Convolution2d | Convolution3d:
    """The convolution of a unit alone, of odd kernel edges."""
    padded = shape.padding != "valid"
    return OPERATORS[shape.dimensions].convolution(
        shape.in_channels,
        shape.out_channels,
        shape.kernel_size,
        stride=shape.stride,
        padding=tuple(edge // 2 if padded else 0 for edge in shape.kernel_size),
        padding_mode="reflect" if shape.padding == "mirrored" else "zeros",
        bias=shape.bias,
    )


def norm_activation(shape: UnitShape) -> nn.Module:
    """The norm and the activation of a unit: in one step where that exists, else one after the other."""
    fused = FUSED.get((shape.norm, shape.activation))
    if fused is not None:
        return fused(shape.out_channels)
    norm = NORMS[shape.norm](shape.dimensions, shape.out_channels)
    activation = [] if shape.activation == "none" else [ACTIVATIONS[shape.activation](shape.out_channels)]
    return nn.Sequential(norm, *activation)


def no_norm(dimensions: int, channels: int) -> nn.Module:
    """The identity."""
    return nn.Identity()


def instance_norm(dimensions: int, channels: int) -> nn.Module:
    """Instance norm with learnt scale and shift, no running statistics."""
    return InstanceNormActivation(channels, slope=1.0)


def batch_norm(dimensions: int, channels: int) -> nn.Module:
    """Batch norm with learnt scale and shift and with running statistics."""
    return {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions](channels)


def relu(channels: int) -> nn.Module:
    """ReLU, in place: its gradient needs its result only."""
    return nn.ReLU(inplace=True)


def leaky_relu(channels: int) -> nn.Module:
    """Leaky ReLU with slope 0.01, in place: its gradient needs its result only."""
    return nn.LeakyReLU(_LEAKY_SLOPE, inplace=True)


def prelu(channels: int) -> nn.Module:
    """Leaky ReLU whose slope is learnt for each channel."""
    return nn.PReLU(channels)


NORMS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": no_norm,
    "instance": instance_norm,
    "batch": batch_norm,
}
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {"relu": relu, "leaky_relu": leaky_relu, "prelu": prelu}
FUSED: dict[tuple[str, str], Callable[[int], nn.Module]] = {
    ("instance", "none"): lambda channels: InstanceNormActivation(channels, slope=1.0),
    ("instance", "leaky_relu"): lambda channels: InstanceNormActivation(channels, slope=_LEAKY_SLOPE),
    ("instance", "relu"): lambda channels: InstanceNormActivation(channels, slope=0.0),
}
