"""From class scores on the preprocessed grid to a label map on the image's own grid.

Interpolation is linear in the scores, so each class can be resampled by itself: slab after slab along one axis, class
after class, with the best score so far and its class. That needs memory for one class of one slab, where resampling
all classes and then taking the largest needs it for all of them at full size; the labels are the same. The scores
may come in slabs too: a new row needs no more than the two old ones it lies between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from msseg.preprocessing.resample import nearest_indices, sample_positions

# Scores of one class held at a time: 8 MB, so that a slab, its best scores and its labels stay in the cache; on a GPU
# so many that launches do not count.
_SLAB_VOXELS = {"cpu": 1 << 21, "cuda": 1 << 25}
_ORDERS = (0, 1)


class LabelStream:
    """The classes of the largest scores on a new grid, from slabs of scores that come in order along one axis.

    Scores of `shape` (z, y, x) are interpolated onto `new_shape` of the same extent. `order` 1 interpolates
    linearly, 0 takes the nearest score; the axis `separate`, if given, always takes the nearest. A tie goes to the
    lower class. ValueError at another order.
    """

    def __init__(
        self,
        num_classes: int,
        shape: Sequence[int],
        new_shape: Sequence[int],
        order: int,
        separate: int | None = None,
        axis: int = 0,
    ) -> None:
        if order not in _ORDERS:
            raise ValueError(f"score order {order}; known are {list(_ORDERS)}")
        axes = [
            _Axis(old, new, linear=order == 1 and number != separate)
            for number, (old, new) in enumerate(zip(shape, new_shape, strict=True))
        ]
        self._num_classes, self._axis = num_classes, axis
        self._rows, self._others = axes[axis], [*axes[:axis], *axes[axis + 1 :]]
        self._size = [one.n_out for one in self._others]
        self._labels: torch.Tensor | None = None
        self._last: torch.Tensor | None = None
        self._old = self._new = 0

    def push(self, scores: torch.Tensor) -> None:
        """Take the next rows (k, rows, *others) and label all new rows that lie between rows that are known."""
        labels = self._labels_for(scores.device)
        first, self._old = self._old, self._old + scores.shape[1]
        ready = self._rows.ready(self._old)
        bridged = min(ready, int(np.searchsorted(self._rows.lower.numpy(), first)))
        if self._new < bridged and self._last is not None:  # between the row before and the first of these
            both = torch.cat((self._last, scores[:, :1]), dim=1)
            self._label(labels, both, first - 1, bridged)
        self._label(labels, scores, first, ready)
        self._last = scores[:, -1:].clone() if self._new < self._rows.n_out else None

    def labels(self) -> np.ndarray:
        """The label map (z, y, x), uint8, uint16 beyond 256 classes. All rows must have come."""
        assert self._labels is not None and self._new == self._rows.n_out
        if self._labels.is_pinned():
            torch.cuda.synchronize()
        dtype = np.uint8 if self._num_classes <= 256 else np.uint16
        return np.moveaxis(self._labels.numpy().astype(dtype, copy=False), 0, self._axis)

    def _labels_for(self, device: torch.device) -> torch.Tensor:
        """The labels' memory, the rows' axis first: on the CPU, pinned where the scores are on a GPU."""
        if self._labels is None:
            dtype = torch.uint8 if self._num_classes <= 256 else torch.int32
            size = (self._rows.n_out, *self._size)
            self._labels = torch.empty(size, dtype=dtype, pin_memory=device.type == "cuda")
        return self._labels

    def _label(self, labels: torch.Tensor, scores: torch.Tensor, first: int, stop: int) -> None:
        """Label the new rows up to `stop` from scores (k, rows, *others), of which the first is the old row `first`."""
        count = max(1, _SLAB_VOXELS.get(scores.device.type, 1 << 21) // math.prod(self._size))
        while self._new < stop:
            slab = slice(self._new, min(self._new + count, stop))
            labels[slab].copy_(self._slab_labels(scores, first, slab), non_blocking=True)
            self._new = slab.stop

    def _slab_labels(self, scores: torch.Tensor, first: int, slab: slice) -> torch.Tensor:
        """The labels of the slab of new rows, by a running maximum over the classes."""
        needed = self._rows.needed(slab)
        groups = self._groups(slab, scores.device)
        size = (slab.stop - slab.start, *self._size)
        dtype = torch.uint8 if self._num_classes <= 256 else torch.int32
        labels = torch.zeros(size, dtype=dtype, device=scores.device)
        best = torch.full(size, -math.inf, device=scores.device)
        for index in range(self._num_classes):
            planes = self._in_plane(scores[index], needed - first)
            for group in groups:
                rows = slice(group.start - slab.start, group.stop - slab.start)
                its = self._rows.between(planes, needed, group)
                _take_larger(its, index, best[rows], labels[rows])
        return labels

    def _groups(self, slab: slice, device: torch.device) -> list[slice]:
        """The slab's rows as many at a time as are worked on: one on a CPU, which its cache holds."""
        count = 1 if device.type == "cpu" else slab.stop - slab.start
        return [slice(start, min(start + count, slab.stop)) for start in range(slab.start, slab.stop, count)]

    def _in_plane(self, scores: torch.Tensor, wanted: np.ndarray) -> torch.Tensor:
        """The wanted old rows of one class (rows, *others) on the new grid of the other axes, in float32."""
        rows = _rows(scores, wanted).float()
        for number, axis in enumerate(self._others, start=1):
            if not axis.linear and not axis.same:
                rows = rows.index_select(number, axis.lower.to(rows.device))
        if list(rows.shape[1:]) == self._size:
            return rows
        return functional.interpolate(rows[None], size=self._size, mode="bilinear", align_corners=False)[0]


