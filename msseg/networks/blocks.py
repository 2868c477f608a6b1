"""What a node computes: blocks of convolutions, and the norms and activations they are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from msseg.networks.convolutions import Convolution3d
from msseg.networks.norm_activation import InstanceNormLeakyReLU
from msseg.networks.operators import OPERATORS


@dataclass(frozen=True)
class BlockShape:
    """Where a block stands: its channels, its kernel, and the stride that its first convolution takes."""

    dimensions: int
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    convolutions: int
    bias: bool
    norm: str
    activation: str
    is_input: bool


class ConvolutionUnit(nn.Module):
    """Convolution (padded to keep the grid), norm, activation."""

    def __init__(self, shape: BlockShape, in_channels: int, stride: tuple[int, ...]):
        super().__init__()
        self.convolution = OPERATORS[shape.dimensions].convolution(
            in_channels,
            shape.out_channels,
            shape.kernel_size,
            stride=stride,
            padding=tuple(k // 2 for k in shape.kernel_size),
            bias=shape.bias,
        )
        if isinstance(self.convolution, Convolution3d):
            self.convolution.norm_follows = shape.norm == "instance"
        self.norm_activation = norm_activation(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm_activation(self.convolution(x))
        return result


def plain_block(shape: BlockShape) -> nn.Module:
    """Convolution units one after another, the first one strided."""
    ones = (1,) * shape.dimensions
    return nn.Sequential(
        ConvolutionUnit(shape, shape.in_channels, shape.stride),
        *(ConvolutionUnit(shape, shape.out_channels, ones) for _ in range(shape.convolutions - 1)),
    )


def norm_activation(shape: BlockShape) -> nn.Module:
    """The norm and the activation of a block: in one step where that exists, else one after the other."""
    fused = FUSED.get((shape.norm, shape.activation))
    if fused is not None:
        return fused(shape.out_channels)
    return nn.Sequential(NORMS[shape.norm](shape.dimensions, shape.out_channels), ACTIVATIONS[shape.activation]())


def instance_norm(dimensions: int, channels: int) -> nn.Module:
    """Instance norm with learnt scale and shift, no running statistics."""
    return {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dimensions](channels, eps=1e-5, affine=True)


def leaky_relu() -> nn.Module:
    """Leaky ReLU with slope 0.01, in place: its gradient needs its result only."""
    return nn.LeakyReLU(0.01, inplace=True)


BLOCKS: dict[str, Callable[[BlockShape], nn.Module]] = {"plain": plain_block}
NORMS: dict[str, Callable[[int, int], nn.Module]] = {"instance": instance_norm}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"leaky_relu": leaky_relu}
FUSED: dict[tuple[str, str], Callable[[int], nn.Module]] = {("instance", "leaky_relu"): InstanceNormLeakyReLU}
