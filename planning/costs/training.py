"""What msseg_train takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from planning.costs.estimate import Estimate, Part, estimate_of
from planning.costs.fold_end import FoldEnd, fold_end_bytes, fold_end_parts, speeds_s
from planning.costs.machine import Arithmetic, Machine
from planning.costs.network import muon_products, network_seconds
from planning.counting import parameters
from planning.plan import Configuration
from planning.recording.tape import SINGLE_BYTES
from planning.training_memory import OPTIMISER_STATES, step_memory

# Passes over the parameters in one step: gradient norm, clipping, the optimiser's states and the weights.
_PASSES_OVER_PARAMETERS = 12
_BATCH_COPIES = 6  # of a patch while it is augmented, larger than in the end
_BATCHES_AHEAD = 3
# Where the network's device augments: threads that read ahead, what they read over what is left of it in the end, and
# how often its values pass through a graphics card's memory.
_READERS = 4
_READ_SHARE = 2.5
_PASSES_TO_AUGMENT = 40
_CHECKPOINT_COPIES = 1.0
_LABEL_BYTES, _LABEL_BYTES_ON_DEVICE = 2, 8


@dataclass(frozen=True)
class TrainingWork:
    """A fold to train. `configuration` has the recipe's batch and width, `patch_size` is what is trained on.

    `epochs` None leaves the length to `budget_s`. `augment` is "workers" or "device"; `batch_workers` 0 makes batches
    in the command's own process, as augmentation on the device always does. `on_the_way_s` are all predictions of whole
    volumes between epochs, `end` is what comes after the last step.
    """

    configuration: Configuration
    patch_size: tuple[int, ...]
    in_channels: int
    num_classes: int
    optimiser: str
    augmentation: str
    averages: bool
    steps_per_epoch: int
    validation_batches: int
    epochs: int | None
    budget_s: float | None
    batch_workers: int
    device: str
    augment: str = "workers"
    on_the_way_s: float = 0.0
    end: FoldEnd | None = None

    @property
    def seen(self) -> Configuration:
        """The configuration with the patch that is trained on."""
        return replace(self.configuration, patch_size=self.patch_size)

    @property
    def batch_values(self) -> int:
        channels = self.configuration.input_channels(self.in_channels)
        return self.configuration.batch_size * channels * math.prod(self.patch_size)


@dataclass(frozen=True)
class StepSeconds:
    """One training step: what the network takes, what making its batch takes of a core, and both in wall time."""

    network_s: float
    batch_s: float
    wall_s: float


def training_estimate(work: TrainingWork, machine: Machine) -> Estimate:
    """The training, its validations on patches, and the fold's validation at the end."""
    step = step_seconds(work, machine)
    epoch_s = work.steps_per_epoch * step.wall_s + _patch_validation_s(work, machine)
    start = [Part("start", machine.processes["train"].start_s), Part("start workers", _batches_start_s(work, machine))]
    end = [] if work.end is None else fold_end_parts(work.end, machine)
    around_s = sum(part.wall_s for part in [*start, *end])
    training_s = math.inf if work.epochs is None else work.epochs * epoch_s + work.on_the_way_s
    if work.budget_s is not None:
        training_s = min(training_s, max(0.0, work.budget_s - around_s))
    speeds = _speeds_part(work, training_s, around_s)
    steps = int(training_s / epoch_s * work.steps_per_epoch)
    weights = SINGLE_BYTES * parameters(work.configuration, work.in_channels, work.num_classes)
    on_device = work.device == "cuda"
    return estimate_of(
        parts=(*start, Part("training", training_s), *end, speeds),
        ram_bytes=training_bytes(work, machine),
        vram_bytes=_device_bytes(work, machine) if on_device else 0,
        disk_bytes=weights * (2 + OPTIMISER_STATES[work.optimiser] + work.averages * _CHECKPOINT_COPIES),
        settings=[
            ("steps", f"{steps} of {step.wall_s:.3g} s ({step.network_s:.3g} s in the network)"),
            ("features", " ".join(map(str, work.configuration.features))),
            ("batch workers", str(work.batch_workers)),
        ],
        assumptions=["training runs to its last epoch or its budget, and starts anew"],
    )


def _batches_start_s(work: TrainingWork, machine: Machine) -> float:
    """Processes that make batches start side by side."""
    if not work.batch_workers:
        return 0.0
    turns = math.ceil(work.batch_workers / machine.cores)
    return machine.processes["server"].start_s + turns * machine.processes["batches"].start_s


def _speeds_part(work: TrainingWork, training_s: float, around_s: float) -> Part:
    """The presets of speed, measured in a share of the training's time and of what a budget leaves."""
    if work.end is None or not math.isfinite(training_s):
        return Part("measure speeds", 0.0)
    left_s = math.inf if work.budget_s is None else work.budget_s - training_s - around_s
    return Part("measure speeds", speeds_s(work.end, training_s, left_s))


