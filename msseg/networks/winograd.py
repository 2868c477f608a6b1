"""A 3×3×3 convolution with half the multiplications: Winograd's F(4, 3) along z, 2D convolutions in the plane.

Four output slices of a 3-tap filter take 6 products in place of 12 (Winograd 1980; Lavin and Gray 2016, points 0, ±1,
±2, ∞). The transforms are small matrix products along z on tensors with innermost channels, and the 2D convolutions
are PyTorch's. Rounding error is about 1e-6 of the largest output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional as F

Filters = tuple[torch.Tensor, ...]
# The slices that a tile gives, and those that it sees.
Window = tuple[range, range]

_TILE = 4
_POINTS = 6
# Values that are held transformed at once: 32 MB. More would not be faster, and where many features of full resolution
# come together (UNet#) would take more memory than all that training keeps.
_VALUES_AT_ONCE = 1 << 23
_INPUT = (
    (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
    (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
    (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
)
_FILTER = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)
_OUTPUT = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, -2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 4.0, 0.0),
    (0.0, 1.0, -1.0, 8.0, -8.0, 1.0),
)


def winograd_convolution(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(b, o, z, y, x) with innermost channels: `x` (b, c, z, y, x) convolved with `weight` (o, c, 3, 3, 3), padding 1.

    Any z will do; the tiles of 4 slices that it does not fill are computed in vain.
    """
    result: torch.Tensor = _Winograd.apply(x, weight)
    return result if bias is None else result + bias.view(-1, 1, 1, 1)


def winograd_product(x: torch.Tensor, filters: Filters, bias: torch.Tensor | None) -> torch.Tensor:
    """The same convolution without gradients, its weight transformed before by `transformed_filters`."""
    slices = x.permute(0, 2, 3, 4, 1).contiguous()  # (b, z, y, x, c)
    result = _product(slices, filters)
    return result if bias is None else result.add_(bias.view(-1, 1, 1, 1))


def transformed_filters(weight: torch.Tensor) -> Filters:
    """Six 2D filters (o, c, 3, 3) with innermost channels, one a point."""
    transformed = torch.einsum("pk,oikhw->pohwi", weight.new_tensor(_FILTER), weight).contiguous()
    return transformed.permute(0, 1, 4, 2, 3).unbind()


def _product(slices: torch.Tensor, filters: Filters) -> torch.Tensor:
    shape = (len(slices), filters[0].shape[0], *slices.shape[1:-1])
    # Made in its final shape: a view would not let an activation behind it write in place.
    result = torch.empty(shape, dtype=slices.dtype, memory_format=torch.channels_last_3d)
    for its_slices, its_result in zip(slices, result.permute(0, 2, 3, 4, 1), strict=True):
        _convolve(its_slices, filters, its_result)
    return result


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        slices = x.permute(0, 2, 3, 4, 1).contiguous()  # (b, z, y, x, c)
        ctx.save_for_backward(slices, weight)
        return _product(slices, transformed_filters(weight))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        slices, weight = ctx.saved_tensors
        gradients = gradient.permute(0, 2, 3, 4, 1).contiguous()
        filters = transformed_filters(weight)
        of_filters = [torch.zeros_like(one) for one in filters]
        of_slices = torch.zeros_like(slices)
        for its_slices, its_gradient, its_result in zip(slices, gradients, of_slices, strict=True):
            _differentiate(its_slices, its_gradient, filters, of_filters, its_result)
        points = weight.new_tensor(_FILTER)
        of_weight = torch.einsum("pk,poihw->oikhw", points, torch.stack(of_filters))
        return of_slices.permute(0, 4, 1, 2, 3), of_weight


def _convolve(slices: torch.Tensor, filters: Filters, result: torch.Tensor) -> None:
    """Write one sample's output (z, y, x, o) to `result` from its input (z, y, x, c)."""
    matrix = slices.new_tensor(_OUTPUT)
    for windows in _groups(slices, result):
        transformed = _transform_input(slices, windows)
        products = transformed.new_empty(*transformed.shape[:-1], result.shape[-1])
        for planes, kernel, product in zip(transformed, filters, products, strict=True):
            product.copy_(F.conv2d(_images(planes), kernel, padding=1).permute(0, 2, 3, 1))
        for tile, (own, _) in enumerate(windows):
            torch.mm(matrix[: len(own)], products[:, tile].flatten(1), out=_flat(result, own))


