"""What of a case's scores is kept: the class of every voxel, and probabilities where they are asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from msseg.inference.collectors import (
    Collector,
    Foreground,
    LargestClass,
    Painted,
    Probabilities,
    RegionProbabilities,
)
from msseg.preprocessing.case import PreparedCase
from planning.plan import Plan

_SINGLE_BYTES = 4


@dataclass(frozen=True)
class Keep:
    """What is kept beside the classes: `probabilities` of all classes or regions, `shares` of the foreground."""

    probabilities: bool = False
    shares: bool = False

    def bytes_for(self, outputs: int, prepared: PreparedCase) -> int:
        """Bytes that it takes for a case, of which a voxel has so many scores."""
        whole, cropped = math.prod(prepared.shape_before_crop), math.prod(prepared.shape_after_crop)
        return self.probabilities * outputs * _SINGLE_BYTES * whole + self.shares * cropped


@dataclass(frozen=True)
class Prediction:
    """What the networks found in a case.

    `classes` are indices (z, y, x) on the grid between crop and resampling; where all classes but the first are one
    foreground, 0 and 1. `shares` is the foreground's probability there, uint8, see `Foreground`. `probabilities` are
    float32 (k, z, y, x) on the image's own grid in the axes of the file, of the regions where the plan has any. The
    latter two are None where not asked for.
    """

    classes: np.ndarray
    probabilities: np.ndarray | None = None
    shares: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(0 if one is None else one.nbytes for one in (self.classes, self.probabilities, self.shares))


def has_one_foreground(plan: Plan) -> bool:
    """Whether there is one thing to find, not as a region: one label, or objects as levels."""
    return not plan.regions and (len(plan.labels) == 2 or plan.instances is not None)


def takes_threshold(plan: Plan) -> bool:
    """Whether classes can be told by a probability alone: of the one foreground, or of each region."""
    return bool(plan.regions) or has_one_foreground(plan)


class CaseCollectors:
    """The collectors of one case, along `axis`, and the prediction that they add up to.

    `threshold` is the foreground's, or that of every region, None: the class of the largest score, or of levels and
    regions ½.
    """

    def __init__(self, plan: Plan, prepared: PreparedCase, axis: int, threshold: float | None, keep: Keep) -> None:
        shape, above = prepared.shape_after_crop, 0.5 if threshold is None else threshold
        self._labels: LargestClass | Foreground | Painted = LargestClass(len(plan.labels), shape, axis)
        if plan.regions:
            self._labels = Painted(plan.regions, shape, axis, above)
        elif plan.instances is not None or threshold is not None or keep.shares:
            self._labels = Foreground(shape, axis, above, keep.shares)
        self.collectors: list[Collector] = [self._labels]
        self._probabilities: np.ndarray | None = None
        if keep.probabilities:
            self._probabilities, inside = _nothing(plan, prepared)
            self.collectors.append((RegionProbabilities if plan.regions else Probabilities)(inside, axis))

    def prediction(self, seen_classes: torch.Tensor | None = None) -> Prediction:
        """The prediction; what guidance has not seen (k - 1, bool, None: not asked) goes to the background."""
        labels, probabilities = self._labels.labels(), self._probabilities
        shares = self._labels.shares() if isinstance(self._labels, Foreground) else None
        if seen_classes is not None:
            if isinstance(self._labels, Foreground):
                labels = labels * np.uint8(seen_classes.any())
                shares = None if shares is None else shares * np.uint8(seen_classes.any())
            else:
                labels = only_seen(labels, seen_classes)
            if probabilities is not None:
                _rule_out(probabilities, seen_classes)
        return Prediction(labels, probabilities, shares)


def only_seen(labels: np.ndarray, seen_classes: torch.Tensor) -> np.ndarray:
    """The class indices with background in place of foreground classes that are not seen (k - 1, bool)."""
    kept = np.concatenate(([True], seen_classes.numpy()))
    return labels if kept.all() else np.where(kept, np.arange(len(kept)), 0).astype(labels.dtype)[labels]


def _nothing(plan: Plan, prepared: PreparedCase) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (k, z, y, x) of background alone in the file's axes, and the view of what lies inside the crop.

    Regions are all 0 there, the background is none of them.
    The view is in the plan's axes, so that a collector writes where the voxels belong.
    """
    order = prepared.axis_order
    shape = [prepared.shape_before_crop[axis] for axis in np.argsort(order)]
    whole = np.zeros((plan.outputs, *shape), np.float32)
    if not plan.regions:
        whole[0] = 1
    inside = whole.transpose(0, *(1 + axis for axis in order))
    crop = (slice(None), *(slice(start, stop) for start, stop in prepared.crop_box))
    return whole, inside[crop]


def _rule_out(probabilities: np.ndarray, seen_classes: torch.Tensor) -> None:
    """Give to the background, in place, the classes that are not seen: it is as probable as the most probable of them.

    As `answers.rule_out` does with scores: a voxel that such a class would win becomes background, every other keeps
    its class.
    """
    if seen_classes.all():
        return
    background = probabilities[0]
    for index in 1 + np.flatnonzero(~seen_classes.numpy()):
        np.maximum(background, probabilities[index], out=background)
        probabilities[index] = 0
    probabilities /= probabilities.sum(0)
