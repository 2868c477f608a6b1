"""A 3×3×3 convolution with half the multiplications: Winograd's F(m, 3) along z, 2D convolutions in the plane.

m output slices of a 3-tap filter take m + 2 products in place of 3m (Winograd 1980; Lavin and Gray 2016); m is 4 to 6,
whichever needs the fewest products for the depth. The transforms are small matrix products along z on tensors with
innermost channels, and the 2D convolutions are PyTorch's. Rounding errors are 2e-6 to 5e-6 of the largest output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

Filters = tuple[torch.Tensor, ...]
# The slices that a tile gives, and those that it sees.
Window = tuple[range, range]
_Matrix = list[list[float]]

# The finite points of F(m, 3); infinity is one more. Of those tried on random data these round least: near reciprocals
# of one another in pairs, so that powers stay small (Barabasz et al. 2020). With 0, ±1, ±2 F(4, 3) errs twice as much.
_ROOT = 2**0.5
_FINITE_POINTS = {
    4: (0.0, 1 / _ROOT, -1 / _ROOT, _ROOT, -_ROOT),
    5: (0.25, -0.25, 0.9, -0.9, 1.8, -1.8),
    6: (0.0, 0.5, -0.5, 1.1, -1.1, 2.0, -2.0),
}
# Values that are held transformed at once: 32 MB. More would not be faster, and where many features of full resolution
# come together (UNet#) would take more memory than all that training keeps.
_VALUES_AT_ONCE = 1 << 23


class _Transforms(NamedTuple):
    """The matrices of F(m, 3): `input` (m + 2, m + 2), `filter` (m + 2, 3), `output` (m, m + 2)."""

    input: _Matrix
    filter: _Matrix
    output: _Matrix


def winograd_convolution(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(b, o, z, y, x) with innermost channels: `x` (b, c, z, y, x) convolved with `weight` (o, c, 3, 3, 3), padding 1.

    Any z will do; what it does not fill of the last tile is computed in vain.
    """
    result: torch.Tensor = _Winograd.apply(x, weight, tile_length(x.shape[2]))
    return result if bias is None else result + bias.view(-1, 1, 1, 1)


def winograd_product(x: torch.Tensor, filters: Filters, bias: torch.Tensor | None) -> torch.Tensor:
    """The same convolution without gradients; `filters` are its weight, transformed for the tiles of this depth."""
    slices = x.permute(0, 2, 3, 4, 1).contiguous()  # (b, z, y, x, c)
    result = _product(slices, filters)
    return result if bias is None else result.add_(bias.view(-1, 1, 1, 1))


