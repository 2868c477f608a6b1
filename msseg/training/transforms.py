"""Transforms that batchgenerators lacks, in its manner: called with `data` (b, c, *spatial) and `seg` (b, 1, *spatial).

They draw from numpy's global generator, which the maker of a batch seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from batchgenerators.transforms.abstract_transforms import AbstractTransform
from scipy.interpolate import CubicSpline
from scipy.ndimage import map_coordinates

from msseg.training.augmentation import Augmentation, colour_matrix
from msseg.training.sampling import PADDING_IMAGE, PADDING_LABEL
from planning.label_pairs import Sides


class FoldDepth(AbstractTransform):
    """Makes the first spatial axis part of the channels, so that a 2D transform moves all slices alike."""

    def __call__(self, **batch: np.ndarray) -> dict[str, Any]:
        return {key: array.reshape(array.shape[0], -1, *array.shape[3:]) for key, array in batch.items()}


class UnfoldDepth(AbstractTransform):
    """Undoes FoldDepth for a first axis of `depth` voxels."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def __call__(self, **batch: np.ndarray) -> dict[str, Any]:
        return {key: array.reshape(array.shape[0], -1, self.depth, *array.shape[2:]) for key, array in batch.items()}


class RandomWindow(AbstractTransform):
    """A window of `size` at a place drawn uniformly for each sample: what is in view is shifted."""

    def __init__(self, size: Sequence[int]) -> None:
        self.size = tuple(size)

    def __call__(self, **batch: np.ndarray) -> dict[str, Any]:
        samples = len(batch["data"])
        windows = [self._window(batch["data"].shape[2:]) for _ in range(samples)]
        return {key: np.stack([array[b][windows[b]] for b in range(samples)]) for key, array in batch.items()}

    def _window(self, shape: Sequence[int]) -> tuple[slice, ...]:
        lower = [np.random.randint(edge - size + 1) for edge, size in zip(shape, self.size, strict=True)]
        return (slice(None), *(slice(low, low + size) for low, size in zip(lower, self.size, strict=True)))


class QuarterTurn(AbstractTransform):
    """Turns a sample by 0, 90, 180 or 270 degrees in the plane of the last two axes, which have one length."""

    def __init__(self, p_per_sample: float) -> None:
        self.p_per_sample = p_per_sample

    def __call__(self, **batch: np.ndarray) -> dict[str, Any]:
        for index in range(len(batch["data"])):
            if np.random.uniform() < self.p_per_sample:
                turns = np.random.randint(4)
                for array in batch.values():
                    array[index] = np.rot90(array[index], turns, axes=(-2, -1)).copy()
        return dict(batch)


class Inversion(AbstractTransform):
    """Makes the negative of a sample's image: what was brighter than 0 is as much darker."""

    def __init__(self, p_per_sample: float) -> None:
        self.p_per_sample = p_per_sample

    def __call__(self, **batch: np.ndarray) -> dict[str, Any]:
        for image in batch["data"]:
            if np.random.uniform() < self.p_per_sample:
                np.negative(image, out=image)
        return dict(batch)


class MixColours(AbstractTransform):
    """Changes hue, saturation and stain of the channels red, green and blue by the row's probabilities and ranges."""

    def __init__(self, row: Augmentation, channels: Sequence[int]) -> None:
        self.row = row
        self.channels = list(channels)

    def __call__(self, **batch: np.ndarray) -> dict[str, Any]:
        for image in batch["data"]:
            matrix, added = self._draw()
            colours = image[self.channels]
            image[self.channels] = np.tensordot(matrix, colours, axes=1) + added.reshape(3, *(1,) * (image.ndim - 1))
        return dict(batch)

    def _draw(self) -> tuple[np.ndarray, np.ndarray]:
        row, hue, saturation, stain, added = self.row, 0.0, 1.0, np.eye(3), np.zeros(3)
        if np.random.uniform() < row.hue:
            hue = np.random.uniform(-row.hue_degrees, row.hue_degrees)
        if np.random.uniform() < row.saturation:
            low, high = row.saturation_range
            below = low < 1 and np.random.uniform() < 0.5
            saturation = np.random.uniform(low, 1) if below else np.random.uniform(max(low, 1), high)
        if np.random.uniform() < row.stain:
            stain = stain + np.random.normal(0, row.stain_deviation, (3, 3))
            added = np.random.normal(0, row.stain_shift, 3)
        return colour_matrix(hue, saturation, stain), added


class GridElastic(AbstractTransform):
    """Moves a sample by a smooth field: normal displacements at `points` grid points an axis, cubic in between.

    Their standard deviation on an axis is `share` of its length, at most `largest` voxels.
    """

    def __init__(
        self, points: int, share: float, largest: float, image_order: int, label_order: int, p_per_sample: float
    ) -> None:
        self.points = points
        self.share = share
        self.largest = largest
        self.orders = {"data": (image_order, PADDING_IMAGE), "seg": (label_order, PADDING_LABEL)}
        self.p_per_sample = p_per_sample

    def __call__(self, **batch: np.ndarray) -> dict[str, Any]:
        for index in range(len(batch["data"])):
            if np.random.uniform() < self.p_per_sample:
                places = self._places(batch["data"].shape[2:])
                for key, array in batch.items():
                    order, outside = self.orders[key]
                    for channel in array[index]:
                        channel[...] = map_coordinates(channel.copy(), places, order=order, cval=outside)
        return dict(batch)

    def _places(self, shape: Sequence[int]) -> np.ndarray:
        """Where each voxel's value comes from: (d, *shape), float32."""
        places = np.stack(np.meshgrid(*(np.arange(edge, dtype=np.float32) for edge in shape), indexing="ij"))
        for axis, edge in enumerate(shape):
            deviation = min(self.largest, self.share * edge)
            coarse = np.random.normal(0, deviation, (self.points,) * len(shape))
            places[axis] += smooth_field(coarse, shape)
        return places


def smooth_field(coarse: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Values on a coarse grid spread over `shape` by natural cubic splines, the outer points on the outer voxels."""
    field = coarse
    for edge in shape:
        spline = CubicSpline(np.linspace(0, 1, len(field)), field, bc_type="natural")
        # The axis that was first is done and goes last, so that each comes to the front in turn.
        field = np.moveaxis(spline(np.linspace(0, 1, edge)), 0, -1)
    return field


class SidedMirror(AbstractTransform):
    """A mirror transform that gives the classes of a sample mirrored from side to side their partners' indices.

    What it mirrored is seen on a ramp along that axis, which goes through it among the channels of the labels.
    """

    def __init__(self, mirror: AbstractTransform, sides: Sides) -> None:
        self.mirror, self.axis = mirror, sides.axis
        self.classes = np.array([*sides.classes, PADDING_LABEL])  # the padding's -1 finds itself at the end

    def __call__(self, **batch: np.ndarray) -> dict[str, Any]:
        label = batch["seg"]
        length = label.shape[2 + self.axis]
        ramp = np.arange(length, dtype=label.dtype).reshape(-1, *(1,) * (label.ndim - 3 - self.axis))
        marked = np.concatenate([label, np.broadcast_to(ramp, label[:, :1].shape)], axis=1)
        result = self.mirror(**{**batch, "seg": marked})
        moved, ramps = result["seg"][:, :-1], result["seg"][:, -1]
        firsts = ramps.reshape(len(ramps), -1)[:, 0]
        for sample in np.flatnonzero(firsts > 0):
            moved[sample] = self.classes[np.rint(moved[sample]).astype(np.intp)]
        return {**result, "seg": moved}
