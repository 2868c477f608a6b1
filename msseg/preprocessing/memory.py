"""What preparing a case takes of memory, from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msseg.preprocessing.slabwise import CHUNK_VOXELS

_SINGLE_BYTES = 4
_STORED_BYTES = 2  # of a voxel in the file: CT and most MR
_LABEL_BYTES = 1
_COMPONENT_BYTES = 4
_WAITING_SLICES = 64  # that a block of rows reaches on the first axis
_CHUNK_COPIES = 3  # slices of both grids
_VOTE_BYTES = 8 << 20  # votes and indices of a slab


def preparation_bytes(
    shape: Sequence[int],
    channels: int,
    has_label: bool,
    new_shape: Sequence[int],
    chunk_voxels: int = CHUNK_VOXELS,
) -> int:
    """The most bytes that one worker takes for a case beside its libraries: read, examined, prepared.

    `shape` is the file's, `new_shape` the network's, both (z, y, x) in plan order. A mask of non-zero voxels, where
    the plan normalises inside one, comes on top. `chunk_voxels` are resampled at a time, a slice at the least.
    """
    voxels, new_voxels = math.prod(shape), math.prod(new_shape)
    image, label = _SINGLE_BYTES * channels * voxels, _LABEL_BYTES * voxels * has_label
    reading = image + _STORED_BYTES * voxels
    examining = image + label + has_label * _COMPONENT_BYTES * voxels
    new_label = _LABEL_BYTES * new_voxels * has_label
    preparing = image + label + new_label + _SINGLE_BYTES * channels * new_voxels + _waiting_bytes(shape, new_shape)
    slab = _SINGLE_BYTES * max(chunk_voxels, math.prod(shape[1:]), math.prod(new_shape[1:]))
    return max(reading, examining, preparing) + _CHUNK_COPIES * slab + _VOTE_BYTES


def _waiting_bytes(shape: Sequence[int], new_shape: Sequence[int]) -> int:
    """Slices that wait for a block of the first axis, or all of them; none where no slice depends on another."""
    if shape[0] == new_shape[0]:
        return 0
    plane = min(math.prod(shape[1:]), math.prod(new_shape[1:])) if new_shape[0] < shape[0] else math.prod(new_shape[1:])
    return _SINGLE_BYTES * plane * min(_WAITING_SLICES, shape[0])
