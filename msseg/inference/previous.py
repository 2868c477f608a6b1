"""What the second network of a cascade is shown of the first: a class map, as planes of 0 and 1 tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch

from planning.label_pairs import Sides


@dataclass(frozen=True)
class Previous:
    """The class indices (z, y, x) that the first network found, on the second's grid; `planes` are a `Plan`'s.

    `sides` says which classes swap in a view from the other side, as those of the image do.
    """

    classes_zyx: np.ndarray
    planes: tuple[tuple[int, ...], ...]
    sides: Sides | None = None

    def padded(self, widths: Sequence[tuple[int, int]], mode: Literal["constant", "reflect"]) -> Previous:
        """The same with so many voxels around it, before and behind on each axis, as `numpy.pad` makes them."""
        classes = np.pad(self.classes_zyx, widths, mode) if any(map(any, widths)) else self.classes_zyx
        return Previous(np.require(classes, requirements=["C", "W"]), self.planes, self.sides)

    def table(self, flips: tuple[int, ...], dimensions: int) -> torch.Tensor:
        """For each plane and class 0 or 1, float32 (p, k), in a view flipped along `flips` (axes from the end)."""
        is_turned = self.sides is not None and self.sides.axis - dimensions in flips
        swapped = self.sides.classes if is_turned and self.sides is not None else ()
        return _table(self.planes, swapped)

    def constant(self, region: Sequence[slice], views: Sequence[tuple[int, ...]], dimensions: int) -> int | None:
        """The class of all voxels of a region (z, y, x) if it is shown alike in all views, given by their flips."""
        tile = self.classes_zyx[tuple(region)]
        first = int(tile.flat[0])
        if not (tile == first).all():
            return None
        shown = [self.table(flips, dimensions)[:, first] for flips in views]
        return first if all(torch.equal(one, shown[0]) for one in shown) else None


@lru_cache(maxsize=16)
def _table(planes: tuple[tuple[int, ...], ...], swapped: tuple[int, ...]) -> torch.Tensor:
    table = torch.zeros(len(planes), 1 + max(max(classes) for classes in planes))
    for row, classes in zip(table, planes, strict=True):
        row[list(classes)] = 1
    return table[:, list(swapped)] if swapped else table
