"""What turns features into logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from msseg.networks.units import ConvolutionUnit, UnitShape, convolution
from planning.part_rules import SCHOOL_LEAST_HIDDEN


@dataclass(frozen=True)
class HeadShape:
    """Where a head stands: channels in, classes out, edge of its kernel (`linear`), kernel of its level (`school`)."""

    dimensions: int
    in_channels: int
    num_classes: int
    kernel: int
    bias: bool
    level_kernel: tuple[int, ...] = ()
    padding: str = "zeros"

    def unit(self, kernel_size: tuple[int, ...]) -> UnitShape:
        """A convolution from features to classes."""
        ones = (1,) * self.dimensions
        return UnitShape(
            self.dimensions,
            self.in_channels,
            self.num_classes,
            kernel_size,
            ones,
            self.bias,
            "none",
            "relu",
            self.padding,
        )


def linear_head(shape: HeadShape) -> nn.Module:
    """One convolution."""
    return convolution(shape.unit((shape.kernel,) * shape.dimensions))


def school_head(shape: HeadShape) -> nn.Module:
    """A convolution to as many channels as classes, at least 2, ReLU, and a 1-kernel."""
    hidden = max(SCHOOL_LEAST_HIDDEN, shape.num_classes)
    first = shape.unit(shape.level_kernel).but(out_channels=hidden)
    return nn.Sequential(ConvolutionUnit(first), convolution(shape.unit(()).pointwise.but(in_channels=hidden)))


HEADS: dict[str, Callable[[HeadShape], nn.Module]] = {"linear": linear_head, "school": school_head}
