"""What is kept of scores on the image's grid: labels, probabilities, or how probable the foreground is.

A `ScoreStream` hands each collector slab after slab of rows along one axis, class after class, or region after region.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from planning.regions import Region

# The foreground's probability is told in so many steps; thresholds are looked for at their ends.
SHARE_STEPS = 256


class Collector(Protocol):
    """Takes the rows `slab` of all classes: `begin`, `take` for each class and group of rows, `end`.

    `holds_all` says whether it holds all classes of a slab at a time.
    """

    holds_all: bool

    def begin(self, slab: slice, device: torch.device) -> None: ...

    def take(self, index: int, scores: torch.Tensor, rows: slice) -> None:
        """Scores (rows, *others) of class `index`, float32, not to be changed; `rows` is their place in the slab."""

    def end(self) -> None: ...


class LargestClass:
    """The class of the largest score; a tie goes to the lower class."""

    holds_all = False

    def __init__(self, num_classes: int, new_shape: Sequence[int], axis: int = 0) -> None:
        self._map = _SlabMap(new_shape, axis, torch.uint8 if num_classes <= 256 else torch.int32)
        self._dtype = np.uint8 if num_classes <= 256 else np.uint16

    def begin(self, slab: slice, device: torch.device) -> None:
        self._slab = slab
        self._labels = self._map.room(slab, device)
        self._best = torch.full(self._labels.shape, -math.inf, device=device)

    def take(self, index: int, scores: torch.Tensor, rows: slice) -> None:
        _take_larger(scores, index, self._best[rows], self._labels[rows])

    def end(self) -> None:
        self._map.put(self._slab, self._labels)

    def labels(self) -> np.ndarray:
        """The class indices (z, y, x), uint8, uint16 beyond 256 classes. All rows must have come."""
        return self._map.volume().astype(self._dtype, copy=False)


class Painted:
    """The class that `regions` paint where their probability exceeds `threshold`, later ones over earlier, else 0.

    The scores are those of the regions in their order, whose probability is the sigmoid: at ½, a score above 0.
    """

    holds_all = False

    def __init__(
        self, regions: Sequence[Region], new_shape: Sequence[int], axis: int = 0, threshold: float = 0.5
    ) -> None:
        highest = max(region.painted for region in regions)
        self._painted = [region.painted for region in regions]
        self._bias = log_odds(threshold)
        self._map = _SlabMap(new_shape, axis, torch.uint8 if highest < 256 else torch.int32)
        self._dtype = np.uint8 if highest < 256 else np.uint16

    def begin(self, slab: slice, device: torch.device) -> None:
        self._slab = slab
        self._labels = self._map.room(slab, device)

    def take(self, index: int, scores: torch.Tensor, rows: slice) -> None:
        self._labels[rows].masked_fill_(scores > self._bias, self._painted[index])

    def end(self) -> None:
        self._map.put(self._slab, self._labels)

    def labels(self) -> np.ndarray:
        """The class indices (z, y, x), uint8, uint16 beyond 256 classes. All rows must have come."""
        return self._map.volume().astype(self._dtype, copy=False)


class Foreground:
    """1 where the probability of all classes but the first exceeds `threshold`, else 0.

    That is where ln Σ exp(score) of these classes lies above the background's score by more than ln(t / (1 - t)): a
    bias on the background's score. Of two classes, at ½, it is the class of the larger score, to the bit. With
    `keep_shares`, the probability is kept too, in `SHARE_STEPS` steps: it exceeds k / SHARE_STEPS where the share is k
    or more.
    """

    holds_all = False

    def __init__(
        self, new_shape: Sequence[int], axis: int = 0, threshold: float = 0.5, keep_shares: bool = False
    ) -> None:
        self._bias = log_odds(threshold)
        self._mask = _SlabMap(new_shape, axis, torch.uint8)
        self._shares = _SlabMap(new_shape, axis, torch.uint8) if keep_shares else None

    def begin(self, slab: slice, device: torch.device) -> None:
        self._slab = slab
        self._labels = self._mask.room(slab, device)
        self._odds = torch.empty(self._labels.shape, device=device)
        self._background = torch.empty_like(self._odds)

    def take(self, index: int, scores: torch.Tensor, rows: slice) -> None:
        if index < 2:
            (self._background, self._odds)[index][rows] = scores
        else:
            torch.logaddexp(self._odds[rows], scores, out=self._odds[rows])

    def end(self) -> None:
        self._odds -= self._background
        torch.gt(self._odds, self._bias, out=self._labels.view(torch.bool))
        self._mask.put(self._slab, self._labels)
        if self._shares is not None:
            ends = torch.tensor([log_odds(k / SHARE_STEPS) for k in range(1, SHARE_STEPS)], device=self._odds.device)
            self._shares.put(self._slab, torch.bucketize(self._odds, ends, out_int32=True).to(torch.uint8))

    def labels(self) -> np.ndarray:
        """The mask (z, y, x), uint8. All rows must have come."""
        return self._mask.volume()

    def shares(self) -> np.ndarray | None:
        """The foreground's probability (z, y, x), uint8, in steps; None where it was not kept."""
        return None if self._shares is None else self._shares.volume()


