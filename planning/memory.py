"""What a network keeps of one patch, counted without building it, and bytes from it.

This is the scale on which patch and batch are planned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from planning import rules
from planning.counting import CONVOLUTIONS, values_written
from planning.network_row import NetworkRow
from planning.recording.layout import layout_of_row
from planning.recording.network import Recorder
from planning.recording.tape import Tape

_HALF_BYTES = 2


def level_shapes(patch_size: Sequence[int], strides: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """The spatial shape of every level of a patch, full resolution first."""
    shapes = [tuple(patch_size)]
    for stride in strides:
        shapes.append(tuple(edge // step for edge, step in zip(shapes[-1], stride, strict=True)))
    return shapes


def feature_voxels(
    row: NetworkRow, patch_size: Sequence[int], strides: Sequence[Sequence[int]], num_classes: int
) -> int:
    """Channel values of one patch that `row` is sized by.

    Where the row counts convolutions alone: what these write, the score maps, and ways past a block that are pooled and
    nothing else, as `compute_conv_feature_map_size` of nnU-Net's networks without deep supervision does. Else half of
    all that a training step in half precision holds before its way back, from an image of one channel on: in nnU-Net's
    count, a convolution's value stands for two, its own and its activation's.
    """
    return _feature_voxels(row, tuple(patch_size), tuple(tuple(stride) for stride in strides), num_classes)


@lru_cache(maxsize=1024)  # Sizing asks for most patches several times, and for each of them records a whole network.
def _feature_voxels(
    row: NetworkRow, patch_size: tuple[int, ...], strides: tuple[tuple[int, ...], ...], num_classes: int
) -> int:
    tape = Tape(batch=1, value_bytes=_HALF_BYTES)
    heads = len(row.supervised(len(strides) + 1)) if row.counts_all_heads else 1
    image = tape.leaf(1, patch_size)
    # Named, since what the meter reads below is what something still refers to.
    _outputs = Recorder(tape, layout_of_row(row, strides, heads, num_classes)).forward(image)
    if row.counts_convolutions_alone:
        return values_written(tape, (*CONVOLUTIONS, "skip"))
    return math.ceil(tape.meter.now / (2 * _HALF_BYTES))


def training_bytes(voxels: int, batch_size: int, dimensions: int, row: NetworkRow | None = None) -> int:
    """Bytes that training takes with `voxels` channel values a sample, by the row's reference (None: plain U-Net's)."""
    memory, reference = _reference(row, dimensions)
    return round(memory * voxels * batch_size / (reference * rules.REFERENCE_BATCH[dimensions]))


def reference_voxels(memory_bytes: int, dimensions: int, row: NetworkRow | None = None) -> float:
    """Channel values a sample that fit `memory_bytes` at the reference batch."""
    memory, reference = _reference(row, dimensions)
    return reference * (memory_bytes / memory)


def _reference(row: NetworkRow | None, dimensions: int) -> tuple[int, int]:
    """Bytes, and the channel values a sample that fit them at the reference batch."""
    if row is None:
        return rules.REFERENCE_MEMORY_BYTES, rules.REFERENCE_FEATURE_VOXELS[dimensions]
    voxels = row.reference_voxels or rules.REFERENCE_FEATURE_VOXELS
    return row.reference_memory_bytes, voxels[dimensions]
