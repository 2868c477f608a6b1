"""Patch size, strides and kernels per axis, from spacing and size alone. Tuples are in plan order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from planning import rules


@dataclass(frozen=True)
class Topology:
    """A patch with the strides between its levels and the kernels of each level (one more than strides)."""

    patch_size: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]

    @property
    def divisors(self) -> tuple[int, ...]:
        """What each edge of the patch must be a multiple of: the product of its strides."""
        return axis_factors(self.strides, len(self.patch_size))


def axis_factors(strides: Sequence[Sequence[int]], dimensions: int) -> tuple[int, ...]:
    """The product of the strides per axis; 1 where there are none."""
    return tuple(math.prod(stride[axis] for stride in strides) for axis in range(dimensions))


def largest_patch(spacing_mm: Sequence[float], median_shape: Sequence[float]) -> tuple[float, ...]:
    """The patch to start from: as many mm along every axis, 256³ (2D: 2048²) voxels in all, within the median shape.

    Edges may end in .5 where the median does; `plan_topology` rounds them up.
    """
    dimensions = len(spacing_mm)
    density = [1 / spacing for spacing in spacing_mm]
    scale = (rules.LARGEST_PATCH_VOXELS[dimensions] / math.prod(density)) ** (1 / dimensions)
    return tuple(min(round(one * scale), size) for one, size in zip(density, median_shape[:dimensions], strict=True))


def plan_topology(spacing_mm: Sequence[float], size: Sequence[float], most_levels: int | None = None) -> Topology:
    """The deepest topology for a patch of about `size`, whose edges are then rounded up to what the strides need.

    It has at most `most_levels` (None: as many as the patch allows). Each step halves the axes that are long enough and
    about as fine as the finest of those; a level's kernel spans an axis once its spacing is within a factor of two of
    the finest. The bottleneck's kernel spans all axes.
    """
    spacing, edges = list(spacing_mm), [float(edge) for edge in size]
    kernel = [1] * len(spacing)
    strides: list[tuple[int, ...]] = []
    kernels: list[tuple[int, ...]] = []
    while (most_levels is None or len(strides) + 1 < most_levels) and (axes := _axes_to_pool(spacing, edges)):
        kernel = _grown_kernel(kernel, spacing)
        kernels.append(tuple(kernel))
        strides.append(tuple(rules.POOLING_STRIDE if axis in axes else 1 for axis in range(len(spacing))))
        for axis in axes:
            spacing[axis] *= rules.POOLING_STRIDE
            edges[axis] = math.ceil(edges[axis] / rules.POOLING_STRIDE)
    kernels.append((rules.KERNEL_EDGE,) * len(spacing))
    divisors = axis_factors(strides, len(spacing))
    patch = tuple(math.ceil(edge / divisor) * divisor for edge, divisor in zip(size, divisors, strict=True))
    return Topology(patch, tuple(strides), tuple(kernels))


def _axes_to_pool(spacing: Sequence[float], edges: Sequence[float]) -> list[int]:
    long_enough = [axis for axis, edge in enumerate(edges) if edge >= 2 * rules.SMALLEST_FEATURE_EDGE]
    if not long_enough:
        return []
    finest = min(spacing[axis] for axis in long_enough)
    axes = [axis for axis in long_enough if spacing[axis] / finest < rules.SAME_RESOLUTION_FACTOR]
    if len(axes) == 1 and edges[axes[0]] < rules.SMALLEST_EDGE_TO_POOL_ALONE:
        return []
    return axes


def _grown_kernel(kernel: Sequence[int], spacing: Sequence[float]) -> list[int]:
    finest = min(spacing)
    return [
        rules.KERNEL_EDGE if one == rules.KERNEL_EDGE or mm / finest < rules.SAME_RESOLUTION_FACTOR else 1
        for one, mm in zip(kernel, spacing, strict=True)
    ]


def shrunk(
    topology: Topology, spacing_mm: Sequence[float], median_shape: Sequence[float], most_levels: int | None = None
) -> Topology | None:
    """The next smaller topology, shorter along the axis that covers most of the median shape; None where none is left.

    The step is the divisor that holds after a tentative step: from 256 with divisor 64 the next patch is 224, not 192.
    """
    patch = topology.patch_size
    axis = max(range(len(patch)), key=lambda one: (patch[one] / median_shape[one], one))
    tentative = _shortened(patch, axis, topology.divisors[axis])
    step = plan_topology(spacing_mm, tentative, most_levels).divisors[axis]
    smaller = _shortened(patch, axis, step)
    if smaller[axis] < 1:
        return None
    found = plan_topology(spacing_mm, smaller, most_levels)
    return found if found.strides else None


def _shortened(patch: Sequence[int], axis: int, step: int) -> list[int]:
    return [edge - step if one == axis else edge for one, edge in enumerate(patch)]
