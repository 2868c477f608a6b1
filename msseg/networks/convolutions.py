"""PyTorch's convolutions with the same parameters, and faster ways to the same result on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import torch
from torch import nn
from torch.nn import functional as F

from msseg.networks.channels_last import as_rows, channels_last, from_rows, serves
from msseg.networks.unfolded import flat_weight, is_slow, unfolded_convolution
from msseg.networks.winograd import tile_length, transformed_filters, winograd_convolution, winograd_product

_Made = TypeVar("_Made")

# Fewer channels leave the transforms without enough arithmetic to pay for them.
_WINOGRAD_LEAST_CHANNELS = 8
_WINOGRAD_LEAST_DEPTH = 3


class Convolution2d(nn.Conv2d):
    """A 2D convolution; a point-wise one is a matrix product on the CPU. Padding mode reflect takes any size."""

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if self.padding_mode == "zeros":
            return super()._conv_forward(x, weight, bias)
        return F.conv2d(mirrored(x, _edges(self)), weight, bias, self.stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if serves(x) and _pointwise(self):
            return _matrix_product(x, self.weight, self.bias)
        return super().forward(x)


class Convolution3d(nn.Conv3d):
    """A 3D convolution; on the CPU a point-wise one is a matrix product, a 3×3×3 one of stride 1 Winograd's.

    Padding mode reflect takes any size. Where an instance norm follows (`norm_follows`), it takes the bias away
    again, so that without gradients the bias is not added in the first place.
    """

    norm_follows = False
    _prepared: tuple[int, dict[str, object]] | None = None

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if self.padding_mode == "zeros":
            return super()._conv_forward(x, weight, bias)
        return F.conv3d(mirrored(x, _edges(self)), weight, bias, self.stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not serves(x):
            return super().forward(x)
        if _pointwise(self):
            return _matrix_product(x, self.weight, self.bias)
        if not torch.is_grad_enabled():
            return self._without_gradients(x)
        if _winograd(self, x):
            return winograd_convolution(x, self.weight, self.bias)
        return self._conv_forward(x, channels_last(self.weight), self.bias)

    def _without_gradients(self, x: torch.Tensor) -> torch.Tensor:
        bias = None if self.norm_follows else self.bias
        if _winograd(self, x):
            tile = tile_length(x.shape[2])
            filters = self._kept(f"filters {tile}", lambda weight: transformed_filters(weight, tile))
            return winograd_product(x, filters, bias)
        if is_slow(x) and self.padding_mode == "zeros" and set(self.dilation) == {1} and self.groups == 1:
            shape = (self.kernel_size, self.stride, _lengths(self.padding))
            result = unfolded_convolution(x, self._kept("flat", flat_weight), *shape)
            return result if bias is None else result.add_(bias.view(-1, 1, 1, 1))
        return self._conv_forward(x, self._kept("last", channels_last), bias)

    def _kept(self, name: str, make: Callable[[torch.Tensor], _Made]) -> _Made:
        """What is made of the weight, kept until the weight is written to again."""
        if self.weight.is_inference():  # such tensors do not count their changes
            return make(self.weight)
        version = self.weight._version
        if self._prepared is None or self._prepared[0] != version:
            self._prepared = version, {}
        made = self._prepared[1]
        if name not in made:
            made[name] = make(self.weight)
        return cast(_Made, made[name])


class TransposedConvolution2d(nn.ConvTranspose2d):
    """A 2D transposed convolution whose kernel is its stride: a matrix product on the CPU."""

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        return _spread(x, self.weight, self.bias) if serves(x) else super().forward(x)


class TransposedConvolution3d(nn.ConvTranspose3d):
    """A 3D transposed convolution whose kernel is its stride: a matrix product on the CPU."""

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        return _spread(x, self.weight, self.bias) if serves(x) else super().forward(x)


def mirrored(x: torch.Tensor, edges: Sequence[tuple[int, int]]) -> torch.Tensor:
    """`x` (b, c, *spatial) continued by its own reflection, edges[axis] voxels before and after, whatever its size.

    The outermost voxel is not repeated; an axis of one voxel is.
    """
    for axis, ((before, after), length) in enumerate(zip(edges, x.shape[2:], strict=True), start=2):
        if before or after:
            period = max(2 * (length - 1), 1)
            position = torch.arange(-before, length + after, device=x.device).remainder(period)
            x = x.index_select(axis, torch.minimum(position, period - position) if length > 1 else 0 * position)
    return x


def _lengths(padding: str | tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(edge) for edge in padding)


def _edges(convolution: nn.Conv2d | nn.Conv3d) -> list[tuple[int, int]]:
    return [(edge, edge) for edge in _lengths(convolution.padding)]


def _pointwise(convolution: nn.Conv2d | nn.Conv3d) -> bool:
    return set(convolution.kernel_size) == {1} and set(convolution.stride) == {1}


def _winograd(convolution: nn.Conv3d, x: torch.Tensor) -> bool:
    return (
        convolution.padding_mode == "zeros"
        and set(convolution.kernel_size) == {3}
        and set(convolution.stride) == {1}
        and set(convolution.padding) == {1}
        and min(convolution.in_channels, convolution.out_channels) >= _WINOGRAD_LEAST_CHANNELS
        and x.shape[2] >= _WINOGRAD_LEAST_DEPTH
    )


def _matrix_product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return from_rows(F.linear(as_rows(x), weight.flatten(1), bias), tuple(x.shape[2:]))


def _spread(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The transposed convolution: every voxel becomes its own block of the kernel's shape, so nothing overlaps."""
    batch, _, *size = x.shape
    channels, *kernel = weight.shape[1:]
    of_block = None if bias is None else bias.repeat(math.prod(kernel))
    blocks = F.linear(as_rows(x), weight.movedim(1, -1).flatten(1).t(), of_block)
    blocks = blocks.view(batch, *size, *kernel, channels)
    count = len(size)
    pairs = [axis for i in range(count) for axis in (1 + i, 1 + count + i)]
    result = blocks.permute(0, *pairs, 1 + 2 * count)  # (b, z, kz, y, ky, x, kx, c)
    whole = [length * factor for length, factor in zip(size, kernel, strict=True)]
    return result.reshape(batch, *whole, channels).movedim(-1, 1)