def _differentiate(
    slices: torch.Tensor,
    gradient: torch.Tensor,
    filters: Filters,
    of_filters: list[torch.Tensor],
    of_slices: torch.Tensor,
) -> None:
    """Add one sample's gradients to those of the input (z, y, x, c) and of the filters."""
    matrix = slices.new_tensor(_INPUT)
    for windows in _groups(slices, gradient):
        transformed = _transform_input(slices, windows)
        of_products = _transform_gradient(gradient, windows)
        for planes, of_product, kernel, of_filter in zip(transformed, of_products, filters, of_filters, strict=True):
            of_images, of_kernel = _convolution_backward(_images(of_product), _images(planes), kernel)
            planes.copy_(of_images.permute(0, 2, 3, 1))  # the input's are not needed any more
            of_filter += of_kernel
        for tile, (own, seen) in enumerate(windows):
            _flat(of_slices, seen).addmm_(_columns(matrix, own, seen).t(), transformed[:, tile].flatten(1))


def _convolution_backward(
    gradient: torch.Tensor, images: torch.Tensor, kernel: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of the images and of the 2D kernel."""
    of_images, of_kernel, _ = torch.ops.aten.convolution_backward(
        gradient, images, kernel, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]
    )
    return of_images, of_kernel


def _transform_input(slices: torch.Tensor, windows: Sequence[Window]) -> torch.Tensor:
    """(6, tiles, y, x, c) from one sample's (z, y, x, c)."""
    result = slices.new_empty(_POINTS, len(windows), *slices.shape[1:])
    matrix = slices.new_tensor(_INPUT)
    for tile, (own, seen) in enumerate(windows):
        torch.mm(_columns(matrix, own, seen), _flat(slices, seen), out=result[:, tile].flatten(1))
    return result


def _transform_gradient(gradient: torch.Tensor, windows: Sequence[Window]) -> torch.Tensor:
    """The adjoint of the output transform: (6, tiles, y, x, o) from one sample's (z, y, x, o)."""
    result = gradient.new_empty(_POINTS, len(windows), *gradient.shape[1:])
    matrix = gradient.new_tensor(_OUTPUT)
    for tile, (own, _) in enumerate(windows):
        torch.mm(matrix[: len(own)].t(), _flat(gradient, own), out=result[:, tile].flatten(1))
    return result


def _groups(slices: torch.Tensor, written: torch.Tensor) -> Iterator[list[Window]]:
    """The windows of one sample (z, y, x, c), as many at a time as may be held transformed at both ends."""
    per_tile = _POINTS * (slices[0].numel() + written[0].numel())
    count = max(1, _VALUES_AT_ONCE // per_tile)
    windows = _windows(len(slices))
    for start in range(0, len(windows), count):
        yield windows[start : start + count]


def _windows(depth: int) -> list[Window]:
    """For each tile the slices that it gives and those that it sees, one more on either side, cut at the border."""
    return [
        (range(start, min(start + _TILE, depth)), range(max(start - 1, 0), min(start + _TILE + 1, depth)))
        for start in range(0, depth, _TILE)
    ]


def _columns(matrix: torch.Tensor, own: range, seen: range) -> torch.Tensor:
    """The columns of the input matrix that meet slices inside the image; the others would meet zeros."""
    first = own.start - 1
    return matrix[:, seen.start - first : seen.stop - first]


def _flat(slices: torch.Tensor, wanted: range) -> torch.Tensor:
    """The view (slices, y·x·c) of some of the slices."""
    return slices[wanted.start : wanted.stop].flatten(1)


def _images(planes: torch.Tensor) -> torch.Tensor:
    """The view (n, c, y, x) of (n, y, x, c)."""
    return planes.permute(0, 3, 1, 2)
