"""What is done to the planes that show a cascade's first prediction, drawn before it is done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msseg.training.augmentation import Augmentation

OPERATION_NAMES = ("grow", "shrink", "open", "close")


@dataclass(frozen=True)
class PlaneDraws:
    """What is done to the planes of a batch, samples first.

    `order` (b, p) are the planes of a sample as they are changed, one after another; `operation` (b, p) the number of
    one of `OPERATION_NAMES`, -1 for none; `radius` (b, p) in voxels; `pick` (b, p) in [0, 1) says which component a
    plane loses, -1 for none. Components that fill `largest` of the patch or more stay.
    """

    order: np.ndarray
    operation: np.ndarray
    radius: np.ndarray
    pick: np.ndarray
    largest: float

    def of(self, samples: range) -> PlaneDraws:
        """Those of some of the samples."""
        rows = slice(samples.start, samples.stop)
        return PlaneDraws(self.order[rows], self.operation[rows], self.radius[rows], self.pick[rows], self.largest)


def draw_planes(row: Augmentation, generator: np.random.Generator, samples: int, planes: int) -> PlaneDraws:
    """What is to be done, with the row's probabilities: a sample's planes are all changed, or none; same for losses."""
    shape = samples, planes
    changed, lossy = (generator.random((samples, 1)) < one for one in (row.plane_change, row.plane_loss))
    smallest, largest = row.plane_radius
    return PlaneDraws(
        order=generator.permuted(np.tile(np.arange(planes), (samples, 1)), axis=1),
        operation=np.where(changed, generator.integers(len(OPERATION_NAMES), size=shape), -1),
        radius=generator.integers(smallest, largest + 1, size=shape),
        pick=np.where(lossy, generator.random(shape), -1.0),
        largest=row.plane_loss_share,
    )
