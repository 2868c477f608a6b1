"""Parameters and feature-map voxels of a network, counted on its grid without building it, and bytes from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from planning import rules
from planning.grids import Grid, Node
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
    """Channel values that the convolutions of `row` write for one patch: blocks, upsampling and score maps.

    For `plain_unet` this equals `compute_conv_feature_map_size` of nnU-Net's network without deep supervision.
    """
    voxels = [math.prod(shape) for shape in level_shapes(patch_size, strides)]
    features = row.features(len(voxels), len(patch_size))
    grid = row.build_grid(len(voxels))
    total = 0
    for node in grid.sources:
        written = _convolutions(row, node, len(voxels)) * features[node.level]
        written += sum(_channels(row, features, node, source) for source in _coarser(grid, node))
        total += written * voxels[node.level]
    heads = row.supervised(len(voxels))[: None if row.counts_all_heads else 1]
    return total + num_classes * sum(voxels[head.level] for head in heads)


def _convolutions(row: NetworkRow, node: Node, levels: int) -> int:
    encoder, decoder = row.depths(levels)
    return decoder[node.level] if node.column else encoder[node.level]


def _coarser(grid: Grid, node: Node) -> list[Node]:
    return [source for source in grid.sources[node] if source.level > node.level]


def _channels(row: NetworkRow, features: Sequence[int], node: Node, source: Node) -> int:
    """Channels of `source` where `node` concatenates it: a transposed convolution gives the node's own number."""
    transposed = row.up == "transposed" and source.level > node.level
    return features[node.level if transposed else source.level]


def training_bytes(voxels: int, batch_size: int, dimensions: int) -> int:
    """Memory in bytes that training takes with `voxels` channel values a sample, by the reference of `rules`."""
    reference = rules.REFERENCE_FEATURE_VOXELS[dimensions] * rules.REFERENCE_BATCH[dimensions]
    return round(rules.REFERENCE_MEMORY_BYTES * voxels * batch_size / reference)


def reference_voxels(memory_bytes: int, dimensions: int) -> float:
    """Channel values a sample that fit `memory_bytes` at the reference batch."""
    return rules.REFERENCE_FEATURE_VOXELS[dimensions] * (memory_bytes / rules.REFERENCE_MEMORY_BYTES)


def parameters(
    row: NetworkRow,
    strides: Sequence[Sequence[int]],
    kernel_sizes: Sequence[Sequence[int]],
    in_channels: int,
    num_classes: int,
) -> int:
    """The number of trainable parameters: convolutions with their norms (two a channel), upsampling and heads."""
    levels = len(kernel_sizes)
    features = row.features(levels, len(kernel_sizes[0]))
    grid = row.build_grid(levels)
    total = 0
    for node in grid.sources:
        total += _block_parameters(row, grid, node, features, kernel_sizes, in_channels)
        total += _up_parameters(row, grid, node, features, strides)
    head_edges = row.head_kernel ** len(kernel_sizes[0])
    return total + sum(
        num_classes * (features[head.level] * head_edges + row.head_bias) for head in row.supervised(levels)
    )


def _block_parameters(
    row: NetworkRow,
    grid: Grid,
    node: Node,
    features: Sequence[int],
    kernel_sizes: Sequence[Sequence[int]],
    in_channels: int,
) -> int:
    width = features[node.level]
    incoming = sum(_channels(row, features, node, source) for source in grid.sources[node]) or in_channels
    kernel = kernel_sizes[node.level + (row.decoder_kernel_level if node.column else 0)]
    edges = math.prod(kernel)
    first = width * (incoming * edges + row.convolution_bias + 2)
    later = width * (width * edges + row.convolution_bias + 2)
    return first + (_convolutions(row, node, len(kernel_sizes)) - 1) * later


def _up_parameters(
    row: NetworkRow, grid: Grid, node: Node, features: Sequence[int], strides: Sequence[Sequence[int]]
) -> int:
    if row.up != "transposed":
        return 0
    total = 0
    for source in _coarser(grid, node):
        factor = math.prod(math.prod(stride) for stride in strides[node.level : source.level])
        total += features[node.level] * (features[source.level] * factor + row.up_bias)
    return total
