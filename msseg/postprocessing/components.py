"""Connected components of label maps, in one pass over the box that holds them, and the holes that they enclose."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cc3d
import numpy as np

from msseg.postprocessing.selection import Components, largest

_CORNERS: Literal[26] = 26  # voxels that share a corner belong together
_FACES: Literal[6] = 6  # what corners hold together, the background only leaves through faces
_SLAB_VOXELS = 1 << 22  # numpy turns indices into 64 bits: slab by slab, a volume of any size costs 32 MB for them

Box = tuple[slice, ...]


@dataclass(frozen=True)
class FoundComponents:
    """The components of some classes of a label map: in the `box` by number, see `numbered`, and what they are."""

    label: np.ndarray
    box: Box
    padded: np.ndarray
    components: Components

    @property
    def numbers(self) -> np.ndarray:
        """The numbers in the box, without a rim."""
        return without_rim(self.padded)

    def kept(self, keep: np.ndarray) -> np.ndarray:
        """The label map without the components that `keep`, a mask of them, leaves out; itself where all are kept."""
        if keep.all():
            return self.label
        label = self.label.copy()
        inside, goes = label[self.box], np.concatenate([[False], ~keep])
        for slab in slabs(self.numbers.shape):
            numbers = self.numbers[slab]
            removed = numbers > 0
            removed[removed] = goes[numbers[removed]]
            inside[slab][removed] = 0
        return label


def slabs(shape: Sequence[int]) -> Iterator[slice]:
    """Ranges of the first axis, of some million voxels each, that cover it."""
    step = max(1, _SLAB_VOXELS // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], step):
        yield slice(start, start + step)


def foreground_box(label_zyx: np.ndarray) -> Box | None:
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


def keep_largest(label_zyx: np.ndarray, classes: Collection[int], together: bool = False, k: int = 1) -> np.ndarray:
    """The label map (z, y, x) in which only the `k` largest components of `classes` are left, the rest is 0.

    `together` takes all the classes as one object; otherwise each of them keeps its own largest components. Other
    classes are left alone. Of equally large components the first in the order of the array stays. The input is left as
    it was, and returned where nothing changes.
    """
    found = find_components(label_zyx, classes, together)
    return label_zyx if found is None else found.kept(largest(found.components, k))


def find_components(
    label_zyx: np.ndarray,
    classes: Collection[int],
    together: bool = False,
    counted: int | None = None,
    anchors: Collection[int] = (),
) -> FoundComponents | None:
    """The components of `classes`, of each or of all `together`; None where the map has none of them.

    With `counted`, only voxels of that class count as a component's size. `anchors` are the classes that a component
    may be attached to.
    """
    box, chosen = _chosen(label_zyx, classes)
    if box is None:
        return None
    padded = numbered(chosen, together)
    numbers, count = without_rim(padded), int(padded.max())
    sizes, group = _sizes(numbers, chosen, count, counted)
    attached, anchored = _attached(label_zyx, box, numbers, count, anchors) if anchors else (None, False)
    return FoundComponents(
        label=label_zyx,
        box=box,
        padded=padded,
        components=Components(np.zeros_like(group) if together else group, sizes, attached, anchored),
    )


def numbered(label: np.ndarray, together: bool = False) -> np.ndarray:
    """The components (26 neighbours) of each class, or of all above 0 together, numbered from 1 in array order.

    They lie within a rim of one voxel of 0: without it, cc3d reserves one number too few for a map as full of
    components as it can be.
    """
    padded = np.pad(label > 0 if together else label, 1)
    return cc3d.connected_components(padded, connectivity=_CORNERS)


def without_rim(padded: np.ndarray) -> np.ndarray:
    """The view of what lies within a rim of one voxel."""
    return padded[(slice(1, -1),) * padded.ndim]


def component_boxes(padded: np.ndarray) -> list[Box]:
    """The box of each component of `numbered`, without the rim."""
    boxes = cc3d.statistics(padded)["bounding_boxes"][1:]
    return [tuple(slice(side.start - 1, side.stop - 1) for side in box) for box in boxes]


def fill_holes(
    label_zyx: np.ndarray, classes: Collection[int], together: bool = False, largest_voxels: float = math.inf
) -> np.ndarray:
    """The label map (z, y, x) in which background that `classes` enclose belongs to them; itself where there is none.

    A hole is what a class, or with `together` all of them as one object, cuts off from the outside, moving through
    faces; what reaches the image's edge is none, but along an axis of a single voxel. Its background takes the class,
    or of several the one that borders on it most (of equals the lowest); other classes inside stay. Holes of more than
    `largest_voxels` stay open.
    """
    found = find_components(label_zyx, classes, together)
    if found is None or sum(length > 1 for length in label_zyx.shape) < 2:  # nothing encloses in a single row
        return label_zyx
    filled = label_zyx
    for box, group in _hollow_boxes(found):
        fillings = _box_fillings(label_zyx, box, classes if together else (group,), largest_voxels)
        if fillings is not None:
            filled = label_zyx.copy() if filled is label_zyx else filled
            inside = filled[box]
            np.copyto(inside, fillings, where=(inside == 0) & (fillings > 0))
    return filled


def _hollow_boxes(found: FoundComponents) -> list[tuple[Box, int]]:
    """The boxes of components that may have holes, with their group, by group.

    What a component encloses lies in its box. Where the boxes together are larger than the one around them all, that
    one is looked at, once a group.
    """
    boxes = component_boxes(found.padded)
    group, sizes = found.components.group, found.components.sizes
    flat = [length == 1 for length in found.label.shape]
    hollow = []
    for index in np.argsort(group, kind="stable"):
        lengths = [side.stop - side.start for side in boxes[index]]
        is_wide = all(one >= 3 or is_flat for one, is_flat in zip(lengths, flat, strict=True))
        if is_wide and sizes[index] < math.prod(lengths):
            hollow.append((math.prod(lengths), boxes[index], int(group[index])))
    if sum(volume for volume, _, _ in hollow) > found.padded.size:
        return [(found.box, int(one)) for one in np.unique(group)]
    return [(_shifted(box, found.box), one) for _, box, one in hollow]


def _shifted(box: Box, outer: Box) -> Box:
    """A box within `outer` as one of the whole map."""
    return tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, box, strict=True))


def _box_fillings(label: np.ndarray, box: Box, classes: Collection[int], largest_voxels: float) -> np.ndarray | None:
    """What the box's holes are to be filled with, 0 elsewhere; None where there are none."""
    rim = [(0, 0) if length == 1 else (1, 1) for length in label.shape]
    chosen = np.pad(_only(label[box], classes), rim)
    spaces, count = cc3d.connected_components(chosen == 0, connectivity=_FACES, return_N=True)
    if count < 2:  # the outside alone
        return None
    class_of = _fillings(spaces, chosen, count, largest_voxels)
    if not class_of.any():
        return None
    inner = spaces[tuple(slice(before, -after or None) for before, after in rim)]
    fillings = np.empty(inner.shape, label.dtype)
    for slab in slabs(inner.shape):
        np.take(class_of, inner[slab], out=fillings[slab])
    return fillings


