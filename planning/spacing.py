"""Target spacing, axis order and the shape after resampling; axes as in the files unless a name says plan order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planning import rules


def target_spacing(spacings_mm: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """The spacing in mm, per axis, to which all cases are resampled.

    `shapes` are those after the nonzero crop. The median, except on an axis that is both much coarser and much
    shorter than the others, where a low percentile keeps the slices of the better-resolved cases.
    """
    spacings = np.asarray(spacings_mm, dtype=float)
    target = np.percentile(spacings, rules.TARGET_SPACING_PERCENTILE, axis=0)
    axis = anisotropic_axis(target.tolist(), np.median(np.asarray(shapes, dtype=float), axis=0).tolist())
    if axis is not None:
        finer = float(np.delete(target, axis).max())
        candidate = float(np.percentile(spacings[:, axis], rules.ANISOTROPIC_SPACING_PERCENTILE))
        target[axis] = candidate if candidate >= finer else finer + rules.COARSEST_AXIS_MARGIN_MM
    return tuple(float(value) for value in target)


def anisotropic_axis(spacing_mm: Sequence[float], shape: Sequence[float]) -> int | None:
    """The axis that is more than 3 times coarser and more than 3 times shorter than every other one, or None."""
    axis = int(np.argmax(spacing_mm))
    coarser = spacing_mm[axis] > rules.ANISOTROPY_FACTOR * max(_without(spacing_mm, axis))
    shorter = shape[axis] * rules.ANISOTROPY_FACTOR < min(_without(shape, axis))
    return axis if coarser and shorter else None


def _without(values: Sequence[float], axis: int) -> list[float]:
    return [value for index, value in enumerate(values) if index != axis]


def axis_order(spacing_mm: Sequence[float], median_shape: Sequence[float]) -> tuple[int, ...]:
    """The file axes in plan order: a single-slice axis first, else the coarsest; the others keep their order.

    The spacing of an axis with one slice means nothing, so such an axis leads whatever its spacing is.
    """
    single = [axis for axis, size in enumerate(median_shape) if size == 1]
    first = max(single or range(len(spacing_mm)), key=lambda axis: spacing_mm[axis])
    return (first, *(axis for axis in range(len(spacing_mm)) if axis != first))


def reorder(values: Sequence, order: Sequence[int]) -> tuple:
    """`values` per file axis, in plan order."""
    return tuple(values[axis] for axis in order)


def new_shape(shape: Sequence[int], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """The shape after resampling; halves round to the even neighbour.

    No axis vanishes, and a single slice stays one: its thickness says nothing of the slices beside it.
    """
    return tuple(
        1 if size == 1 else max(1, round(old / new * size))
        for size, old, new in zip(shape, spacing_mm, new_spacing_mm, strict=True)
    )


def median_new_shape(
    shapes: Sequence[Sequence[int]],
    spacings_mm: Sequence[Sequence[float]],
    new_spacing_mm: Sequence[float],
) -> tuple[float, ...]:
    """The median per axis of the shapes after resampling; may end in .5."""
    resampled = [new_shape(shape, spacing, new_spacing_mm) for shape, spacing in zip(shapes, spacings_mm, strict=True)]
    return tuple(float(value) for value in np.median(resampled, axis=0))
