"""PyTorch's convolutions with the same parameters, and faster ways to the same result on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from msseg.networks.channels_last import as_rows, channels_last, from_rows, serves
from msseg.networks.winograd import Filters, transformed_filters, winograd_convolution, winograd_product

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
    _prepared: tuple[int, Filters] | None = None

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if self.padding_mode == "zeros":
            return super()._conv_forward(x, weight, bias)
        return F.conv3d(mirrored(x, _edges(self)), weight, bias, self.stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not serves(x):
            return super().forward(x)
        if _pointwise(self):
            return _matrix_product(x, self.weight, self.bias)
        bias = self.bias if torch.is_grad_enabled() or not self.norm_follows else None
        if not _winograd(self, x):
            return self._conv_forward(x, channels_last(self.weight), bias)
        if torch.is_grad_enabled():
            return winograd_convolution(x, self.weight, bias)
        return winograd_product(x, self._filters(), bias)

    def _filters(self) -> Filters:
        """The transformed weight, kept until the weight is written to again."""
        if self.weight.is_inference():  # such tensors do not count their changes
            return transformed_filters(self.weight)
        version = self.weight._version
        if self._prepared is None or self._prepared[0] != version:
            self._prepared = version, transformed_filters(self.weight)
        return self._prepared[1]


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


def _edges(convolution: nn.Conv2d | nn.Conv3d) -> list[tuple[int, int]]:
    return [(int(edge), int(edge)) for edge in convolution.padding]


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
    blocks = as_rows(x) @ weight.movedim(1, -1).flatten(1)
    blocks = blocks.view(batch, *size, *kernel, channels)
    count = len(size)
    pairs = [axis for i in range(count) for axis in (1 + i, 1 + count + i)]
    result = blocks.permute(0, *pairs, 1 + 2 * count)  # (b, z, kz, y, ky, x, kx, c)
    if bias is not None:
        result = result + bias
    whole = [length * factor for length, factor in zip(size, kernel, strict=True)]
    return result.reshape(batch, *whole, channels).movedim(-1, 1)
