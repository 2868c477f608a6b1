"""Convolutions without gradients as one matrix product with the unfolded input, where PyTorch's are slow.

That is where a single sample has few channels times rows: PyTorch then leaves oneDNN for a path that takes twice the
time (10 ms against 4 for the first convolution of a patch of 40 × 56 × 40, 8 against 4 for that of the last level), and
gives its result in the other layout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

# As `use_mkldnn` of PyTorch's Convolution.cpp: a larger product of the first four sizes goes to oneDNN.
_FEWEST_FOR_ONEDNN = 20480
# Unfolded values that are held at a time, 4 MB.
_VALUES_AT_ONCE = 1 << 20


def is_slow(x: torch.Tensor) -> bool:
    """Whether PyTorch convolves `x` (b, c, z, y, x) by its slow path."""
    return len(x) == 1 and math.prod(x.shape[:4]) <= _FEWEST_FOR_ONEDNN


def flat_weight(weight: torch.Tensor) -> torch.Tensor:
    """The weight (o, c, *kernel) as a matrix (taps · c, o)."""
    return weight.movedim(1, -1).flatten(1).t().contiguous()


def unfolded_convolution(
    x: torch.Tensor, weight: torch.Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> torch.Tensor:
    """(1, o, z, y, x) with innermost channels: `x` (1, c, z, y, x) convolved with a `flat_weight`."""
    edges = [edge for axis in reversed(padding) for edge in (axis, axis)]
    padded = F.pad(x[0].movedim(0, -1), (0, 0, *edges))  # (z, y, x, c)
    spatial = padded.shape[:3]
    size = [(length - edge) // step + 1 for length, edge, step in zip(spatial, kernel, stride, strict=True)]
    result = padded.new_empty(*size, weight.shape[1])
    rows_at_once = max(1, _VALUES_AT_ONCE // (math.prod(size[1:]) * len(weight)))
    for start in range(0, size[0], rows_at_once):
        written = result[start : start + rows_at_once]
        seen = padded[start * stride[0] :]
        torch.mm(_unfolded(seen, kernel, stride, written.shape[:3]), weight, out=written.flatten(0, 2))
    return result[None].movedim(-1, 1)


def _unfolded(image: torch.Tensor, kernel: Sequence[int], stride: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    """(voxels, taps · c): what each of `size` voxels sees of an image (z, y, x, c)."""
    own, channels = image.stride(), image.shape[3]
    steps = [there * step for there, step in zip(own, stride, strict=False)]
    if channels == 1:  # voxel after voxel of one tap lies together, not tap after tap
        return image.as_strided((*kernel, *size), (*own[:3], *steps)).reshape(math.prod(kernel), -1).t()
    return image.as_strided((*size, *kernel, channels), (*steps, *own)).reshape(math.prod(size), -1)