def _fillings(spaces: np.ndarray, chosen: np.ndarray, count: int, largest_voxels: float) -> np.ndarray:
    """The class that each space between the chosen classes takes; 0 for the outside, and what is too large."""
    outside = int(spaces[(0,) * spaces.ndim])
    num_classes = int(chosen.max()) + 1
    sizes = np.zeros(count + 1, np.int64)
    borders = np.zeros((count + 1) * num_classes, np.int64)
    for slab in slabs(spaces.shape):
        numbers = spaces[slab]
        places = np.nonzero((numbers > 0) & (numbers != outside))
        found = numbers[places].astype(np.int64)
        sizes += np.bincount(found, minlength=count + 1)
        places = (places[0] + slab.start, *places[1:])
        for beside in _beside(places, spaces.shape):
            borders += np.bincount(found * num_classes + chosen[beside], minlength=borders.size)
    by_class = borders.reshape(count + 1, num_classes)
    by_class[:, 0] = 0
    fillings = by_class.argmax(1).astype(chosen.dtype)
    fillings[[0, outside]] = 0
    fillings[sizes > largest_voxels] = 0
    return fillings


def _beside(places: tuple[np.ndarray, ...], shape: Sequence[int]) -> Iterator[tuple[np.ndarray, ...]]:
    """The places one step away through each face; an axis of a single slice has no such faces."""
    for axis, length in enumerate(shape):
        for step in (-1, 1) if length > 1 else ():
            yield tuple(place + step if other == axis else place for other, place in enumerate(places))


def _chosen(label: np.ndarray, classes: Collection[int]) -> tuple[Box, np.ndarray] | tuple[None, np.ndarray]:
    """The box that holds `classes`, and the label map in it with all other classes 0."""
    outer = foreground_box(label)
    if outer is None:
        return None, label
    chosen = _only(label[outer], classes)
    inner = foreground_box(chosen)
    if inner is None:
        return None, label
    return _shifted(inner, outer), chosen[inner]


def _only(label: np.ndarray, classes: Collection[int]) -> np.ndarray:
    """The label map with all classes but `classes` set to 0."""
    table = np.zeros(max(int(label.max()), *classes, 0) + 1, label.dtype)
    table[list(classes)] = list(classes)
    chosen = np.empty(label.shape, label.dtype)
    for slab in slabs(label.shape):
        np.take(table, label[slab], out=chosen[slab])
    return chosen


def _sizes(numbers: np.ndarray, chosen: np.ndarray, count: int, counted: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Of each component its voxels, or those of the class `counted`, and one of its classes."""
    sizes, group = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for slab in slabs(numbers.shape):
        inside = chosen[slab] > 0
        found, classes = numbers[slab][inside], chosen[slab][inside]
        group[found] = classes
        sizes += np.bincount(found if counted is None else found[classes == counted], minlength=count + 1)
    return sizes[1:], group[1:]


def _attached(
    label: np.ndarray, box: Box, numbers: np.ndarray, count: int, anchors: Collection[int]
) -> tuple[np.ndarray, bool]:
    """Which components touch a voxel of a class of `anchors`, and whether the map has any such voxel."""
    around = tuple(
        slice(max(0, side.start - 1), min(length, side.stop + 1)) for side, length in zip(box, label.shape, strict=True)
    )
    near = _only(label[around], anchors) > 0
    anchored = any(bool((label[slab] == one).any()) for one in anchors for slab in slabs(label.shape))
    for axis in range(near.ndim):
        near = _spread(near, axis)
    within = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, around, strict=True))
    attached = np.zeros(count + 1, bool)
    near = near[within]
    for slab in slabs(numbers.shape):
        attached[numbers[slab][near[slab]]] = True
    return attached[1:], anchored


def _spread(mask: np.ndarray, axis: int) -> np.ndarray:
    """The mask and its neighbours on either side along an axis."""
    spread = mask.copy()
    ahead, behind = np.moveaxis(spread, axis, 0), np.moveaxis(mask, axis, 0)
    ahead[1:] |= behind[:-1]
    ahead[:-1] |= behind[1:]
    return spread
