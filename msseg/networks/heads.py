"""What turns features into logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from msseg.networks.operators import OPERATORS


@dataclass(frozen=True)
class HeadShape:
    """Where a head stands: channels in, classes out, edge of its kernel."""

    dimensions: int
    in_channels: int
    num_classes: int
    kernel: int
    bias: bool


def linear_head(shape: HeadShape) -> nn.Module:
    """One convolution."""
    return OPERATORS[shape.dimensions].convolution(
        shape.in_channels, shape.num_classes, shape.kernel, padding=shape.kernel // 2, bias=shape.bias
    )


HEADS: dict[str, Callable[[HeadShape], nn.Module]] = {"linear": linear_head}
