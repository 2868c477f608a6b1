"""Seconds that a network takes, from its operators on the tape and a machine's rates.

Each convolution takes its multiply-adds over the rate measured for its kind and width (norm and activation included);
what else is computed moves its values through memory. The sum is corrected by what a whole plain U-Net of the same
first width took against the same sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from planning.costs.machine import Arithmetic, interpolated
from planning.plan import Configuration
from planning.recording.layout import layout_of
from planning.recording.loss import record_loss
from planning.recording.network import Recorder
from planning.recording.tape import SINGLE_BYTES, Operator, Tape

# Convolutions by the multiply-adds that an input value takes part in for each output channel: 27 in 3 × 3 × 3, 9 in
# 3 × 3, 27 / 8 and 9 / 4 with strides, 1 in a matrix product.
_LEAST_TAPS = {"full": 15.0, "planar": 5.0, "strided": 1.1, "pointwise": 0.0}
_ACCESSES = 3  # an operator without arithmetic reads two values and writes one, or reads one twice as large
_BACKWARD_FACTOR = 3  # and again for the gradients on the way back
_NORM_AND_ACTIVATION = 2  # which the convolutions' rates include
# Muon (msseg/training/muon.py): two products with a kernel taken as a matrix, and three a turn with its Gram matrix.
_MUON_TURNS, _MUON_LEAST = 5, 8


@dataclass(frozen=True)
class NetworkSeconds:
    """Seconds of one patch forward without gradients, and of one patch forward and backward, loss included."""

    forward_s: float
    step_s: float


def network_seconds(
    configuration: Configuration, in_channels: int, num_classes: int, arithmetic: Arithmetic
) -> NetworkSeconds:
    """What one patch of the configuration takes on a device."""
    forward = uncorrected_seconds(configuration, in_channels, num_classes, arithmetic, training=False)
    step = uncorrected_seconds(configuration, in_channels, num_classes, arithmetic, training=True)
    width = configuration.features[0]
    return NetworkSeconds(
        forward * _correction(arithmetic, width, "forward"), step * _correction(arithmetic, width, "step")
    )


def muon_products(configuration: Configuration, in_channels: int, num_classes: int) -> int:
    """Multiply-adds of making the step of every kernel orthogonal, whatever the batch; the first one, which Muon leaves
    out, hardly counts."""
    operators = _operators(configuration, in_channels, num_classes, training=False)
    sides = [_matrix_sides(operator) for operator in operators if operator.products and operator.weights]
    kernels = [sorted(pair) for pair in sides if min(pair) >= _MUON_LEAST]
    return sum(2 * short**2 * long + 3 * _MUON_TURNS * short**3 for short, long in kernels)


def _matrix_sides(operator: Operator) -> tuple[int, int]:
    """The kernel's first axis and all others together: what is added up for a value, and how many sum it up so."""
    return operator.products, operator.weights[0].count // operator.products


def uncorrected_seconds(
    configuration: Configuration, in_channels: int, num_classes: int, arithmetic: Arithmetic, training: bool
) -> float:
    """The sum over the operators of one patch, before the correction by whole networks."""
    operators = _operators(configuration, in_channels, num_classes, training)
    products = [operator for operator in operators if operator.products]
    seconds = sum(_product_seconds(operator, arithmetic, training) for operator in products)
    others = [operator for operator in operators if not operator.products]
    # Of the others, norms have weights; each stands behind a convolution and has an activation behind itself.
    fused = _NORM_AND_ACTIVATION * sum(operator.values for operator in others if operator.weights)
    moved = max(0, sum(operator.values for operator in others) - fused)
    passes = _BACKWARD_FACTOR if training else 1
    return seconds + moved * _ACCESSES * SINGLE_BYTES * passes / arithmetic.copy_bytes_per_s


def _operators(configuration: Configuration, in_channels: int, num_classes: int, training: bool) -> list[Operator]:
    tape = Tape(batch=1)
    recorder = Recorder(tape, layout_of(configuration, num_classes), training)
    outputs = recorder.forward(tape.leaf(configuration.input_channels(in_channels), configuration.patch_size))
    if training:
        record_loss(tape, outputs)
    return list(tape.operators)


def _product_seconds(operator: Operator, arithmetic: Arithmetic, training: bool) -> float:
    kind, width = kind_and_width(operator)
    points = [
        (float(rate.width), rate.step_per_s if training else rate.forward_per_s)
        for rate in arithmetic.convolutions
        if rate.kind == kind
    ]
    return operator.values * operator.products / interpolated(width, points)


def kind_and_width(operator: Operator) -> tuple[str, float]:
    """What an operator with products counts as, and the geometric mean of its channels in and out."""
    if operator.kind != "convolution":
        # Transposed, with its kernel as stride, or linear: a product over the channels of each input value.
        return "pointwise", float(operator.products)
    out_channels = operator.weights[0].count / operator.products
    input_values = operator.input_sizes[0] / SINGLE_BYTES
    output_voxels = operator.values / out_channels
    taps = operator.products * output_voxels / input_values
    kind = next(name for name, least in _LEAST_TAPS.items() if taps >= least)
    in_channels = out_channels / 2 if kind == "strided" else input_values / output_voxels
    return kind, math.sqrt(in_channels * out_channels)


def _correction(arithmetic: Arithmetic, width: int, which: str) -> float:
    points = [(float(one.width), getattr(one, which)) for one in arithmetic.corrections]
    return interpolated(width, points) if points else 1.0
