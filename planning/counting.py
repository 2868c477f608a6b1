"""Parameters, feature maps and multiply-adds of a configuration's network, counted without building it."""

from __future__ import annotations

from planning.plan import Configuration
from planning.recording.layout import layout_of
from planning.recording.network import Recorder
from planning.recording.tape import Kind, Tape

CONVOLUTIONS: tuple[Kind, ...] = ("convolution", "transposed")


def parameters(configuration: Configuration, in_channels: int, num_classes: int) -> int:
    """The number of trainable parameters."""
    return sum(weight.count for weight in _evaluation(configuration, in_channels, num_classes).weights.values())


def multiply_adds(configuration: Configuration, in_channels: int, num_classes: int) -> int:
    """Multiply-adds of the convolutions and matrix products that one patch takes in evaluation, all heads computed."""
    operators = _evaluation(configuration, in_channels, num_classes).operators
    return sum(operator.values * operator.products for operator in operators)


def convolution_values(configuration: Configuration, in_channels: int, num_classes: int) -> int:
    """Channel values that the convolutions write for one patch, all heads computed."""
    return values_written(_evaluation(configuration, in_channels, num_classes), CONVOLUTIONS)


def values_written(tape: Tape, kinds: tuple[Kind, ...]) -> int:
    """Channel values that the operators of some kinds write for one sample."""
    return sum(operator.values for operator in tape.operators if operator.kind in kinds)


def _evaluation(configuration: Configuration, in_channels: int, num_classes: int) -> Tape:
    """The network's operators on one patch in evaluation."""
    tape = Tape(batch=1)
    recorder = Recorder(tape, layout_of(configuration, num_classes), training=False)
    recorder.forward(tape.leaf(configuration.input_channels(in_channels), configuration.patch_size))
    return tape