def step_seconds(work: TrainingWork, machine: Machine) -> StepSeconds:
    """One step: on a CPU the batch's making shares the cores, on a graphics card it only must keep pace."""
    arithmetic = arithmetic_of(work.device, machine)
    network_s = (
        work.configuration.batch_size
        * network_seconds(work.seen, work.in_channels, work.num_classes, arithmetic).step_s
    )
    count = parameters(work.configuration, work.in_channels, work.num_classes)
    network_s += _PASSES_OVER_PARAMETERS * SINGLE_BYTES * count / arithmetic.copy_bytes_per_s
    if work.optimiser == "muon":
        products = muon_products(work.configuration, work.in_channels, work.num_classes)
        network_s += products / arithmetic.product_per_s
    if work.augment == "device" and work.device != "cpu":
        return _on_graphics_card(work, machine, arithmetic, network_s)
    rates = machine.cases
    by_name = rates.torch_augmented_values_per_s if work.augment == "device" else rates.augmented_values_per_s
    # A row younger than the profile counts as the dearest of those that were measured.
    batch_s = work.batch_values / by_name.get(work.augmentation, min(by_name.values()))
    if work.batch_workers == 0 or work.augment == "device":
        return StepSeconds(network_s, batch_s, network_s + batch_s)
    if work.device == "cpu":
        shared = (network_s * machine.threads + batch_s) / machine.cores
        return StepSeconds(network_s, batch_s, max(network_s, batch_s / work.batch_workers, shared))
    copied_s = SINGLE_BYTES * work.batch_values / arithmetic.to_device_bytes_per_s
    made_s = batch_s / min(work.batch_workers, machine.cores)
    return StepSeconds(network_s, batch_s, max(network_s + copied_s, made_s))


def _on_graphics_card(work: TrainingWork, machine: Machine, arithmetic: Arithmetic, network_s: float) -> StepSeconds:
    """Threads read while the card augments and computes."""
    values = _READ_SHARE * work.batch_values
    read_s = values / machine.cases.augmented_values_per_s["none"]
    moved_s = SINGLE_BYTES * values / arithmetic.to_device_bytes_per_s
    augmented_s = _PASSES_TO_AUGMENT * SINGLE_BYTES * values / arithmetic.copy_bytes_per_s
    ahead_s = read_s / min(_READERS, machine.cores)
    return StepSeconds(network_s, read_s, max(network_s + moved_s + augmented_s, ahead_s))


def arithmetic_of(device: str, machine: Machine) -> Arithmetic:
    """What computes the network."""
    return machine.device if device == "cuda" and machine.device is not None else machine.cpu


def _patch_validation_s(work: TrainingWork, machine: Machine) -> float:
    arithmetic = arithmetic_of(work.device, machine)
    forward_s = network_seconds(work.seen, work.in_channels, work.num_classes, arithmetic).forward_s
    return work.validation_batches * work.configuration.batch_size * forward_s


def training_bytes(work: TrainingWork, machine: Machine) -> int:
    """Main memory of the trainer, of what makes its batches, and of what comes after the last step.

    On a CPU the process keeps what it has once had, and takes what the fold's prediction needs out of that.
    """
    batch = (SINGLE_BYTES + _LABEL_BYTES / work.in_channels) * work.batch_values
    making = _BATCH_COPIES * batch
    if work.augment == "device":
        making = _BATCHES_AHEAD * _READ_SHARE * batch
    waiting = _BATCHES_AHEAD * max(1, work.batch_workers) * batch
    here = waiting + (0 if work.batch_workers else making)
    if work.device != "cuda":
        here += _step_bytes(work, SINGLE_BYTES)
    predicting = 0 if work.end is None else work.end.predicting_bytes
    main = machine.processes["train"].resident_bytes + round(max(here, predicting))
    return main + max(_making_bytes(work, machine, making), fold_end_bytes(work.end, machine))


def _making_bytes(work: TrainingWork, machine: Machine, making: float) -> int:
    """The processes that make batches, and what they are started from."""
    if not work.batch_workers:
        return 0
    worker = machine.processes["batches"].private_bytes + making
    return round(2 * machine.processes["server"].private_bytes + work.batch_workers * worker)


def _device_bytes(work: TrainingWork, machine: Machine) -> int:
    base = machine.device.base_bytes if machine.device else 0
    return base + _step_bytes(work, value_bytes=2)


def _step_bytes(work: TrainingWork, value_bytes: int) -> int:
    """The step's peak, and the averaged weights beside it."""
    memory = step_memory(work.seen, work.in_channels, work.num_classes, work.optimiser, value_bytes)
    return memory.peak + work.averages * memory.parameters


def fitted_configuration(
    work: TrainingWork, candidates: Sequence[Configuration], steps: int, machine: Machine
) -> Configuration:
    """Of the candidates, the narrowest first, the widest of which `steps` steps fit the budget; else the first."""
    chosen = candidates[0]
    for candidate in candidates:
        seconds = step_seconds(replace(work, configuration=candidate), machine).network_s
        if work.budget_s is not None and seconds * steps > work.budget_s:
            break
        chosen = candidate
    return chosen