class Probabilities:
    """The softmax of the scores, written into `room` (k, z, y, x), float32, of any strides."""

    holds_all = True

    def __init__(self, room: np.ndarray, axis: int = 0) -> None:
        self._out = torch.from_numpy(room).movedim(1 + axis, 1)

    def begin(self, slab: slice, device: torch.device) -> None:
        self._slab = slab
        ours = self._out[:, slab]
        self._held = ours if device.type == "cpu" else torch.empty(ours.shape, device=device)

    def take(self, index: int, scores: torch.Tensor, rows: slice) -> None:
        self._held[index, rows] = scores

    def end(self) -> None:
        self._held -= self._held.amax(0)
        self._held.exp_()
        self._held /= self._held.sum(0)
        if self._held.device != self._out.device:
            self._out[:, self._slab] = self._held.to(self._out.device)
        del self._held


class RegionProbabilities:
    """The sigmoid of each score, written into `room` (k, z, y, x), float32, of any strides."""

    holds_all = False

    def __init__(self, room: np.ndarray, axis: int = 0) -> None:
        self._out = torch.from_numpy(room).movedim(1 + axis, 1)

    def begin(self, slab: slice, device: torch.device) -> None:
        self._ours = self._out[:, slab]

    def take(self, index: int, scores: torch.Tensor, rows: slice) -> None:
        self._ours[index, rows] = scores.sigmoid()

    def end(self) -> None:
        del self._ours


def log_odds(probability: float) -> float:
    """ln(p / (1 - p)) as a float32; ValueError outside (0, 1)."""
    if not 0 < probability < 1:
        raise ValueError(f"probability {probability}: expected more than 0 and less than 1")
    return float(np.float32(math.log(probability / (1 - probability))))


class _SlabMap:
    """A map (z, y, x) that is filled slab by slab along `axis`: on the CPU, pinned where slabs come from a GPU."""

    def __init__(self, shape: Sequence[int], axis: int, dtype: torch.dtype) -> None:
        self._size, self._axis, self._dtype = (shape[axis], *shape[:axis], *shape[axis + 1 :]), axis, dtype
        self._map: torch.Tensor | None = None

    def room(self, slab: slice, device: torch.device) -> torch.Tensor:
        """Zeros for a slab on `device`."""
        if self._map is None:
            self._map = torch.empty(self._size, dtype=self._dtype, pin_memory=device.type == "cuda")
        return torch.zeros((slab.stop - slab.start, *self._size[1:]), dtype=self._dtype, device=device)

    def put(self, slab: slice, values: torch.Tensor) -> None:
        if self._map is None:
            self._map = torch.empty(self._size, dtype=self._dtype, pin_memory=values.device.type == "cuda")
        self._map[slab].copy_(values, non_blocking=True)

    def volume(self) -> np.ndarray:
        assert self._map is not None
        if self._map.is_pinned():
            torch.cuda.synchronize()
        return np.moveaxis(self._map.numpy(), 0, self._axis)


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
