"""The operators of each number of spatial dimensions: the one place where 2D and 3D differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Operators:
    """What a network of one dimensionality is made of."""

    convolution: Callable[..., nn.Module]
    transposed_convolution: Callable[..., nn.Module]
    max_pool: Callable[..., torch.Tensor]
    interpolation: str


OPERATORS = {
    2: Operators(nn.Conv2d, nn.ConvTranspose2d, F.max_pool2d, "bilinear"),
    3: Operators(nn.Conv3d, nn.ConvTranspose3d, F.max_pool3d, "trilinear"),
}
