"""What a machine was measured to do, to and from JSON. Every rate is per second and names what it counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from planning.errors import PlanError
from planning.json_fields import as_json

PROFILE_VERSION: Final = 3

# Kinds of convolution whose rates differ: 3 × 3 × 3, 3 × 3 (or 1 × 3 × 3), either with a stride, and a matrix product.
KINDS: Final = ("full", "planar", "strided", "pointwise")


@dataclass(frozen=True)
class ConvolutionRate:
    """Multiply-adds a second of one kind of convolution with its norm and activation, `width` channels in and out.

    `forward_per_s` is without gradients, `step_per_s` the forward multiply-adds of a forward and backward pass.
    """

    kind: str
    width: int
    forward_per_s: float
    step_per_s: float


@dataclass(frozen=True)
class Correction:
    """Measured over predicted time of a whole plain U-Net whose first level has `width` features."""

    width: int
    forward: float
    step: float


@dataclass(frozen=True)
class Arithmetic:
    """How fast a device runs networks, in the precision that the commands choose there.

    `copy_bytes_per_s` counts what a copy reads and writes. `free_bytes` is what a graphics card had free (0: the CPU),
    `base_bytes` what it takes before the first network.
    """

    name: str
    convolutions: tuple[ConvolutionRate, ...]
    corrections: tuple[Correction, ...]
    product_per_s: float
    copy_bytes_per_s: float
    product_bf16_per_s: float | None = None
    to_device_bytes_per_s: float = math.inf
    free_bytes: int = 0
    base_bytes: int = 0


@dataclass(frozen=True)
class Process:
    """What a process costs where there is hardly anything to do: seconds from start to end, and memory.

    `resident_bytes` is all that it holds, `private_bytes` the part that no second process of the kind shares.
    """

    start_s: float
    resident_bytes: int
    private_bytes: int


@dataclass(frozen=True)
class CaseRates:
    """What one thread does with images and labels, by this program's own functions.

    Values of finished patches are counted by augmentation: made by a worker, and by torch on the CPU.
    """

    read_bytes_per_s: float
    write_bytes_per_s: float
    hash_bytes_per_s: float
    gunzip_from_bytes_per_s: float
    gunzip_to_bytes_per_s: float
    gzip_label_bytes_per_s: float
    examine_voxels_per_s: float
    components_voxels_per_s: float
    keep_voxels_per_s: float
    normalise_voxels_per_s: float
    resample_voxels_per_s: float
    label_vote_voxels_per_s: float
    locate_voxels_per_s: float
    score_voxels_per_s: float
    overlap_voxels_per_s: float
    box_voxels_per_s: float
    surface_voxels_per_s: float
    case_overhead_s: float
    augmented_values_per_s: Mapping[str, float] = field(default_factory=dict)
    torch_augmented_values_per_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Machine:
    """The measured profile: `cores` that may be used, `threads` of one network, memory in bytes.

    `processes` are commands ("prepare", "plan", "networks", "train", "predict", "evaluate"), two of
    them "by workers", what each of their workers
    does ("examining", "preparing", "evaluating", "batches"), and what workers are started from ("server").
    """

    name: str
    cores: int
    threads: int
    memory_bytes: int
    versions: Mapping[str, str]
    processes: Mapping[str, Process]
    cases: CaseRates
    cpu: Arithmetic
    device: Arithmetic | None = None
    version: int = PROFILE_VERSION


def interpolated(value: float, points: Sequence[tuple[float, float]]) -> float:
    """The straight line through positive points on logarithmic axes at `value`, level beyond the first and last."""
    ordered = sorted(points)
    for (low, at_low), (high, at_high) in itertools.pairwise(ordered):
        if low <= value <= high:
            share = math.log(value / low) / math.log(high / low)
            return math.exp(math.log(at_low) * (1 - share) + math.log(at_high) * share)
    return ordered[0][1] if value < ordered[0][0] else ordered[-1][1]


def machine_to_json(machine: Machine) -> dict[str, Any]:
    """The machine as a JSON object; an unlimited rate is null."""
    value: dict[str, Any] = as_json(machine)
    for arithmetic in (value["cpu"], value["device"]):
        if arithmetic and math.isinf(arithmetic["to_device_bytes_per_s"]):
            arithmetic["to_device_bytes_per_s"] = None
    return value


def machine_from_json(value: Any, source: str) -> Machine:
    """The machine in a JSON object; PlanError where `source` holds none of this version."""
    if not isinstance(value, dict) or value.get("version") != PROFILE_VERSION:
        found = value.get("version") if isinstance(value, dict) else type(value).__name__
        raise PlanError(f"{source}: version: found {found}, expected {PROFILE_VERSION}. Measure the machine again.")
    try:
        fields = {
            **value,
            "processes": {name: Process(**one) for name, one in value["processes"].items()},
            "cases": CaseRates(**value["cases"]),
            "cpu": _arithmetic(value["cpu"]),
            "device": None if value["device"] is None else _arithmetic(value["device"]),
        }
        return Machine(**fields)
    except (KeyError, TypeError, AttributeError) as problem:
        raise PlanError(f"{source}: not a machine's profile ({problem}). Measure the machine again.") from None


def _arithmetic(value: Mapping[str, Any]) -> Arithmetic:
    fields = dict(value)
    if fields["to_device_bytes_per_s"] is None:
        fields["to_device_bytes_per_s"] = math.inf
    fields["convolutions"] = _rows(ConvolutionRate, value["convolutions"])
    fields["corrections"] = _rows(Correction, value["corrections"])
    return Arithmetic(**fields)


_Row = TypeVar("_Row")


def _rows(kind: type[_Row], values: Sequence[Mapping[str, Any]]) -> tuple[_Row, ...]:
    return tuple(kind(**one) for one in values)
