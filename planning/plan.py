"""The plan: every decision the later stages obey, to and from JSON.

Spatial tuples are in plan order: (z, y, x) transposed by `Plan.axis_order`, the coarsest axis first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from planning.encoders import check_encoder
from planning.errors import PlanError
from planning.instances import InstancePlan, read_instances
from planning.json_fields import (
    as_json,
    at_least,
    flag,
    integer,
    mapping,
    not_negative,
    number,
    one_of,
    optional,
    positive,
    record,
    refuse,
    scalar,
    sequence,
    text,
)
from planning.network_row import NetworkRow
from planning.networks import NETWORKS, network_row
from planning.regions import Region, read_regions, swapped_regions, validate_regions
from planning.rules import LABEL_ORDERS, NORMALISATION_SCHEMES, SPLINE_ORDERS
from planning.topology import axis_factors

PLAN_VERSION = 1
# In what images may differ: in hue and stain, or in whether the foreground is brighter or darker than the background.
VARIATIONS = ("colour", "polarity")
# What lies around an image: 0, the mean of most normalised intensities, or its mirror image.
PADDINGS = ("zeros", "mirror")
# Fields that are written only where they say something else than this.
_RARE: Final[Mapping[str, Any]] = {"regions": [], "ignore": None}
_RARE_IN_CONFIGURATIONS: Final[Mapping[str, Any]] = {"previous_stage": None, "previous_classes": 0}
# Weights typed by hand as .33, .33, .34 are meant; .5, .6 are not.
_WEIGHT_SUM_TOLERANCE = 1e-3


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

    `supervision_weights` weigh the loss at the network's heads, the one that predicts first, and sum to 1; fewer than
    there are heads leave the last heads out. `encoder_convolutions[i]` and `decoder_convolutions[i]` count level i's
    convolutions (blocks, where a block is residual). `network_options` replace single values of the network's row.
    `variations` says in what the images differ, names of `VARIATIONS`, so that training may vary it too;
    `image_padding` what lies around an image that a patch leaves, one of `PADDINGS`. A network of 2D slices sees
    `neighbour_slices` on either side of each as further channels.

    The second network of a cascade names the configuration before it, `previous_stage`, and sees what that predicted
    as `previous_classes` further channels of 0 and 1 after the image's: one for each of `Plan.planes`.
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
    encoder_convolutions: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]
    supervision_weights: tuple[float, ...]
    batch_dice: bool
    dummy_2d: bool
    image_order: int
    label_order: int
    score_order: int
    mirror_axes: tuple[int, ...]
    network_options: Mapping[str, Any] = field(default_factory=dict)
    variations: tuple[str, ...] = ()
    image_padding: str = "zeros"
    neighbour_slices: int = 0
    previous_stage: str | None = None
    previous_classes: int = 0

    @property
    def row(self) -> NetworkRow:
        """The network's row, with this configuration's options."""
        return network_row(self.network, self.network_options)

    def input_channels(self, image_channels: int) -> int:
        """The channels that the network sees of an image of so many, those of a previous stage included."""
        return image_channels * (2 * self.neighbour_slices + 1) + self.previous_classes


@dataclass(frozen=True)
class Reason:
    """Why one value of the plan is what it is; `source` names the rule, paper or user."""

    subject: str
    decision: str
    because: str
    source: str


@dataclass(frozen=True)
class Plan:
    """Everything later stages need to know; `labels` and `instances` as in the fingerprint, class index = position.

    Without `has_spacing` spacings count in pixels: 1 in every image, whatever its file says. `label_pairs` are classes
    that a mirror along `lateral_axis` swaps, the file axis (z, y, x) from side to side; None where it is not known.
    With `regions` a network scores those, not the labels. `ignore` is the value in label files of what nobody
    annotated, which is never predicted; None where all is annotated.
    """

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
    instances: InstancePlan | None = None
    has_spacing: bool = True
    label_pairs: tuple[tuple[int, int], ...] = ()
    lateral_axis: int | None = None
    regions: tuple[Region, ...] = ()
    ignore: int | None = None

    @property
    def outputs(self) -> int:
        """The scores that a network gives a voxel: one a region, where there are regions, else one a label."""
        return len(self.regions) or len(self.labels)

    @property
    def planes(self) -> tuple[tuple[int, ...], ...]:
        """What each plane of a cascade shows: the classes of one region, or one class of the foreground."""
        if self.regions:
            return tuple(region.classes for region in self.regions)
        return tuple((index,) for index in range(1, len(self.labels)))


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan as a JSON object, its version first; what only some plans need is left out of the others."""
    written = {"version": plan.version, **as_json(plan)}
    configurations = written["configurations"]
    written["configurations"] = {name: _told(one, _RARE_IN_CONFIGURATIONS) for name, one in configurations.items()}
    return _told(written, _RARE)