def _rows(scores: torch.Tensor, wanted: np.ndarray) -> torch.Tensor:
    """Rows of scores by ascending indices: a view where no row between them is left out."""
    if wanted[-1] - wanted[0] + 1 == len(wanted):
        return scores[wanted[0] : wanted[-1] + 1]
    return scores.index_select(0, torch.from_numpy(wanted).to(scores.device))


def _take_larger(scores: torch.Tensor, index: int, best: torch.Tensor, labels: torch.Tensor) -> None:
    """Give the voxels in which `scores` are larger than the best so far to class `index`, the largest so far.

    A label is then the maximum too. On the CPU numpy compares: it takes a quarter of torch's time (measured).
    """
    larger = torch.empty(scores.shape, dtype=torch.bool, device=scores.device)
    if scores.device.type == "cpu":
        np.greater(scores.numpy(), best.numpy(), out=larger.numpy())
    else:
        torch.gt(scores, best, out=larger)
    its = larger.view(torch.uint8) if labels.dtype is torch.uint8 else larger.to(labels.dtype)
    torch.maximum(labels, its.mul_(index), out=labels)
    torch.maximum(scores, best, out=best)


def resampled_labels(
    logits: torch.Tensor, new_shape: Sequence[int], order: int, separate: int | None = None
) -> np.ndarray:
    """The class (z, y, x) of the largest of the scores (k, z, y, x), on the grid `new_shape`; see `LabelStream`."""
    stream = LabelStream(len(logits), logits.shape[1:], new_shape, order, separate)
    with torch.inference_mode():
        stream.push(logits)
        return stream.labels()


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
        self.n_in, self.n_out = n_in, n_out
        self.same = n_in == n_out
        self.linear = linear and not self.same
        position = np.clip(sample_positions(n_in, n_out), 0, n_in - 1)
        lower = np.floor(position).astype(np.int64) if self.linear else nearest_indices(n_in, n_out).astype(np.int64)
        upper = np.minimum(lower + 1, n_in - 1) if self.linear else lower
        self.lower, self.upper = torch.from_numpy(lower), torch.from_numpy(upper)
        self.share = torch.from_numpy((position - lower).astype(np.float32))

    def ready(self, known: int) -> int:
        """How many new voxels lie between the first `known` old ones."""
        return int(np.searchsorted(self.upper.numpy(), known))

    def needed(self, slab: slice) -> np.ndarray:
        """The old voxels that the new ones of the slab lie between, ascending."""
        return np.unique(np.concatenate((self.lower.numpy()[slab], self.upper.numpy()[slab])))

    def between(self, rows: torch.Tensor, numbers: np.ndarray, wanted: slice) -> torch.Tensor:
        """The new rows `wanted` from old rows (rows, *others), of which `numbers` says which they are."""
        lower, upper = (np.searchsorted(numbers, side.numpy()[wanted]) for side in (self.lower, self.upper))
        share = self.share[wanted]
        if not self.linear:
            return (
                rows.index_select(0, torch.from_numpy(lower).to(rows.device))
                if len(lower) > 1
                else rows[lower[0] :][:1]
            )
        if len(lower) == 1:
            low, high = int(lower[0]), int(upper[0])
            return torch.lerp(rows[low : low + 1], rows[high : high + 1], float(share[0]))
        low_rows, high_rows = (rows.index_select(0, torch.from_numpy(side).to(rows.device)) for side in (lower, upper))
        return torch.lerp(low_rows, high_rows, share.to(rows.device)[:, None, None])
