"""Labels on coarser grids: no way of getting there makes a class that was not there.

Everywhere: `target` (b, *spatial) of class indices, -1 = ignore, or (b, r, *spatial) of regions; `size` is the wanted
spatial shape. Cell i of n covers the voxels from floor(i · length / n) up to ceil((i + 1) · length / n) of an axis.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

Downscale = Callable[[torch.Tensor, tuple[int, ...], Sequence[int]], torch.Tensor]


def nearest_labels(target: torch.Tensor, size: tuple[int, ...], _class_order: Sequence[int] = ()) -> torch.Tensor:
    """Each cell's label nearest its centre, the lower one of a tie."""
    for axis, length, wanted in _axes(target, size):
        if length != wanted:
            steps = torch.arange(wanted, device=target.device)
            target = target.index_select(axis, ((2 * steps + 1) * length - 1) // (2 * wanted))
    return target


def max_pooled_labels(target: torch.Tensor, size: tuple[int, ...], class_order: Sequence[int]) -> torch.Tensor:
    """The first class of `class_order` (foreground, the rarest first) that a cell has a voxel of.

    Equal to pooling the one-hot classes and asking them in that order; plain max-pooling of a binary mask. A cell
    without foreground is ignored where any voxel of it is, as one of them may be foreground; else background.
    """
    return _max_pooled(target, size, (*class_order, -1, 0))


def max_pooled_known_labels(target: torch.Tensor, size: tuple[int, ...], class_order: Sequence[int]) -> torch.Tensor:
    """The same of each cell's voxels that are not ignored; ignored where all are.

    For labels of which a part is annotated: were cells of background and ignored voxels ignored, foreground would be
    all that a coarse grid learns between annotated slices.
    """
    return _max_pooled(target, size, (*class_order, 0, -1))


def _max_pooled(target: torch.Tensor, size: tuple[int, ...], order: tuple[int, ...]) -> torch.Tensor:
    """The first label of `order`, which has all, that a cell has a voxel of."""
    ranks, by_rank = _rank_tables(order, target.device)
    pooled = ranks[target.long() + 1]
    for axis, length, wanted in _axes(target, size):
        if length != wanted:
            pooled = _windows(pooled, axis, length, wanted).amax(axis + 1)
    return by_rank[pooled.long()].to(target.dtype)


@functools.lru_cache(maxsize=32)
def _rank_tables(order: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The rank of each label + 1, and the label of each rank; kept, so that a GPU is not waited for every step."""
    by_rank = torch.tensor(order[::-1])
    ranks = torch.zeros(int(by_rank.max()) + 2, dtype=torch.int16)
    ranks[by_rank + 1] = torch.arange(len(by_rank), dtype=torch.int16)
    return ranks.to(device), by_rank.to(device)


def largest_labels(target: torch.Tensor, size: tuple[int, ...], class_order: Sequence[int]) -> torch.Tensor:
    """The class that covers the largest part of a cell; of equal parts the first of `class_order`, then background.

    What is ignored is a candidate like a class, the last one. One class is averaged at a time.
    """
    candidates = (*class_order, 0, -1)
    best = _covered(target, size, candidates[0])
    labels = torch.full_like(best, candidates[0], dtype=target.dtype)
    for label in candidates[1:]:
        share = _covered(target, size, label)
        labels = labels.masked_fill(share > best, label)
        best = torch.maximum(best, share)
    return labels


def _covered(target: torch.Tensor, size: tuple[int, ...], label: int) -> torch.Tensor:
    """The share (…, *size) of each cell's voxels that have this label."""
    leading = target.shape[: target.ndim - len(size)]
    plane = (target == label).float().reshape(-1, 1, *target.shape[len(leading) :])
    return F.interpolate(plane, size, mode="area").reshape(*leading, *size)


def _axes(target: torch.Tensor, size: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """The index of each spatial axis, its length and the wanted one."""
    first = target.ndim - len(size)
    return [(first + axis, target.shape[first + axis], wanted) for axis, wanted in enumerate(size)]


def _windows(target: torch.Tensor, axis: int, length: int, wanted: int) -> torch.Tensor:
    """`target` with `axis` as (cells, voxels of a cell); a shorter cell repeats its last voxel."""
    if length % wanted == 0:
        return target.unflatten(axis, (wanted, length // wanted))
    cells = torch.arange(wanted, device=target.device)
    starts, ends = cells * length // wanted, ((cells + 1) * length + wanted - 1) // wanted
    widest = -(-length // wanted) + 1
    voxels = torch.minimum(starts[:, None] + torch.arange(widest, device=target.device), ends[:, None] - 1)
    return target.index_select(axis, voxels.flatten()).unflatten(axis, voxels.shape)


DOWNSCALES: dict[str, Downscale] = {
    "nearest": nearest_labels,
    "max_pool": max_pooled_labels,
    "max_pool_known": max_pooled_known_labels,
    "area": largest_labels,
}
# Where a part of the labels is ignored on purpose: the row that learns as much background as foreground of the rest.
OF_SPARSE_LABELS = {"max_pool": "max_pool_known"}


def downscale_target(
    target: torch.Tensor, size: tuple[int, ...], mode: str = "nearest", class_order: Sequence[int] | None = None
) -> torch.Tensor:
    """`target` on a grid of `size`, itself where that is its own; `mode` names a row of `DOWNSCALES`.

    `class_order` has every foreground class, the rarest first; None takes the higher index for the rarer class
    (looking for the highest one, which waits for a GPU). Background in it is passed over: it always comes last.
    """
    if tuple(target.shape[target.ndim - len(size) :]) == tuple(size):
        return target
    if mode == "nearest":
        return nearest_labels(target, size)
    order = range(int(target.max()), 0, -1) if class_order is None else class_order
    return DOWNSCALES[mode](target, size, [label for label in order if label > 0])


def rarest_first(class_weights: Sequence[float]) -> tuple[int, ...]:
    """The foreground classes by falling weight, the higher index first among equals: an order for ties."""
    return tuple(sorted(range(1, len(class_weights)), key=lambda label: (-class_weights[label], -label)))
