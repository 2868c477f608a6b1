"""Connected components of label maps, in one pass over the box that holds the foreground."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import cc3d
import numpy as np

_CORNERS: Literal[26] = 26  # voxels that share a corner belong together


def foreground_box(label_zyx: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box that holds all voxels above 0, or None where there are none."""
    box: list[slice] = []
    for axis in range(label_zyx.ndim):
        view = label_zyx[tuple(box)]  # each axis looks only at what the axes before it left
        others = tuple(other for other in range(label_zyx.ndim) if other != axis)
        occupied = np.flatnonzero(view.any(axis=others))
        if occupied.size == 0:
            return None
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(box)


def keep_largest(label_zyx: np.ndarray, classes: Collection[int], together: bool = False) -> np.ndarray:
    """A copy of the label map (z, y, x) in which only the largest component of `classes` is left, the rest is 0.

    `together` takes all the classes as one object; otherwise each of them keeps its own largest component. Other
    classes are left alone. Of equally large components the first in the order of the array stays.
    """
    kept = label_zyx.copy()
    box = foreground_box(label_zyx)
    if box is None:
        return kept
    # Without a rim, cc3d reserves one number too few for a map as full of components as it can be.
    chosen = np.pad(_only(label_zyx[box], classes), 1)
    kept[box][_smaller_components(chosen, together)[(slice(1, -1),) * label_zyx.ndim]] = 0
    return kept


def _smaller_components(label: np.ndarray, together: bool) -> np.ndarray:
    """The mask of all components but the largest, of each class or of all together.

    Only the labelled voxels are counted and compared, which are few in most maps.
    """
    components = cc3d.connected_components(label > 0 if together else label, connectivity=_CORNERS)
    labelled = label > 0
    component = components[labelled]
    sizes = np.bincount(component, minlength=1)
    class_of = np.zeros(len(sizes), label.dtype)
    if not together:
        class_of[component] = label[labelled]
    labelled[labelled] = ~_largest_of_each(class_of, sizes)[component]
    return labelled


def _largest_of_each(class_of: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which components are the first of the largest of their class; component 0 is the background."""
    largest = np.zeros(len(sizes), dtype=bool)
    for value in np.unique(class_of[1:]):
        members = 1 + np.flatnonzero(class_of[1:] == value)
        largest[members[np.argmax(sizes[members])]] = True
    return largest


def _only(label: np.ndarray, classes: Collection[int]) -> np.ndarray:
    """The label map with all classes but `classes` set to 0."""
    table = np.zeros(max(int(label.max()), *classes, 0) + 1, label.dtype)
    table[list(classes)] = list(classes)
    return table[label]
