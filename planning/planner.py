"""Fingerprint and budget in, plan out: the order of the decisions. The rules lie in the modules it calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from planning import choice, reasons, rules
from planning.encoders import OWN
from planning.errors import PlanError
from planning.fingerprint import Fingerprint, class_volumes_mm3
from planning.label_pairs import decide_pairs
from planning.network_row import NetworkRow
from planning.networks import PLAIN_UNET, network_row
from planning.normalisation import plan_channels
from planning.plan import Configuration, Plan, Reason, validate_plan
from planning.sizing import Size, Target, coarser_target, fit, fit_patch, low_resolution, patch_memory
from planning.spacing import axis_order, median_new_shape, reorder, target_spacing
from planning.variation import variations
from planning.weights import SUPERVISION, class_weights, uniform_weights

# What is planned of volumes: "2.5d", which shares the cases of "2d", only where it is asked for, and the last two only
# where a patch of "3d" sees too little of the image.
LOW_RESOLUTION, CASCADE = "3d_lowres", "3d_cascade"
CONFIGURATIONS = ("3d", "2d", "2.5d", LOW_RESOLUTION, CASCADE)
_DIMENSIONS = {"2d": 2, "2.5d": 2}  # of the others 3
# What memory beyond the reference buys.
GROW = ("patch", "batch")
_DEFAULT_MEMORY = rules.REFERENCE_MEMORY_BYTES


@dataclass(frozen=True)
class Budget:
    """What training may use, and what more memory buys (one of `GROW`).

    `configuration` is the one to train by default, one of `CONFIGURATIONS`; None leaves the choice to
    `planning.choice`.
    `memory_bytes` None is what the network's row was made for: 8 GB, but more for the larger residual encoders.
    `network` names a row of the table; None leaves the choice to `planning.choice`. `options` replace single values of
    the row.
    """

    memory_bytes: int | None = None
    network: str | None = None
    grow: str = "patch"
    options: Mapping[str, Any] = field(default_factory=dict)
    configuration: str | None = None


def make_plan(fingerprint: Fingerprint, budget: Budget | None = None, coarse_mm: Sequence[float] | None = None) -> Plan:
    """The plan for a data set within a budget; the same input gives the same plan.

    Volumes get the configurations "3d" and "2d", and "2.5d" where it is asked for; encoders of 2D images leave out
    "3d", and single slices get "2d" alone. `planning.choice` says which is the default one and which network each has.
    Where a patch of "3d" sees too little of the image, there are "3d_lowres", on a coarser grid, and "3d_cascade",
    which sees what that predicts; numbered objects, which a coarse grid would merge, have neither. `coarse_mm` is the
    grid of "3d_lowres" (plan order) where one was planned before, so that its cases serve every network.
    Raises PlanError for an unknown network, growth or configuration, and for a budget that no patch fits.
    """
    budget = _checked(budget or Budget())
    order, target = _target(fingerprint)
    planar = target.median_shape[0] == 1
    features = choice.measure(fingerprint, target)
    default = _default_configuration(features, budget)
    has_stages = not planar and fingerprint.instances is None and _encoder(budget) == OWN
    coarse = _coarse(target, budget, features, coarse_mm) if has_stages else None
    names = _names(planar, budget, coarse is not None)
    sides = decide_pairs(fingerprint)
    mirrored = tuple(place for place, axis in enumerate(order) if axis not in sides.unmirrored)
    decided = [
        _configuration(name, grid, planar, budget, features, fingerprint, mirrored)
        for name, grid in _grids(names, target, coarse).items()
    ]
    channels = plan_channels(fingerprint.channels, fingerprint.intensities, fingerprint.relative_size_after_crop)
    volumes = class_volumes_mm3(fingerprint)
    weights = uniform_weights(len(fingerprint.labels)) if volumes is None else class_weights(volumes)
    why = (
        reasons.axes(order, target, planar),
        reasons.spacing(fingerprint, order, target),
        *(reasons.channel(index, channel, fingerprint) for index, channel in enumerate(channels)),
        reasons.class_weights(weights, volumes),
        *reasons.regions(fingerprint),
        *sides.reasons,
        default,
        *(reason for _, configuration_reasons in decided for reason in configuration_reasons),
    )
    plan = Plan(
        dataset_name=fingerprint.dataset_name,
        channels=channels,
        labels=dict(fingerprint.labels),
        axis_order=order,
        class_weights=weights,
        configurations={configuration.name: configuration for configuration, _ in decided},
        default_configuration=default.decision,
        memory_bytes=_memory_bytes(budget),
        reasons=why,
        instances=fingerprint.instances,
        has_spacing=fingerprint.has_spacing,
        label_pairs=sides.pairs,
        lateral_axis=sides.lateral_axis,
        ignore=fingerprint.ignore,
        regions=fingerprint.regions,
    )
    if CASCADE in names:
        plan = _with_cascade(plan)
    validate_plan(plan, "planner")
    return plan


def _grids(names: Sequence[str], volume: Target, coarse: Target | None) -> dict[str, Target]:
    """The grid of each configuration that is planned by itself; a cascade's second network has that of "3d"."""
    grids = {name: _in_plane(volume) if name in _DIMENSIONS else volume for name in names if name != CASCADE}
    if coarse is not None:
        grids[LOW_RESOLUTION] = coarse
    return grids


