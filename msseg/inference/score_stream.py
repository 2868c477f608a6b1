"""Class scores that come in slabs, interpolated onto the image's own grid and handed to whoever collects them.

Interpolation is linear in the scores, so each class can be resampled by itself: slab after slab along one axis, class
after class. That needs memory for one class of one slab, where resampling all classes at once needs it for all of them
at full size. A new row needs no more than the two old ones it lies between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from msseg.inference.collectors import Collector
from msseg.preprocessing.resample import nearest_indices, sample_positions

# Scores of one class held at a time: 8 MB, so that a slab, its best scores and its labels stay in the cache; on a GPU
# so many that launches do not count.
_SLAB_VOXELS = {"cpu": 1 << 21, "cuda": 1 << 25}
_ORDERS = (0, 1)


class ScoreStream:
    """Scores on a new grid, from slabs of scores that come in order along one axis, for the `collectors`.

    Scores of `shape` (z, y, x) are interpolated onto `new_shape` of the same extent. `order` 1 interpolates
    linearly, 0 takes the nearest score; the axis `separate`, if given, always takes the nearest. ValueError at another
    order.
    """

    def __init__(
        self,
        collectors: Sequence[Collector],
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
        self._collectors = collectors
        self._rows, self._others = axes[axis], [*axes[:axis], *axes[axis + 1 :]]
        self._size = [one.n_out for one in self._others]
        self._last: torch.Tensor | None = None
        self._old = self._new = 0

    @property
    def is_done(self) -> bool:
        """Whether all rows have come."""
        return self._new == self._rows.n_out

    def push(self, scores: torch.Tensor) -> None:
        """Take the next rows (k, rows, *others) and hand on all new rows that lie between rows that are known."""
        first, self._old = self._old, self._old + scores.shape[1]
        ready = self._rows.ready(self._old)
        bridged = min(ready, int(np.searchsorted(self._rows.lower.numpy(), first)))
        if self._new < bridged and self._last is not None:  # between the row before and the first of these
            both = torch.cat((self._last, scores[:, :1]), dim=1)
            self._hand_on(both, first - 1, bridged)
        self._hand_on(scores, first, ready)
        self._last = scores[:, -1:].clone() if self._new < self._rows.n_out else None

    def _hand_on(self, scores: torch.Tensor, first: int, stop: int) -> None:
        """Hand on the new rows up to `stop` from scores (k, rows, *others), of which the first is the old row `first`.

        Where classes are held together on a GPU, fewer rows are taken at a time.
        """
        together = len(scores) if scores.device.type != "cpu" and any(one.holds_all for one in self._collectors) else 1
        voxels = _SLAB_VOXELS.get(scores.device.type, 1 << 21) // together
        count = max(1, voxels // math.prod(self._size))
        while self._new < stop:
            slab = slice(self._new, min(self._new + count, stop))
            self._hand_on_slab(scores, first, slab)
            self._new = slab.stop

    def _hand_on_slab(self, scores: torch.Tensor, first: int, slab: slice) -> None:
        needed = self._rows.needed(slab)
        groups = self._groups(slab, scores.device)
        for collector in self._collectors:
            collector.begin(slab, scores.device)
        for index in range(len(scores)):
            planes = self._in_plane(scores[index], needed - first)
            for group in groups:
                rows = slice(group.start - slab.start, group.stop - slab.start)
                its = self._rows.between(planes, needed, group)
                for collector in self._collectors:
                    collector.take(index, its, rows)
        for collector in self._collectors:
            collector.end()

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
