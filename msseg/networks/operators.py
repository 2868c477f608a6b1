"""The operators of each number of spatial dimensions: the one place where 2D and 3D differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from msseg.networks.convolutions import (
    Convolution2d,
    Convolution3d,
    TransposedConvolution2d,
    TransposedConvolution3d,
)


@dataclass(frozen=True)
class Operators:
    """What a network of one dimensionality is made of."""

    convolution: Callable[..., Convolution2d | Convolution3d]
    transposed_convolution: Callable[..., TransposedConvolution2d | TransposedConvolution3d]
    max_pool: Callable[..., torch.Tensor]
    average_pool: Callable[..., torch.Tensor]
    interpolation: str


OPERATORS = {
    2: Operators(Convolution2d, TransposedConvolution2d, F.max_pool2d, F.avg_pool2d, "bilinear"),
    3: Operators(Convolution3d, TransposedConvolution3d, F.max_pool3d, F.avg_pool3d, "trilinear"),
}
