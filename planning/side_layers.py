"""The layers of gates, heads, guides and renderers: what stands beside the nodes and edges of a grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from planning.layers import Layer, Shape, Unit, convolution_layer, unit_layers

_SCHOOL_LEAST_HIDDEN = 2
_HIDDEN_LAYERS = 3
_PRESENCE_ANSWERS = 2  # absent, present

GATE_WIDTHS: dict[str, Callable[[int], int]] = {
    "half": lambda channels: max(1, channels // 2),
    "half_at_least_32": lambda channels: max(32, channels // 2),
}


def attention_gate(name: str, feature: int, signal: int, width: int, norm: str, shape: Shape) -> list[Layer]:
    """The feature times a map that 1-kernels over the feature and the signal, so many channels each, decide."""
    ones = (1,) * len(shape)
    unit = Unit(feature, width, ones, ones, bias=True, norm=norm, activation="none")
    return [
        *unit_layers(f"{name}.feature", unit, shape),
        *unit_layers(f"{name}.signal", unit.but(in_channels=signal), shape),
        Layer(f"{name}.sum", "sum", width, shape, kept=1),
        *unit_layers(f"{name}.attention", unit.but(in_channels=width, out_channels=1), shape),
        Layer(f"{name}.sigmoid", "activation", 1, shape, kept=1),
        Layer(f"{name}.product", "product", feature, shape),
    ]


@dataclass(frozen=True)
class Head:
    """Where a head stands: channels in, classes out, its kernel (`linear`), its level's kernel (`school`)."""

    in_channels: int
    num_classes: int
    kernel: int
    bias: bool
    level_kernel: Shape


def linear_head(name: str, head: Head, shape: Shape) -> list[Layer]:
    """One convolution, whose scores the loss keeps."""
    return [convolution_layer(name, _head_unit(head, (head.kernel,) * len(shape)), shape).keeping(1)]


def school_head(name: str, head: Head, shape: Shape) -> list[Layer]:
    """A convolution to as many channels as classes, at least 2, ReLU, and a 1-kernel."""
    hidden = max(_SCHOOL_LEAST_HIDDEN, head.num_classes)
    unit = _head_unit(head, head.level_kernel)
    first = unit_layers(f"{name}.hidden", unit.but(out_channels=hidden, activation="relu"), shape)
    last = convolution_layer(name, unit.pointwise.but(in_channels=hidden), first[-1].shape)
    return [*first, last.keeping(1)]


def _head_unit(head: Head, kernel: Shape) -> Unit:
    ones = (1,) * len(kernel)
    return Unit(head.in_channels, head.num_classes, kernel, ones, head.bias, "none", "none")


@dataclass(frozen=True)
class Guide:
    """Where a guide stands: channels in, foreground classes, and whether on the decoder's two deepest levels."""

    channels: int
    foreground: int
    is_deep: bool


def branch_guide(name: str, guide: Guide, shape: Shape) -> list[Layer]:
    """Norm and linear layer of the mean and the largest value of each channel; two of both where it is deep."""
    answers, pooled = _PRESENCE_ANSWERS * guide.foreground, 2 * guide.channels
    widths = [pooled, max(1, guide.channels // 2), answers] if guide.is_deep else [pooled, answers]
    layers = [Layer(f"{name}.pool", "pool", pooled, (1,), kept=1)]
    for index, (before, after) in enumerate(pairwise(widths)):
        layers.append(Layer(f"{name}.{index}.norm", "norm", before, (1,), parameters=2 * before, kept=1))
        layers.append(linear_layer(f"{name}.{index}", before, after, (1,)).keeping(1))
    return layers


def bottleneck_guide(name: str, guide: Guide, shape: Shape) -> list[Layer]:
    """Dropout, a 1-kernel over the bottleneck, and its largest values."""
    ones = (1,) * len(shape)
    unit = Unit(guide.channels, _PRESENCE_ANSWERS * guide.foreground, ones, ones, True, "none", "none")
    dropout = Layer(f"{name}.dropout", "product", guide.channels, shape, kept=1)
    return [dropout, convolution_layer(name, unit, shape)]


GUIDES: dict[str, Callable[[str, Guide, Shape], list[Layer]]] = {
    "branches": branch_guide,
    "bottleneck": bottleneck_guide,
}


@dataclass(frozen=True)
class Rendering:
    """Where a renderer stands: channels of the encoder, of what came up and of what lies below, and its points."""

    encoder: int
    upsampled: int
    deeper: int
    width: int
    num_classes: int
    points: int

    @property
    def sampled(self) -> int:
        """Channels of a point: the encoder's, those that came up, and the coarse scores."""
        return self.encoder + self.upsampled + self.num_classes


def renderer(name: str, rendering: Rendering, written: int, below: Shape, shape: Shape) -> list[Layer]:
    """Coarse scores of the level `below`, a small network at the points, and a map of `written` channels."""
    points, classes, hidden = (rendering.points,), rendering.num_classes, 2 * rendering.width
    ones = (1,) * len(below)
    coarse = Unit(rendering.deeper, classes, ones, ones, bias=True, norm="none", activation="none")
    widths = [rendering.sampled, *(hidden,) * _HIDDEN_LAYERS]
    return [
        convolution_layer(f"{name}.coarse", coarse, below),
        Layer(f"{name}.interpolation", "interpolation", classes, shape, kept=1),
        Layer(f"{name}.points", "points", rendering.sampled, points, kept=1),
        *(
            linear_layer(f"{name}.hidden.{index}", before, after, points).keeping(1)
            for index, (before, after) in enumerate(pairwise(widths))
        ),
        linear_layer(f"{name}.features", hidden, written, points),
        linear_layer(f"{name}.logits", hidden, classes, points).keeping(1),
        Layer(f"{name}.refined", "points", written, shape),
    ]


def linear_layer(name: str, before: int, after: int, shape: Shape) -> Layer:
    """A matrix product over channels, with its bias."""
    return Layer(name, "linear", after, shape, after * (before + 1), before)


# The channels of the map that each kind of renderer refines.
RENDERED: dict[str, Callable[[Rendering], int]] = {
    "encoder": lambda rendering: rendering.encoder,
    "upsampled": lambda rendering: rendering.upsampled,
}
HEADS: dict[str, Callable[[str, Head, Shape], list[Layer]]] = {"linear": linear_head, "school": school_head}
