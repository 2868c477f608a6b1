"""Class scores of a whole image, a slab at a time: what no tile will touch any more is handed on and forgotten.

Tiles go in rows along one axis. Once a row is done, the scores below the next row's start are final. So only one row of
tiles across the image is held, in a ring of as many rows of voxels as the patch is long.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from msseg.inference.answers import Answer, seen
from msseg.inference.memory import rolled_axis
from msseg.inference.passes import Forward
from msseg.inference.placement import Placement
from msseg.inference.previous import Previous
from msseg.inference.tiles import axis_shares, tile_starts

# Scores that are worked on at a time: on a CPU, so many as stay in its cache; on a GPU, so that launches do not count.
_CHUNK_BYTES = {"cpu": 1 << 20, "cuda": 1 << 28}

OnBatch = Callable[[int, int], None]
Corner = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """One way to show a tile to the network: flipped along `flips` (axes counted from the end), with noise or not.

    Its answer for class c is then that for class `classes[c]`, where there are `classes`: left and right are swapped.
    """

    flips: tuple[int, ...]
    noisy: bool
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Window:
    """An image (c, z, y, x), no axis shorter than the patch, and how it is shown; `inner` is where it is no padding.

    `networks` answer together, `guided` of them about presence; their means count. With `reuse`, tiles that hold one
    value in each channel are shown once for all that hold the same. `previous`, on the image's grid, adds its planes.
    """

    image: np.ndarray
    inner: tuple[slice, ...]
    patch: tuple[int, ...]
    dimensions: int
    step: float
    views: tuple[View, ...]
    num_classes: int
    networks: int
    guided: int = 0
    noise_std: float = 0.0
    seed: int = 0
    reuse: bool = True
    previous: Previous | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The image's shape without its padding."""
        return tuple(side.stop - side.start for side in self.inner)

    @cached_property
    def axis(self) -> int:
        """The axis along which rows of tiles are finished."""
        return rolled_axis(self.image.shape[1:], self.patch)

    @cached_property
    def starts(self) -> tuple[list[int], ...]:
        """Along each axis, where the tiles start."""
        pairs = zip(self.image.shape[1:], self.patch, strict=True)
        return tuple(tile_starts(length, size, self.step) for length, size in pairs)

    @cached_property
    def corners(self) -> list[Corner]:
        """Lowest corners of all tiles, row after row along the rolled axis."""
        order = rolled(range(3), self.axis)
        return [unrolled(corner, self.axis) for corner in itertools.product(*(self.starts[axis] for axis in order))]

    @cached_property
    def constants(self) -> dict[Corner, Hashable]:
        """The tiles of one value in each channel, with these values; none where noise tells them apart."""
        if not self.reuse or any(view.noisy for view in self.views):
            return {}
        found = ((corner, self._value(corner)) for corner in self.corners)
        return {corner: values for corner, values in found if values is not None}

    def _value(self, corner: Corner) -> Hashable:
        """The one value in each channel of a tile that is shown alike in all views; None where it has no such."""
        region = self.region(corner)
        values = _constant(self.image[region])
        if values is None or self.previous is None:
            return values
        found = self.previous.constant(region[1:], [view.flips for view in self.views], self.dimensions)
        return None if found is None else (values, found)

    def region(self, corner: Corner) -> tuple[slice, ...]:
        """Where the tile of that corner lies in the image, all channels."""
        return (slice(None), *(slice(low, low + size) for low, size in zip(corner, self.patch, strict=True)))


def rolled(values: Sequence, axis: int) -> tuple:
    """One value an axis, with that of `axis` first."""
    return (values[axis], *values[:axis], *values[axis + 1 :])


def unrolled(values: Sequence, axis: int) -> tuple:
    """The inverse of `rolled`."""
    return (*values[1 : axis + 1], values[0], *values[axis + 1 :])


def score_slabs(
    window: Window,
    forward: Forward,
    placement: Placement,
    seen_classes: torch.Tensor | None = None,
    on_batch: OnBatch | None = None,
) -> Iterator[torch.Tensor]:
    """Mean logits (k, rows, *others) of rows of the image without padding, in order along `window.axis`.

    The other axes follow in their order; the dtype is the placement's. A slab is a view of memory that is used again:
    it must be read before the next one is asked for. `seen_classes` (k - 1, bool, on the CPU) turns true where a tile
    sees a class. `on_batch(done, total)` counts forward passes; what it raises ends the work. To be run in a session
    of the passes that `forward` is of.
    """
    ring = _Ring(window, placement)
    for corner, answer in _tile_answers(window, forward, placement, on_batch):
        if seen_classes is not None and answer.presence is not None:
            seen_classes |= seen(answer.presence[None].cpu())
        yield from ring.finish(corner[window.axis])
        ring.add(corner, answer.logits)
        del answer
    yield from ring.finish(window.image.shape[1 + window.axis])


