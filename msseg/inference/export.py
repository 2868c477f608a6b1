"""From class scores on the preprocessed grid to a label map on the image's own grid.

Interpolation is linear in the scores, so each class can be resampled by itself: slab after slab along the first axis,
class after class, with the best score so far and its class. That needs memory for one class of one slab, where
resampling all classes and then taking the largest needs it for all of them at full size; the labels are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from msseg.preprocessing.resample import nearest_indices, sample_positions

# Scores of one class held at a time: 8 MB, so that a slab, its best scores and its labels stay in the cache.
_SLAB_VOXELS = 1 << 21
_ORDERS = (0, 1)


def resampled_labels(
    logits: torch.Tensor, new_shape: Sequence[int], order: int, separate: int | None = None
) -> np.ndarray:
    """The class (z, y, x) of the largest of the scores (k, z, y, x), interpolated onto `new_shape` of the same extent.

    `order` 1 interpolates linearly, 0 takes the nearest score; the axis `separate`, if given, always takes the
    nearest. A tie goes to the lower class. The dtype is uint8 up to 256 classes, else uint16.
    ValueError at another order.
    """
    if order not in _ORDERS:
        raise ValueError(f"score order {order}; known are {list(_ORDERS)}")
    new_shape = tuple(new_shape)
    axes = [
        _Axis(old, new, linear=order == 1 and number != separate)
        for number, (old, new) in enumerate(zip(logits.shape[1:], new_shape, strict=True))
    ]
    labels = np.empty(new_shape, np.uint8 if len(logits) <= 256 else np.uint16)
    rows = max(1, _SLAB_VOXELS // math.prod(new_shape[1:]))
    with torch.inference_mode():
        for start in range(0, new_shape[0], rows):
            slab = slice(start, min(start + rows, new_shape[0]))
            labels[slab] = _slab_labels(logits, axes, slab).cpu().numpy()
    return labels


def uncropped(label: np.ndarray, crop_box: Sequence[Sequence[int]], shape_before_crop: Sequence[int]) -> np.ndarray:
    """A label map of `shape_before_crop` with `label` at `crop_box` ((lower, upper) of each axis), 0 around it."""
    whole = np.zeros(tuple(shape_before_crop), label.dtype)
    whole[tuple(slice(lower, upper) for lower, upper in crop_box)] = label
    return whole


def in_file_order(volume: np.ndarray, axis_order: Sequence[int]) -> np.ndarray:
    """A contiguous volume in the axes of the file, from one that was transposed by `axis_order`."""
    return np.ascontiguousarray(volume.transpose(np.argsort(axis_order)))


class _Axis:
    """How one axis of scores is resampled: the lower and upper neighbours of each new voxel and the upper's share."""

    def __init__(self, n_in: int, n_out: int, linear: bool) -> None:
        self.n_out = n_out
        self.same = n_in == n_out
        self.linear = linear
        position = np.clip(sample_positions(n_in, n_out), 0, n_in - 1)
        lower = np.floor(position).astype(np.int64) if linear else nearest_indices(n_in, n_out).astype(np.int64)
        self.lower = torch.from_numpy(lower)
        self.upper = torch.from_numpy(np.minimum(lower + 1, n_in - 1))
        self.share = torch.from_numpy((position - lower).astype(np.float32))


def _slab_labels(logits: torch.Tensor, axes: list[_Axis], slab: slice) -> torch.Tensor:
    """The labels (rows, y, x) of the slab of new rows, by a running maximum over the classes."""
    dtype = torch.uint8 if len(logits) <= 256 else torch.int32
    best = _resampled_slab(logits[0], axes, slab).clone()
    labels = torch.zeros(best.shape, dtype=dtype, device=best.device)
    for index in range(1, len(logits)):
        scores = _resampled_slab(logits[index], axes, slab)
        labels.masked_fill_(scores > best, index)
        torch.maximum(scores, best, out=best)
    return labels


def _resampled_slab(scores: torch.Tensor, axes: list[_Axis], slab: slice) -> torch.Tensor:
    """The scores (z, y, x) of one class on the new rows of the slab, in float32: (rows, new y, new x)."""
    depth, *in_plane = axes
    rows = _rows(scores, depth, slab).float()
    for number, axis in enumerate(in_plane, start=1):
        if not axis.linear and not axis.same:
            rows = rows.index_select(number, axis.lower.to(rows.device))
    size = [axis.n_out for axis in in_plane]
    if list(rows.shape[1:]) == size:
        return rows
    return functional.interpolate(rows[None], size=size, mode="bilinear", align_corners=False)[0]


def _rows(scores: torch.Tensor, depth: _Axis, slab: slice) -> torch.Tensor:
    """The rows of the slab between their neighbours; before the other axes are resampled they are smallest."""
    if depth.same:
        return scores[slab]
    lower = scores.index_select(0, depth.lower[slab].to(scores.device))
    if not depth.linear:
        return lower
    upper = scores.index_select(0, depth.upper[slab].to(scores.device))
    share = depth.share[slab].to(scores.device)[:, None, None]
    return torch.lerp(lower.float(), upper.float(), share)