def _told(written: Mapping[str, Any], rare: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without the `rare` ones that say nothing: plans without these stay what they were, to the byte."""
    return {name: value for name, value in written.items() if name not in rare or value != rare[name]}


def plan_from_json(value: Any, source: str) -> Plan:
    """The validated plan in a JSON object, as written or as edited by hand; `source` names the file in messages.

    Raises PlanError that names the field, what was found and what was expected.
    """
    if not isinstance(value, dict):
        raise refuse(source, value, "a plan, a JSON object")
    if value.get("version") != PLAN_VERSION:
        raise refuse(f"{source}: version", value.get("version"), f"{PLAN_VERSION}; plan the data set again")
    plan = _read_plan(value, f"{source}: plan")
    validate_plan(plan, source)
    return plan


def _known_network(value: Any, place: str) -> str:
    """A name of the table as it is now: a row may have been added since this module was read."""
    name: str = one_of(*NETWORKS)(value, place)
    return name


_lengths = sequence(at_least(1))
_order = one_of(*SPLINE_ORDERS)
_read_channel = record(
    ChannelPlan,
    {
        "name": text,
        "normalisation": one_of(*NORMALISATION_SCHEMES),
        "inside_nonzero_mask": flag,
        "lower": number,
        "upper": number,
        "mean": number,
        "std": not_negative,
    },
)
_read_configuration = record(
    Configuration,
    {
        "name": text,
        "dimensions": one_of(2, 3),
        "spacing_mm": sequence(positive),
        "median_shape": _lengths,
        "patch_size": _lengths,
        "batch_size": at_least(1),
        "network": _known_network,
        "features": _lengths,
        "strides": sequence(_lengths),
        "kernel_sizes": sequence(_lengths),
        "encoder_convolutions": _lengths,
        "decoder_convolutions": _lengths,
        "supervision_weights": sequence(not_negative),
        "batch_dice": flag,
        "dummy_2d": flag,
        "image_order": _order,
        "label_order": one_of(*LABEL_ORDERS),
        "score_order": _order,
        "mirror_axes": sequence(at_least(0)),
        "network_options": mapping(scalar),
        "variations": sequence(one_of(*VARIATIONS)),
        "image_padding": one_of(*PADDINGS),
        "neighbour_slices": at_least(0),
        "previous_stage": optional(text),
        "previous_classes": at_least(0),
    },
)
_read_reason = record(Reason, {"subject": text, "decision": text, "because": text, "source": text})
_read_plan = record(
    Plan,
    {
        "version": integer,
        "dataset_name": text,
        "channels": sequence(_read_channel),
        "labels": mapping(integer),
        "axis_order": sequence(at_least(0)),
        "class_weights": sequence(not_negative),
        "configurations": mapping(_read_configuration),
        "default_configuration": text,
        "memory_bytes": at_least(1),
        "reasons": sequence(_read_reason),
        "instances": read_instances,
        "has_spacing": flag,
        "label_pairs": sequence(sequence(at_least(1))),
        "lateral_axis": optional(one_of(0, 1, 2)),
        "regions": read_regions,
        "ignore": optional(integer),
    },
)


def validate_plan(plan: Plan, source: str) -> None:
    """Raise PlanError where parts of the plan contradict each other; `source` names the file in messages."""
    if not plan.channels:
        raise refuse(f"{source}: plan.channels", [], "at least one channel")
    if sorted(plan.axis_order) != [0, 1, 2]:
        raise refuse(f"{source}: plan.axis_order", list(plan.axis_order), "an order of the axes 0, 1, 2")
    if len(plan.labels) < 2 or len(set(plan.labels.values())) != len(plan.labels):
        raise refuse(f"{source}: plan.labels", plan.labels, "background and at least one class, distinct values")
    if len(plan.class_weights) != len(plan.labels) or sum(plan.class_weights) <= 0:
        found, wanted = list(plan.class_weights), f"{len(plan.labels)} weights, one a label, not all 0"
        raise refuse(f"{source}: plan.class_weights", found, wanted)
    if plan.ignore is not None and (plan.ignore in plan.labels.values() or plan.instances is not None):
        raise refuse(f"{source}: plan.ignore", plan.ignore, "a value that no label has, or null with instances")
    _validate_pairs(plan.label_pairs, len(plan.labels), f"{source}: plan.label_pairs")
    validate_regions(plan.regions, len(plan.labels), f"{source}: plan.regions")
    if plan.regions:
        _validate_scored_regions(plan, source)
    if plan.default_configuration not in plan.configurations:
        known = "one of " + ", ".join(plan.configurations)
        raise refuse(f"{source}: plan.default_configuration", plan.default_configuration, known)
    for name, configuration in plan.configurations.items():
        _validate_configuration(configuration, name, f"{source}: plan.configurations.{name}")
        _validate_previous(configuration, plan, f"{source}: plan.configurations.{name}")


def _validate_scored_regions(plan: Plan, source: str) -> None:
    """Raise PlanError where regions meet what takes classes to exclude each other, or have no mirror image."""
    names = [region.name for region in plan.regions]
    if plan.instances is not None:
        raise refuse(f"{source}: plan.regions", names, "none: objects are numbered")
    classes = list(range(len(plan.labels)))
    for left, right in plan.label_pairs:
        classes[left], classes[right] = right, left
    if swapped_regions(plan.regions, classes) is None:
        found = [list(pair) for pair in plan.label_pairs]
        raise refuse(f"{source}: plan.label_pairs", found, f"pairs that make each of {', '.join(names)} a region again")
    for name, configuration in plan.configurations.items():
        for option in ("guidance", "points"):
            found_part = getattr(configuration.row, option)
            if found_part != "none":
                place = f"{source}: plan.configurations.{name}: {option} of network {configuration.network}"
                wanted = f"'none' with regions, which overlap; use --network-option {option}=none, or another network"
                raise refuse(place, found_part, wanted)


def _validate_pairs(pairs: Sequence[Sequence[int]], num_classes: int, place: str) -> None:
    members = [index for pair in pairs for index in pair]
    is_sound = all(len(pair) == 2 for pair in pairs) and all(1 <= index < num_classes for index in members)
    if not is_sound or len(set(members)) < len(members):
        wanted = f"pairs of classes from 1 to {num_classes - 1}, each class in one pair"
        raise refuse(place, [list(pair) for pair in pairs], wanted)


def _validate_configuration(configuration: Configuration, name: str, place: str) -> None:
    if configuration.name != name:
        raise refuse(f"{place}.name", configuration.name, repr(name))
    if configuration.neighbour_slices and configuration.dimensions != 2:
        raise refuse(f"{place}.neighbour_slices", configuration.neighbour_slices, "0, but for 2D configurations")
    _validate_axes(configuration, place)
    _validate_levels(configuration, place)
    mirror = configuration.mirror_axes
    if len(set(mirror)) != len(mirror) or any(axis >= configuration.dimensions for axis in mirror):
        raise refuse(f"{place}.mirror_axes", list(mirror), f"distinct axes below {configuration.dimensions}")
    weights = configuration.supervision_weights
    heads = len(_validated_row(configuration, place).supervised(len(configuration.features)))
    if not 1 <= len(weights) <= heads or not math.isclose(sum(weights), 1, abs_tol=_WEIGHT_SUM_TOLERANCE):
        wanted = f"1 to {heads} weights, one a head of {configuration.network}, that sum to 1"
        raise refuse(f"{place}.supervision_weights", list(weights), wanted)


def _validate_previous(configuration: Configuration, plan: Plan, place: str) -> None:
    previous = configuration.previous_stage
    if previous is not None and (configuration.dimensions != 3 or previous == configuration.name):
        raise refuse(f"{place}.previous_stage", previous, "none, but for the second of two 3D configurations")
    wanted = 0 if previous is None else len(plan.planes)
    if configuration.previous_classes != wanted:
        expected = f"{wanted}, as the previous stage is {previous}"
        raise refuse(f"{place}.previous_classes", configuration.previous_classes, expected)


def _validated_row(configuration: Configuration, place: str) -> NetworkRow:
    try:
        row = configuration.row
        check_encoder(row.encoder, configuration.dimensions, len(configuration.features))
    except PlanError as error:
        raise PlanError(f"{place}.network_options: {error}") from None
    return row


def _validate_axes(configuration: Configuration, place: str) -> None:
    dimensions = configuration.dimensions
    for field_name in ("spacing_mm", "median_shape", "patch_size"):
        _require_length(getattr(configuration, field_name), dimensions, f"{place}.{field_name}")
    for field_name in ("strides", "kernel_sizes"):
        for index, one in enumerate(getattr(configuration, field_name)):
            _require_length(one, dimensions, f"{place}.{field_name}[{index}]")
    for index, kernel in enumerate(configuration.kernel_sizes):
        if any(edge % 2 == 0 for edge in kernel):
            raise refuse(f"{place}.kernel_sizes[{index}]", list(kernel), "odd edges")
    divisors = axis_factors(configuration.strides, dimensions)
    if any(edge % divisor for edge, divisor in zip(configuration.patch_size, divisors, strict=True)):
        wanted = f"multiples of {list(divisors)}, the products of the strides"
        raise refuse(f"{place}.patch_size", list(configuration.patch_size), wanted)


def _validate_levels(configuration: Configuration, place: str) -> None:
    if not configuration.strides:
        raise refuse(f"{place}.strides", [], "at least one step, so that there is a decoder")
    levels = len(configuration.strides) + 1
    for field_name in ("features", "kernel_sizes", "encoder_convolutions"):
        found = len(getattr(configuration, field_name))
        if found != levels:
            wanted = f"{levels} entries: one a level, one more than strides"
            raise PlanError(f"{place}.{field_name}: found {found} entries, expected {wanted}.")
    found = len(configuration.decoder_convolutions)
    if found != levels - 1:
        raise PlanError(f"{place}.decoder_convolutions: found {found} entries, expected {levels - 1}: one a stride.")


def _require_length(values: Sequence[Any], dimensions: int, place: str) -> None:
    if len(values) != dimensions:
        raise refuse(place, list(values), f"{dimensions} values, one an axis")
