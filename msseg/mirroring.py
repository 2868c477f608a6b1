"""Images continued beyond their ends by their mirror image, for training and prediction alike."""

from __future__ import annotations

import numpy as np


def mirrored_places(start: int, stop: int, length: int) -> np.ndarray:
    """Which voxel of an axis of `length` stands for each place from `start` up to `stop`, places beyond it included.

    The mirrors are at the centres of the end voxels, which are not repeated; one voxel stands for all.
    """
    period = max(1, 2 * length - 2)
    folded = np.arange(start, stop) % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros(stop - start, np.int64)


def with_neighbours(image_czyx: np.ndarray, count: int) -> np.ndarray:
    """The image with, as channels of each slice, `count` slices before it, itself and `count` behind it.

    Shape ((2 count + 1) · c, z, y, x): all channels of the first slice, then those of the next, mirrored at the ends.
    It is a view of one copy, in which each slice lies once: read it, do not write to it.
    """
    channels, depth, *plane = image_czyx.shape
    slices = mirrored_places(-count, depth + count, depth)
    copy = np.ascontiguousarray(image_czyx.swapaxes(0, 1)[slices])  # (z + 2 count, c, y, x)
    slice_bytes, channel_bytes, *others = copy.strides
    return np.lib.stride_tricks.as_strided(
        copy, ((2 * count + 1) * channels, depth, *plane), (channel_bytes, slice_bytes, *others)
    )