def tile_length(depth: int) -> int:
    """The m of F(m, 3) that takes the fewest products for so many slices, the smallest of several."""
    return min(_FINITE_POINTS, key=lambda tile: (-(-depth // tile) * (tile + 2), tile))


def transformed_filters(weight: torch.Tensor, tile: int) -> Filters:
    """The tile + 2 2D filters (o, c, 3, 3) with innermost channels, one a point."""
    matrix = weight.new_tensor(_transforms(tile).filter)
    transformed = torch.einsum("pk,oikhw->pohwi", matrix, weight).contiguous()
    return transformed.permute(0, 1, 4, 2, 3).unbind()


@lru_cache
def _transforms(tile: int) -> _Transforms:
    """By Toom and Cook: products of polynomials at the points, interpolated (transposed for a correlation)."""
    points = _FINITE_POINTS[tile]

    def powers(count: int) -> torch.Tensor:
        """(points, count); of infinity the highest power alone."""
        rows = [[point**power for power in range(count)] for point in points]
        return torch.tensor([*rows, [0.0] * (count - 1) + [1.0]], dtype=torch.float64)

    of_input = torch.linalg.inv(powers(len(points) + 1)).t()
    scale = of_input.abs().sum(1, keepdim=True) / 3  # kept by the filter: products of all points are of one size
    return _Transforms((of_input / scale).tolist(), (powers(3) * scale).tolist(), powers(tile).t().tolist())


def _product(slices: torch.Tensor, filters: Filters) -> torch.Tensor:
    shape = (len(slices), filters[0].shape[0], *slices.shape[1:-1])
    # Made in its final shape: a view would not let an activation behind it write in place.
    result = torch.empty(shape, dtype=slices.dtype, memory_format=torch.channels_last_3d)
    for its_slices, its_result in zip(slices, result.permute(0, 2, 3, 4, 1), strict=True):
        _convolve(its_slices, filters, its_result)
    return result


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, tile: int) -> torch.Tensor:
        slices = x.permute(0, 2, 3, 4, 1).contiguous()  # (b, z, y, x, c)
        ctx.save_for_backward(slices, weight)
        ctx.tile = tile
        return _product(slices, transformed_filters(weight, tile))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        slices, weight = ctx.saved_tensors
        gradients = gradient.permute(0, 2, 3, 4, 1).contiguous()
        filters = transformed_filters(weight, ctx.tile)
        of_filters = [torch.zeros_like(one) for one in filters]
        of_slices = torch.zeros_like(slices)
        for its_slices, its_gradient, its_result in zip(slices, gradients, of_slices, strict=True):
            _differentiate(its_slices, its_gradient, filters, of_filters, its_result)
        points = weight.new_tensor(_transforms(ctx.tile).filter)
        of_weight = torch.einsum("pk,poihw->oikhw", points, torch.stack(of_filters))
        return of_slices.permute(0, 4, 1, 2, 3), of_weight, None


def _convolve(slices: torch.Tensor, filters: Filters, result: torch.Tensor) -> None:
    """Write one sample's output (z, y, x, o) to `result` from its input (z, y, x, c)."""
    tile = len(filters) - 2
    matrix = slices.new_tensor(_transforms(tile).output)
    for windows in _groups(slices, result, tile):
        transformed = _transform_input(slices, windows, tile)
        products = transformed.new_empty(*transformed.shape[:-1], result.shape[-1])
        for planes, kernel, product in zip(transformed, filters, products, strict=True):
            product.copy_(F.conv2d(_images(planes), kernel, padding=1).permute(0, 2, 3, 1))
        for index, (own, _) in enumerate(windows):
            torch.mm(matrix[: len(own)], products[:, index].flatten(1), out=_flat(result, own))


def _differentiate(
    slices: torch.Tensor,
    gradient: torch.Tensor,
    filters: Filters,
    of_filters: list[torch.Tensor],
    of_slices: torch.Tensor,
) -> None:
    """Add one sample's gradients to those of the input (z, y, x, c) and of the filters."""
    tile = len(filters) - 2
    matrix = slices.new_tensor(_transforms(tile).input)
    for windows in _groups(slices, gradient, tile):
        transformed = _transform_input(slices, windows, tile)
        of_products = _transform_gradient(gradient, windows, tile)
        for planes, of_product, kernel, of_filter in zip(transformed, of_products, filters, of_filters, strict=True):
            of_images, of_kernel = _convolution_backward(_images(of_product), _images(planes), kernel)
            planes.copy_(of_images.permute(0, 2, 3, 1))  # the input's are not needed any more
            of_filter += of_kernel
        for index, (own, seen) in enumerate(windows):
            _flat(of_slices, seen).addmm_(_columns(matrix, own, seen).t(), transformed[:, index].flatten(1))


def _convolution_backward(
    gradient: torch.Tensor, images: torch.Tensor, kernel: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of the images and of the 2D kernel."""
    of_images, of_kernel, _ = torch.ops.aten.convolution_backward(
        gradient, images, kernel, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]
    )
    return of_images, of_kernel


def _transform_input(slices: torch.Tensor, windows: Sequence[Window], tile: int) -> torch.Tensor:
    """(tile + 2, windows, y, x, c) from one sample's (z, y, x, c)."""
    result = slices.new_empty(tile + 2, len(windows), *slices.shape[1:])
    matrix = slices.new_tensor(_transforms(tile).input)
    for index, (own, seen) in enumerate(windows):
        torch.mm(_columns(matrix, own, seen), _flat(slices, seen), out=result[:, index].flatten(1))
    return result


def _transform_gradient(gradient: torch.Tensor, windows: Sequence[Window], tile: int) -> torch.Tensor:
    """The adjoint of the output transform: (tile + 2, windows, y, x, o) from one sample's (z, y, x, o)."""
    result = gradient.new_empty(tile + 2, len(windows), *gradient.shape[1:])
    matrix = gradient.new_tensor(_transforms(tile).output)
    for index, (own, _) in enumerate(windows):
        torch.mm(matrix[: len(own)].t(), _flat(gradient, own), out=result[:, index].flatten(1))
    return result


def _groups(slices: torch.Tensor, written: torch.Tensor, tile: int) -> Iterator[list[Window]]:
    """The windows of one sample (z, y, x, c), as many at a time as may be held transformed at both ends."""
    per_window = (tile + 2) * (slices[0].numel() + written[0].numel())
    count = max(1, _VALUES_AT_ONCE // per_window)
    windows = _windows(len(slices), tile)
    for start in range(0, len(windows), count):
        yield windows[start : start + count]


def _windows(depth: int, tile: int) -> list[Window]:
    """For each tile the slices that it gives and those that it sees, one more on either side, cut at the border."""
    return [
        (range(start, min(start + tile, depth)), range(max(start - 1, 0), min(start + tile + 1, depth)))
        for start in range(0, depth, tile)
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
