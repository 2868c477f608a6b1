"""Patch and batch size: the largest that a memory budget holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from planning import rules
from planning.errors import PlanError
from planning.memory import feature_voxels, reference_voxels, training_bytes
from planning.network_row import NetworkRow
from planning.topology import Topology, largest_patch, plan_topology, shrunk

# Below two levels there is no decoder.
SMALLEST_LEVELS = 2


@dataclass(frozen=True)
class Target:
    """The grid that cases are resampled to, in plan order; edges of the median shape may end in .5.

    `dataset_voxels` is the size of the whole data set on the full-resolution grid.
    """

    spacing_mm: tuple[float, ...]
    median_shape: tuple[float, ...]
    dataset_voxels: float
    num_classes: int

    @property
    def dimensions(self) -> int:
        return len(self.spacing_mm)


@dataclass(frozen=True)
class Size:
    """A patch that fits and its batch size.

    `voxels` are channel values a sample, `batch_limit` is the cap by the share of the data set.
    """

    topology: Topology
    batch_size: int
    voxels: int
    batch_limit: int


def fit(row: NetworkRow, target: Target, memory_bytes: int, grow: str) -> Size:
    """The largest patch that fits the memory, and the batch that uses what is left.

    With `grow` "batch", memory beyond the row's reference (8 GB) multiplies the batch and leaves the patch as it is.
    Raises PlanError where even the smallest patch does not fit.
    """
    held = patch_memory(row, memory_bytes, grow)
    topology, voxels = fit_patch(row, target, held)
    reference = reference_voxels(held, target.dimensions, row)
    batch = round(reference / voxels * rules.REFERENCE_BATCH[target.dimensions])
    batch = batch * memory_bytes // held
    limit = batch_limit(topology.patch_size, target.dataset_voxels, row.batch_share)
    return Size(topology, max(min(batch, limit), rules.SMALLEST_BATCH), voxels, limit)


def patch_memory(row: NetworkRow, memory_bytes: int, grow: str) -> int:
    """What of the memory the patch may take; with `grow` "batch" what is beyond the row's reference is not for it."""
    return min(memory_bytes, row.reference_memory_bytes) if grow == "batch" else memory_bytes


def batch_limit(patch_size: Sequence[int], dataset_voxels: float, share: float = rules.LARGEST_BATCH_SHARE) -> int:
    """The largest batch that holds no more than its share of the data set."""
    return round(dataset_voxels * share / math.prod(patch_size))


def patch_batch(row: NetworkRow, dimensions: int) -> int:
    """The batch at which the patch must fit the memory."""
    return rules.REFERENCE_BATCH[dimensions] if row.fits_reference_batch else rules.SMALLEST_BATCH


def fit_patch(row: NetworkRow, target: Target, memory_bytes: int) -> tuple[Topology, int]:
    """The largest topology of which the row's `patch_batch` fits the memory, and its channel values a sample."""
    reference, batch = reference_voxels(memory_bytes, target.dimensions, row), patch_batch(row, target.dimensions)
    topology = first_topology(target, row.level_limit)
    voxels = feature_voxels(row, topology.patch_size, topology.strides, target.num_classes)
    while voxels / rules.REFERENCE_BATCH[target.dimensions] * batch > reference:
        smaller = shrunk(topology, target.spacing_mm, target.median_shape, row.level_limit)
        if smaller is None:
            need = training_bytes(voxels, batch, target.dimensions, row)
            raise PlanError(
                f"memory: found {memory_bytes / rules.GIGABYTE:.3g} GB, expected at least "
                f"{need / rules.GIGABYTE:.3g} GB for the smallest patch {topology.patch_size}. Give more memory."
            )
        topology = smaller
        voxels = feature_voxels(row, topology.patch_size, topology.strides, target.num_classes)
    return topology, voxels


def first_topology(target: Target, most_levels: int | None = None) -> Topology:
    """The topology of the largest patch; where nothing can be pooled, the patch is padded until one axis can.

    Raises PlanError where the median image is a single voxel, and where fewer than two levels are asked for.
    """
    if most_levels is not None and most_levels < SMALLEST_LEVELS:
        raise PlanError(f"network option most_levels: found {most_levels}, expected at least {SMALLEST_LEVELS}.")
    size = largest_patch(target.spacing_mm, target.median_shape)
    topology = plan_topology(target.spacing_mm, size, most_levels)
    if not topology.strides:
        padded = [max(edge, rules.SMALLEST_EDGE_TO_POOL_ALONE) if edge > 1 else edge for edge in size]
        topology = plan_topology(target.spacing_mm, padded, most_levels)
    if not topology.strides:
        raise PlanError(
            f"fingerprint: found a median shape of {target.median_shape}, expected more than a single voxel."
        )
    return topology


def low_resolution(row: NetworkRow, target: Target, patch_size: Sequence[int], memory_bytes: int) -> Target | None:
    """The grid of a low-resolution stage, coarse enough for a patch to see a quarter of it; None where none is needed.

    It is needed where the full-resolution patch sees less than a quarter of the median image, and dropped where it
    would have more than half of the full resolution's voxels.
    """
    full = math.prod(target.median_shape)
    spacing, voxels, seen, coarse = target.spacing_mm, full, math.prod(patch_size), None
    while seen / voxels < rules.LOW_RESOLUTION_PATCH_SHARE:
        spacing = _coarser(spacing)
        voxels = math.prod(_exact_shape(target, spacing))
        coarse = coarser_target(target, spacing)
        seen = math.prod(fit_patch(row, coarse, memory_bytes)[0].patch_size)
    return coarse if full / voxels >= rules.LOW_RESOLUTION_SMALLEST_GAIN else None


def coarser_target(target: Target, spacing_mm: Sequence[float]) -> Target:
    """The same data set on a grid of another spacing."""
    exact = _exact_shape(target, spacing_mm)
    share = math.prod(exact) / math.prod(target.median_shape)
    shape = tuple(float(max(round(size), 1)) for size in exact)
    return Target(tuple(spacing_mm), shape, target.dataset_voxels * share, target.num_classes)


def _exact_shape(target: Target, spacing_mm: Sequence[float]) -> list[float]:
    """The median shape on a grid of another spacing, with its fractions of voxels."""
    edges = zip(target.spacing_mm, spacing_mm, target.median_shape, strict=True)
    return [fine / coarser * size for fine, coarser, size in edges]


def _coarser(spacing_mm: Sequence[float]) -> tuple[float, ...]:
    """One step coarser: first the axes that are more than twice as fine as the coarsest, then all of them."""
    coarsest = max(spacing_mm)
    finer = [coarsest / spacing > rules.SAME_RESOLUTION_FACTOR for spacing in spacing_mm]
    return tuple(
        spacing * rules.LOW_RESOLUTION_SPACING_STEP if fine or not any(finer) else spacing
        for spacing, fine in zip(spacing_mm, finer, strict=True)
    )
