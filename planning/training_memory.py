"""How much memory one training step takes at its peak, from a configuration alone.

The network is walked as `GridNetwork` walks it, on a tape that counts tensors instead of computing them: parameters,
their gradients and the optimiser's states, what each operator keeps for the way back, and what lives beside these for a
moment. It is the memory of living tensors with PyTorch's own operators, without the scratch memory inside an operator
(cuDNN's workspaces) and without what an allocator keeps in reserve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from planning.errors import PlanError
from planning.plan import Configuration
from planning.recording.layout import layout_of
from planning.recording.loss import record_loss
from planning.recording.network import Recorder
from planning.recording.tape import INT64_BYTES, SINGLE_BYTES, Memory, Tape

# Values that an optimiser keeps for each parameter: the moving averages of the gradient and of its square; momentum.
OPTIMISER_STATES: Final = {"adam": 2, "adamw": 2, "amsgrad": 3, "muon": 1, "sgd": 1}


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step: `peak` is the most at once, `parameters` and `optimiser` are there all the time."""

    parameters: int
    optimiser: int
    peak: int


def step_memory(
    configuration: Configuration,
    in_channels: int,
    num_classes: int,
    optimiser: str = "sgd",
    value_bytes: int = SINGLE_BYTES,
) -> StepMemory:
    """The memory of one training step on the configuration's batch of patches, images and labels included.

    `optimiser` is a row of `OPTIMISER_STATES`. `value_bytes` are those of an activation: 4 in single precision, 2 under
    autocast, which keeps a copy of the weights in half precision too. Raises PlanError for convolutions without
    padding, which see more than the patch.
    """
    if configuration.row.padding == "valid":
        wanted = "'zeros' or 'mirrored': the memory of convolutions without padding is not predicted"
        raise PlanError(f"network option padding: found 'valid', expected {wanted}.")
    tape = Tape(configuration.batch_size, value_bytes)
    labels = Memory(tape.meter, configuration.batch_size * math.prod(configuration.patch_size) * INT64_BYTES)
    _record_step(tape, configuration, in_channels, num_classes)
    counts = [weight.count for weight in tape.weights.values()]
    parameters = SINGLE_BYTES * sum(counts)
    states = OPTIMISER_STATES[optimiser] * parameters
    copies = value_bytes * sum(counts) if value_bytes < SINGLE_BYTES else 0
    update = labels.size + parameters + SINGLE_BYTES * max(counts)
    return StepMemory(parameters, states, parameters + states + max(tape.meter.peak + copies, update))


def _record_step(tape: Tape, configuration: Configuration, in_channels: int, num_classes: int) -> None:
    """Forward, loss, backward; the images stay to the end."""
    image = tape.leaf(configuration.input_channels(in_channels), configuration.patch_size)
    outputs = Recorder(tape, layout_of(configuration, num_classes)).forward(image)
    tape.backward(record_loss(tape, outputs))
