"""How good the network is: Dice over patches, Dice over whole volumes, and classes that have collapsed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

# The class indices (z, y, x) of an image (c, z, y, x), and in a cascade of what its first network found (z, y, x).
Segment = Callable[..., np.ndarray]

_COLLAPSED_BELOW = 1e-3


@dataclass(frozen=True)
class Overlap:
    """Voxels per foreground class, or per region, summed: in both, in the prediction, in the reference."""

    both: tuple[int, ...]
    predicted: tuple[int, ...]
    reference: tuple[int, ...]

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(
            *(
                tuple(a + b for a, b in zip(ours, theirs, strict=True))
                for ours, theirs in (
                    (self.both, other.both),
                    (self.predicted, other.predicted),
                    (self.reference, other.reference),
                )
            )
        )

    def dice(self) -> tuple[float, ...]:
        """Dice per foreground class; NaN where neither has a voxel."""
        return tuple(
            2 * both / (predicted + reference) if predicted + reference else math.nan
            for both, predicted, reference in zip(self.both, self.predicted, self.reference, strict=True)
        )


def no_overlap(num_classes: int) -> Overlap:
    """The sum of nothing."""
    zeros = (0,) * (num_classes - 1)
    return Overlap(zeros, zeros, zeros)


def overlap(
    prediction: np.ndarray, reference: np.ndarray, num_classes: int, regions: Sequence[Sequence[int]] = ()
) -> Overlap:
    """Voxel counts of two label arrays of one shape; voxels with a reference of -1 do not count.

    With `regions`, the classes of each, they are the regions' in their order.
    """
    known = reference >= 0
    flat = reference[known].astype(np.int64) * num_classes + prediction[known]
    table = np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)
    members = [list(classes) for classes in regions] or [[index] for index in range(1, num_classes)]
    return Overlap(
        both=tuple(int(table[np.ix_(classes, classes)].sum()) for classes in members),
        predicted=tuple(int(table[:, classes].sum()) for classes in members),
        reference=tuple(int(table[classes].sum()) for classes in members),
    )


def whole_volume_overlaps(
    cases: Iterable[Sequence[np.ndarray]],
    segment: Segment,
    num_classes: int,
    regions: Sequence[Sequence[int]] = (),
) -> list[Overlap]:
    """The overlap of each case, what it is segmented from and then its label, segmented whole."""
    return [overlap(segment(*shown), label, num_classes, regions) for *shown, label in cases]


def mean_dice(overlaps: Sequence[Overlap], num_classes: int) -> tuple[float, ...]:
    """Mean Dice per foreground class (or region, one fewer than `num_classes`) over cases; NaN where no case has it.

    A case in which neither prediction nor reference has the class does not count.
    """
    rows = [one.dice() for one in overlaps]
    return tuple(_mean(column) for column in zip(*rows, strict=True)) if rows else (math.nan,) * (num_classes - 1)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def zero_streaks(streaks: Sequence[int], total: Overlap) -> tuple[int, ...]:
    """For each class, how many validations in a row it was missed entirely, after one with the overlap `total`.

    One whose reference lacks the class says nothing, whatever was predicted there: the count stays.
    """
    return tuple(
        streak if not reference else streak + 1 if both < _COLLAPSED_BELOW * reference else 0
        for streak, both, reference in zip(streaks, total.both, total.reference, strict=True)
    )