def _with_cascade(plan: Plan) -> Plan:
    """The plan with its "3d" once more, as one that also sees what "3d_lowres" predicts, and why there are the two."""
    full, coarse = plan.configurations["3d"], plan.configurations[LOW_RESOLUTION]
    cascade = replace(full, name=CASCADE, previous_stage=LOW_RESOLUTION, previous_classes=len(plan.planes))
    configurations = {**plan.configurations, CASCADE: cascade}
    return replace(
        plan, configurations=configurations, reasons=(*plan.reasons, *reasons.two_stages(full, coarse, cascade))
    )


def _coarse(
    volume: Target, budget: Budget, features: choice.Features, coarse_mm: Sequence[float] | None
) -> Target | None:
    """The grid of "3d_lowres", None where a patch of "3d" sees enough of the volume."""
    if coarse_mm is not None:
        return coarser_target(volume, coarse_mm)
    row = network_row(choice.choose_network(features, "3d", budget.network).decision, budget.options)
    held = patch_memory(row, _memory_bytes(budget), budget.grow)
    return low_resolution(row, volume, fit_patch(row, volume, held)[0].patch_size, held)


def _names(planar: bool, budget: Budget, two_stages: bool) -> list[str]:
    """The configurations to plan; PlanError where the one asked for is not among those that the images allow."""
    flat = planar or _encoder(budget) != OWN
    left_out = {"3d"} if flat else set()
    left_out |= set() if two_stages else {LOW_RESOLUTION, CASCADE}
    possible = ["2d"] if planar else [name for name in CONFIGURATIONS if name not in left_out]
    if budget.configuration not in (None, *possible):
        why = "a patch sees enough of the image, or its objects are numbered"
        if flat:
            why = "the images are single slices" if planar else "the encoder is one of 2D images"
        raise PlanError(f"configuration: found {budget.configuration!r}, expected {' or '.join(possible)}, as {why}.")
    return [name for name in possible if name != "2.5d" or budget.configuration == "2.5d"]


def _checked(budget: Budget) -> Budget:
    # The same options are known for every network, whichever is chosen.
    network_row(budget.network or PLAIN_UNET.name, budget.options)
    if budget.grow not in GROW:
        raise PlanError(f"grow: found {budget.grow!r}, expected one of {', '.join(GROW)}.")
    if budget.configuration not in (None, *CONFIGURATIONS):
        raise PlanError(f"configuration: found {budget.configuration!r}, expected one of {', '.join(CONFIGURATIONS)}.")
    if budget.memory_bytes is not None and budget.memory_bytes < 1:
        raise PlanError(f"memory: found {budget.memory_bytes} bytes, expected a size above 0.")
    return budget


def _encoder(budget: Budget) -> str:
    return network_row(budget.network or PLAIN_UNET.name, budget.options).encoder


def _default_configuration(features: choice.Features, budget: Budget) -> Reason:
    """The configuration that is trained when none is named; an encoder of the literature leaves 2D alone."""
    if budget.configuration is not None:
        chosen = choice.choose_configuration(features)
        because = f"it was asked for; the rules would take {chosen.decision}: {chosen.because}"
        return Reason(choice.DEFAULT, budget.configuration, because, "the user")
    if _encoder(budget) == OWN:
        return choice.choose_configuration(features)
    because = f"{_encoder(budget)}, the encoder asked for, is one of 2D images, so nothing is planned in 3D"
    return Reason(choice.DEFAULT, "2d", because, "the user")