class _Ring:
    """The scores of one row of tiles: voxel rows that lie in turn in the same memory, the rolled axis first."""

    def __init__(self, window: Window, placement: Placement) -> None:
        self._window, self._axis = window, window.axis
        padded = rolled(window.image.shape[1:], window.axis)
        self._rows = rolled(window.patch, window.axis)[0]
        self._front = 0
        size = (window.num_classes, self._rows, *padded[1:])
        self._scores = torch.zeros(size, dtype=placement.dtype, device=placement.keep_on)
        self._shares = [
            torch.from_numpy(axis_shares(length, size, starts)).to(placement.keep_on)
            for length, size, starts in zip(window.image.shape[1:], window.patch, window.starts, strict=True)
        ]
        self._weight = 1 / (len(window.views) * window.networks)

    def add(self, corner: Corner, logits: torch.Tensor) -> None:
        """Add a tile's sum of logits (k, z, y, x) to the mean, each voxel by the tile's share of it."""
        tile = logits.movedim(1 + self._axis, 1)
        first, *others = rolled(corner, self._axis)
        along, *across = rolled([self._share(axis, corner) for axis in range(3)], self._axis)
        across_share = torch.outer(*across) * self._weight
        y, x = (slice(low, low + size) for low, size in zip(others, tile.shape[2:], strict=True))
        for rows in _chunks(tile):
            share = along[rows, None, None] * across_share
            for ours, its in self._pieces(first + rows.start, first + rows.stop):
                at = slice(its.start - first - rows.start, its.stop - first - rows.start)
                part = slice(its.start - first, its.stop - first)
                self._scores[:, ours, y, x].addcmul_(tile[:, part], share[at])

    def finish(self, stop: int) -> Iterator[torch.Tensor]:
        """What is final of the image: the rows below `stop`; their memory is cleared for others."""
        low, y, x = rolled(self._window.inner, self._axis)
        for ours, rows in self._pieces(self._front, stop):
            first, last = max(rows.start, low.start), min(rows.stop, low.stop)
            if first < last:
                inside = slice(ours.start + first - rows.start, ours.start + last - rows.start)
                yield self._scores[:, inside, y, x]
            self._scores[:, ours].zero_()
        self._front = stop

    def _share(self, axis: int, corner: Corner) -> torch.Tensor:
        return self._shares[axis][self._window.starts[axis].index(corner[axis])]

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """The voxel rows [start, stop) as pieces: where each lies in the ring, and which rows it is."""
        while start < stop:
            place = start % self._rows
            count = min(stop - start, self._rows - place)
            yield slice(place, place + count), slice(start, start + count)
            start += count


def _tile_answers(
    window: Window, forward: Forward, placement: Placement, on_batch: OnBatch | None
) -> Iterator[tuple[Corner, Answer]]:
    """Every tile with the sum of its views' logits (k, z, y, x), float32, and their mean presence.

    A tile of one value in each channel goes through the network by itself, in a batch of the usual size, so that its
    answer is the one it would have had among others; it is kept for the tiles alike.
    """
    varied = [corner for corner in window.corners if corner not in window.constants]
    kinds = set(window.constants.values())
    shown = list(itertools.product(varied, window.views))
    size = _even_batch(len(window.corners) * len(window.views), placement.batch_size)
    counter = _Counter(math.ceil(len(shown) / size) + len(kinds), on_batch)
    shower = _Shower(window, forward, placement, counter)
    answers = shower.answers(shown, size)
    known: dict[Hashable, Answer] = {}
    for corner in window.corners:
        kind = window.constants.get(corner)
        if kind is None:
            yield corner, shower.sum_of_views(itertools.islice(answers, len(window.views)))
            continue
        if kind not in known:
            one = next(shower.answers([(corner, window.views[0])], size))
            known[kind] = shower.sum_of_views(itertools.repeat(one, len(window.views)), is_kept=True)
        yield corner, known[kind]


@dataclass
class _Counter:
    """Tells how many forward passes are done."""

    total: int
    on_batch: OnBatch | None
    done: int = 0

    def tick(self) -> None:
        self.done += 1
        if self.on_batch is not None:
            self.on_batch(self.done, self.total)


