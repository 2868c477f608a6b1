"""The plan: every decision the later stages obey, to and from JSON.

Spatial tuples are in plan order: (z, y, x) transposed by `Plan.axis_order`, the coarsest axis first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PLAN_VERSION = 1


@dataclass(frozen=True)
class ChannelPlan:
    """How one channel is normalised; `lower`, `upper`, `mean`, `std` are the fingerprint's (used by scheme `ct`)."""

    name: str
    normalisation: str
    inside_nonzero_mask: bool
    lower: float
    upper: float
    mean: float
    std: float


@dataclass(frozen=True)
class Configuration:
    """One network at one resolution. `strides[i]` leads from level i to level i + 1; `kernel_sizes[i]` is level i's.

    `supervision_weights[i]` weighs the loss at decoder level i, full resolution first, and sums to 1.
    """

    name: str
    dimensions: int
    spacing_mm: tuple[float, ...]
    median_shape: tuple[int, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    network: str
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    convolutions_per_level: int
    supervision_weights: tuple[float, ...]
    batch_dice: bool
    dummy_2d: bool
    image_order: int
    label_order: int
    score_order: int
    mirror_axes: tuple[int, ...]


@dataclass(frozen=True)
class Reason:
    """Why one value of the plan is what it is; `source` names the rule, paper or user."""

    subject: str
    decision: str
    because: str
    source: str


@dataclass(frozen=True)
class Plan:
    """Everything later stages need to know; `labels` as in the fingerprint, class index = position."""

    dataset_name: str
    channels: tuple[ChannelPlan, ...]
    labels: dict[str, int]
    axis_order: tuple[int, ...]
    class_weights: tuple[float, ...]
    configurations: dict[str, Configuration]
    default_configuration: str
    memory_bytes: int
    reasons: tuple[Reason, ...] = ()
    version: int = field(default=PLAN_VERSION)