def _memory_bytes(budget: Budget) -> int:
    """What training may take: the user's word, else what the network asked for was made for."""
    if budget.memory_bytes is not None:
        return budget.memory_bytes
    return network_row(budget.network, budget.options).reference_memory_bytes if budget.network else _DEFAULT_MEMORY


def _target(fingerprint: Fingerprint) -> tuple[tuple[int, ...], Target]:
    """The axis order and the grid, in that order, to which the cases are resampled."""
    spacings = [case.spacing_mm for case in fingerprint.cases]
    shapes = [case.cropped_shape for case in fingerprint.cases]
    spacing = target_spacing(spacings, shapes)
    median = median_new_shape(shapes, spacings, spacing)
    order = axis_order(spacing, median)
    target = Target(
        spacing_mm=reorder(spacing, order),
        median_shape=reorder(median, order),
        dataset_voxels=math.prod(reorder(median, order)) * len(fingerprint.cases),
        num_classes=len(fingerprint.regions) or len(fingerprint.labels),
    )
    return order, target


def _configuration(
    name: str,
    target: Target,
    planar: bool,
    budget: Budget,
    features: choice.Features,
    fingerprint: Fingerprint,
    mirrored: tuple[int, ...],
) -> tuple[Configuration, list[Reason]]:
    """One configuration on the grid `target`, and its reasons.

    `mirrored` are the axes (z, y, x) in plan order that may be mirrored along.
    """
    dimensions = target.dimensions
    network = choice.choose_network(features, f"{dimensions}d", budget.network)
    row = network_row(network.decision, budget.options)
    memory_bytes = _memory_bytes(budget)
    size = fit(row, target, memory_bytes, budget.grow)
    topology = size.topology
    levels = len(topology.kernel_sizes)
    encoder_convolutions, decoder_convolutions = row.depths(levels)
    configuration = Configuration(
        name=name,
        dimensions=dimensions,
        spacing_mm=target.spacing_mm,
        median_shape=tuple(round(edge) for edge in target.median_shape),
        patch_size=topology.patch_size,
        batch_size=size.batch_size,
        network=row.name,
        features=row.features(levels, dimensions),
        strides=topology.strides,
        kernel_sizes=topology.kernel_sizes,
        encoder_convolutions=encoder_convolutions,
        decoder_convolutions=decoder_convolutions,
        supervision_weights=SUPERVISION[row.supervision](len(row.supervised(levels))),
        batch_dice=_batch_dice(row, target, size, memory_bytes),
        dummy_2d=_dummy_2d(topology.patch_size),
        image_order=rules.IMAGE_ORDER,
        label_order=rules.LABEL_ORDER,
        score_order=rules.SCORE_ORDER,
        mirror_axes=tuple(axis - 3 + dimensions for axis in mirrored if axis >= 3 - dimensions),
        network_options=dict(budget.options),
        variations=variations(fingerprint),
        image_padding="mirror" if planar else "zeros",
        neighbour_slices=rules.NEIGHBOUR_SLICES if name == "2.5d" else 0,
    )
    because = reasons.configuration(configuration, row, network, target, size, memory_bytes, budget.grow)
    return configuration, [*because, *reasons.images(configuration, fingerprint)]


def _in_plane(volume: Target) -> Target:
    """The volume's grid without the first axis, the coarsest."""
    return Target(volume.spacing_mm[1:], volume.median_shape[1:], volume.dataset_voxels, volume.num_classes)


def _batch_dice(row: NetworkRow, target: Target, size: Size, memory_bytes: int) -> bool:
    """Dice over the whole batch where a patch sees too little of the image for its own Dice to mean much."""
    if row.batch_dice == "always" or target.dimensions == 2:
        return True
    return low_resolution(row, target, size.topology.patch_size, memory_bytes) is not None


def _dummy_2d(patch_size: tuple[int, ...]) -> bool:
    return len(patch_size) == 3 and max(patch_size) / patch_size[0] > rules.DUMMY_2D_FACTOR
