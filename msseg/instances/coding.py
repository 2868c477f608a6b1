"""Objects with numbers as classes of levels, which a network of classes learns: from the background up to the core.

Levels instead of numbers, since numbers are arbitrary: the deep watershed transform, quantised (Bai & Urtasun 2017).
Distances are in pixels and take pixels for isotropic; a spacing is not looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from msseg.data.image import smallest_integer_type
from msseg.errors import DatasetError

LEVELS = ("background", "border", "rim", "core")
BACKGROUND, BORDER, RIM, CORE = range(len(LEVELS))

# Two pixels on each side of a contact: thinner, and a network's uncertainty closes it.
BORDER_PX = 2
# The share of an object's largest inner distance at which its core begins.
CORE_DEPTH = 0.5

CORNERS: Literal[26] = 26  # pixels that share a corner belong together
_Box = tuple[slice, ...]


@dataclass(frozen=True)
class InstanceCoding:
    """Between object numbers and levels, in the place of a `LabelMap`; `value` is the objects' in semantic files."""

    value: int

    def __post_init__(self) -> None:
        if self.value == 0:
            raise DatasetError("the objects' label value is 0, expected another one: 0 is the background.")

    @property
    def values(self) -> tuple[int, ...]:
        """The semantic value of each level: 0, then the objects' value for border, rim and core."""
        return (0, *[self.value] * (len(LEVELS) - 1))

    def to_index(self, ids: np.ndarray) -> np.ndarray:
        """Levels uint8 of the shape of `ids`, integers of 2 or 3 axes: 0 background, any other number an object.

        * border: an object's pixels within `BORDER_PX` of another object's,
        * core: of the rest, those at least half as far from the object's outline as its deepest pixel is,
        * rim: what is left of the object.

        So what is not background is the objects exactly. The image's edge is no outline. A number whose pixels do not
        hang together (corners count) is coded as an object a piece. Every object keeps a pixel of core, and its core
        is one piece; cores of two objects touch only where tiny objects leave no other pixel. Raises DatasetError for
        negative numbers.
        """
        if not ids.size:
            return np.zeros(ids.shape, np.uint8)
        if ids.min() < 0:
            raise DatasetError(f"object number {ids.min()}: expected 0 for the background and 1, 2, … for objects.")
        return _levels(_pieces(ids))

    def to_values(self, levels: np.ndarray) -> np.ndarray:
        """The semantic values of levels, in the smallest integer type that holds them: 0 and the objects' value."""
        table = np.array(self.values, smallest_integer_type(min(0, self.value), max(0, self.value)))
        return np.take(table, levels)


def _pieces(ids: np.ndarray) -> np.ndarray:
    """What is connected within one number, numbered from 1 without gaps, int32 of the shape of `ids`."""
    import cc3d

    # Without a rim, cc3d reserves one number too few for a map as full of components as it can be.
    volume = np.pad(ids.reshape((1,) * (3 - ids.ndim) + ids.shape), 1)
    pieces = cc3d.connected_components(volume, connectivity=CORNERS, out_dtype=np.uint32)
    return pieces[1:-1, 1:-1, 1:-1].reshape(ids.shape).astype(np.int32)


def _levels(pieces: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    levels = np.where(_near_another(pieces, BORDER_PX), np.uint8(BORDER), np.uint8(BACKGROUND))
    crowded = []
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        wide = widened(box, 1, pieces.shape)
        mask = pieces[wide] == number
        inner = inner_distance(mask)
        free = mask & (levels[wide] != BORDER)
        levels[wide][free] = RIM
        if not free.any():
            crowded.append((wide, mask, inner))
            continue
        core = free & (inner >= CORE_DEPTH * inner.max())
        levels[wide][_one_piece(core) if core.any() else _deepest(inner, free)] = CORE
    for wide, mask, inner in crowded:
        levels[wide][_deepest(inner, _apart(mask, levels[wide]))] = CORE
    return levels


def inner_distance(mask: np.ndarray) -> np.ndarray:
    """Distance in pixels of each pixel of the mask to its outline, half a pixel for the outermost; 0 outside.

    The array's edge is no outline; a mask without one is 1 everywhere.
    """
    from scipy import ndimage

    if mask.all():
        return np.ones(mask.shape)
    return np.maximum(ndimage.distance_transform_edt(mask) - 0.5, 0)


def _one_piece(core: np.ndarray) -> np.ndarray:
    """The largest piece of a core, the first of equals."""
    from scipy import ndimage

    pieces, count = ndimage.label(core, np.ones((3,) * core.ndim))
    return core if count == 1 else pieces == 1 + np.bincount(pieces[pieces > 0] - 1).argmax()


def _deepest(inner: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, ...]:
    """The place of the pixel that is deepest, the first of equals."""
    return tuple(np.atleast_1d(i) for i in np.unravel_index(np.where(among, inner, -1).argmax(), inner.shape))


def _apart(mask: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The pixels of the mask that touch no core so far, or all of them where each does."""
    from scipy import ndimage

    apart = mask & ~ndimage.binary_dilation(levels == CORE, np.ones((3,) * mask.ndim))
    return apart if apart.any() else mask


def _near_another(pieces: np.ndarray, radius: int) -> np.ndarray:
    """Which pixels of objects lie at most `radius` pixels from one of another object."""
    near = np.zeros(pieces.shape, bool)
    for offset in _half_ball(radius, pieces.shape):
        here = tuple(slice(max(0, -step), min(n, n - step)) for step, n in zip(offset, pieces.shape, strict=True))
        there = tuple(slice(max(0, step), min(n, n + step)) for step, n in zip(offset, pieces.shape, strict=True))
        meet = (pieces[here] != pieces[there]) & (pieces[here] > 0) & (pieces[there] > 0)
        near[here] |= meet
        near[there] |= meet
    return near


def _half_ball(radius: int, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The steps of at most `radius` that fit into `shape`, one of each pair of opposites."""
    reach = [range(-min(radius, n - 1), min(radius, n - 1) + 1) for n in shape]
    for offset in itertools.product(*reach):
        if offset > (0,) * len(shape) and sum(step * step for step in offset) <= radius**2:
            yield offset


def widened(box: _Box, reach: int, shape: tuple[int, ...]) -> _Box:
    """The box with `reach` pixels more on every side, within `shape`."""
    return tuple(
        slice(max(0, part.start - reach), min(length, part.stop + reach))
        for part, length in zip(box, shape, strict=True)
    )
