"""Parameters, feature maps and multiply-adds of a configuration's network, counted without building it."""

from __future__ import annotations

from collections.abc import Iterable

from planning.layers import CONVOLUTIONS, Layer
from planning.layout import layout_of, network_layers
from planning.plan import Configuration


def parameters(configuration: Configuration, in_channels: int, num_classes: int) -> int:
    """The number of trainable parameters."""
    layers = network_layers(layout_of(configuration, in_channels, num_classes))
    return sum({layer.name: layer.parameters for layer in layers}.values())


def multiply_adds(configuration: Configuration, in_channels: int, num_classes: int) -> int:
    """Multiply-adds of the convolutions and matrix products that one patch takes in evaluation, all heads computed."""
    layers = network_layers(layout_of(configuration, in_channels, num_classes))
    return sum(layer.values * layer.products for layer in layers)


def convolution_values(configuration: Configuration, in_channels: int, num_classes: int) -> int:
    """Channel values that the convolutions write for one patch, all heads computed."""
    return written_by_convolutions(network_layers(layout_of(configuration, in_channels, num_classes)))


def written_by_convolutions(layers: Iterable[Layer]) -> int:
    """Channel values that the convolutions among the layers write for one sample."""
    return sum(layer.values for layer in layers if layer.kind in CONVOLUTIONS)