class _Shower:
    """Shows tiles to the networks."""

    def __init__(self, window: Window, forward: Forward, placement: Placement, counter: _Counter) -> None:
        self._window, self._forward, self._placement, self._counter = window, forward, placement, counter
        self._image = torch.from_numpy(window.image).to(placement.keep_on)
        self._classes = None if window.previous is None else torch.from_numpy(window.previous.classes_zyx)
        if self._classes is not None:
            self._classes = self._classes.to(placement.keep_on)
        self._noise = torch.Generator(device=placement.device).manual_seed(window.seed)

    def answers(self, shown: Sequence[tuple[Corner, View]], size: int) -> Iterator[Answer]:
        """The networks' answer to each tile, without batch axis. All batches have one size: the last tile repeats."""
        for start in range(0, len(shown), size):
            batch = shown[start : start + size]
            answer = self._forward(self._tiles([*batch, *[batch[-1]] * (size - len(batch))]))
            self._counter.tick()
            for index in range(len(batch)):
                yield Answer(answer.logits[index], None if answer.presence is None else answer.presence[index])
            del answer  # the next batch needs its memory

    def sum_of_views(self, answers: Iterator[Answer], is_kept: bool = False) -> Answer:
        """One tile's logits, each view turned back, summed: (k, z, y, x), float32; and the mean presence (k - 1).

        The first view is the tile as it is. On the CPU its memory takes the sum, unless it `is_kept`.
        """
        window, keep_on = self._window, self._placement.keep_on
        first = next(answers)
        own = is_kept or self._placement.device.type != "cpu"  # what a recorded pass answers is written over
        total, presence = first.logits.to(keep_on, torch.float32, copy=own), first.presence
        del first
        for view, answer in zip(window.views[1:], answers, strict=True):
            _add_turned_back(total, answer.logits.to(keep_on), view)
            if presence is not None and answer.presence is not None:
                presence = presence + _presence_turned_back(answer.presence, view)
        if presence is not None:
            presence = presence / (len(window.views) * window.guided)
        return Answer(total[:, None] if window.dimensions == 2 else total, presence)

    def _tiles(self, batch: Sequence[tuple[Corner, View]]) -> torch.Tensor:
        """The tiles as the network sees them: (b, c, z, y, x), or (b, c, y, x) in 2D."""
        window = self._window
        shown = []
        for corner, view in batch:
            tile = self._with_planes(self._image[window.region(corner)], corner, view)
            shown.append((tile[:, 0] if window.dimensions == 2 else tile).flip(view.flips))
        tiles = torch.stack(shown).to(self._placement.device)
        for tile, (_, view) in zip(tiles, batch, strict=True):
            if view.noisy:
                image = tile[: len(self._image)]
                image += window.noise_std * torch.randn(image.shape, generator=self._noise, device=tile.device)
        return tiles

    def _with_planes(self, tile: torch.Tensor, corner: Corner, view: View) -> torch.Tensor:
        """The tile (c, z, y, x), with what the first network of a cascade found there as further channels."""
        if self._classes is None or self._window.previous is None:
            return tile
        table = self._window.previous.table(view.flips, self._window.dimensions).to(tile.device)
        classes = self._classes[self._window.region(corner)[1:]]
        planes = table.index_select(1, classes.flatten().int())  # a quarter of the time of indexing by the map
        return torch.cat((tile, planes.view(len(table), *classes.shape)))


def _add_turned_back(total: torch.Tensor, logits: torch.Tensor, view: View) -> None:
    """Add a view's logits (k, *spatial), flipped, to `total`, chunk by chunk along the first spatial axis."""
    length, is_turned = total.shape[1], 1 - total.ndim in view.flips
    for rows in _chunks(total):
        source = slice(length - rows.stop, length - rows.start) if is_turned else rows
        turned = logits[:, source].flip(view.flips)
        total[:, rows] += turned[list(view.classes)] if view.classes else turned


def _presence_turned_back(presence: torch.Tensor, view: View) -> torch.Tensor:
    """A view's presence (k - 1) of the foreground classes."""
    return presence[[index - 1 for index in view.classes[1:]]] if view.classes else presence


def _chunks(scores: torch.Tensor) -> Iterator[slice]:
    """Slices of the first spatial axis of scores (k, *spatial), each of a size to work on."""
    row_bytes = max(1, scores[:, 0].numel() * scores.element_size())
    rows = max(1, _CHUNK_BYTES.get(scores.device.type, 1 << 24) // row_bytes)
    return (slice(start, min(start + rows, scores.shape[1])) for start in range(0, scores.shape[1], rows))


def _even_batch(items: int, limit: int) -> int:
    """The batch size, at most `limit`, that makes no more batches and leaves the fewest empty places in the last."""
    return math.ceil(items / math.ceil(items / limit))


def _constant(tile: np.ndarray) -> Hashable:
    """The value of each channel of a tile (c, z, y, x) in which none varies, else None."""
    first = tile[:, :1, :1, :1]
    ends = tile[:, :: _stride(tile, 1), :: _stride(tile, 2), :: _stride(tile, 3)]
    if not (ends == first).all() or not (tile == first).all():
        return None
    return first.tobytes()


def _stride(tile: np.ndarray, axis: int) -> int:
    """A step that looks at a few voxels of an axis."""
    return max(1, tile.shape[axis] // 4)
