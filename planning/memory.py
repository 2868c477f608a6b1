"""What a network keeps of one patch, counted on its grid without building it, and bytes from it.

This is the scale on which patch and batch are planned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from planning import rules
from planning.counting import written_by_convolutions
from planning.layout import Layout, network_layers
from planning.network_row import NetworkRow


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

    Where the row counts convolutions alone: what these write, and the score maps, as `compute_conv_feature_map_size` of
    nnU-Net's networks without deep supervision does. Else half of all that is kept for the way back, concatenations and
    gates included: in nnU-Net's count, a convolution's value stands for two, its own and its activation's.
    """
    layers = network_layers(_layout(row, patch_size, strides, num_classes), training=True)
    if row.counts_convolutions_alone:
        skips = sum(layer.values for layer in layers if layer.kind == "skip")
        return written_by_convolutions(layers) + skips
    return math.ceil(sum(layer.kept * layer.values for layer in layers) / 2)


def _layout(row: NetworkRow, patch_size: Sequence[int], strides: Sequence[Sequence[int]], num_classes: int) -> Layout:
    """The layout of a row on a patch; kernels and the image's channels do not change what is written."""
    levels, dimensions = len(strides) + 1, len(patch_size)
    encoder, decoder = row.depths(levels)
    return Layout(
        row=row,
        patch_size=tuple(patch_size),
        features=row.features(levels, dimensions),
        strides=tuple(tuple(stride) for stride in strides),
        kernel_sizes=((rules.KERNEL_EDGE,) * dimensions,) * levels,
        encoder_convolutions=encoder,
        decoder_convolutions=decoder,
        heads=len(row.supervised(levels)) if row.counts_all_heads else 1,
        in_channels=1,
        num_classes=num_classes,
    )


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
