"""What stands at each place of a network's grid: widths, kernels and strides, from a row and a plan's numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from planning.encoders import stage
from planning.grids import Node
from planning.network_row import NetworkRow
from planning.part_rules import DOWN_TO_STAGE, GATE_WIDTHS, LEVELS_WITH_DROPOUT
from planning.plan import Configuration
from planning.recording.blocks import Block
from planning.recording.edges import Edge
from planning.recording.points import RenderingPlace
from planning.recording.units import Unit
from planning.rules import KERNEL_EDGE

_DEEP_LEVELS: Final = 2


@dataclass(frozen=True)
class Layout:
    """What the parts of a network follow from; fields as in `Configuration`, `heads` of the row's are supervised.

    The twin of `msseg.networks`' `Parts`. A network without padding sees its patch enlarged by the margins that it
    loses, and is taken as one with it.
    """

    row: NetworkRow
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    encoder_convolutions: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]
    heads: int
    num_classes: int

    @property
    def levels(self) -> int:
        return len(self.features)

    @property
    def dimensions(self) -> int:
        return len(self.kernel_sizes[0])

    @property
    def supervised(self) -> tuple[Node, ...]:
        """The nodes with a head."""
        return self.row.supervised(self.levels)[: self.heads]

    @property
    def guided(self) -> tuple[Node, ...]:
        """The nodes that decide which classes are present."""
        bottleneck = Node(self.levels - 1, 0)
        return {"none": (), "branches": self.supervised, "bottleneck": (bottleneck,)}[self.row.guidance]

    def has_deep_guide(self, node: Node) -> bool:
        """Whether a node stands on the two deepest levels, full resolution apart."""
        return node.level >= max(1, self.levels - _DEEP_LEVELS)

    def stage(self, node: Node) -> int | None:
        """The stage of an encoder of the literature that stands at a node, None where a block does."""
        return None if node.column else stage(self.row.encoder, node.level)

    def takes_image(self, node: Node) -> bool:
        """Whether a node's block sees the image and not what its sources bring."""
        return node == Node(0, 0) or self.stage(node) == 0

    def pools(self, target: Node) -> bool:
        """Whether what comes from a finer level is pooled; else the target's first convolution is strided."""
        if target.column:
            return True
        down = self.row.down if self.stage(target) is None else DOWN_TO_STAGE[self.row.encoder]
        return down == "max_pool"

    def block(self, node: Node, is_input: bool) -> Block:
        """A node's block; of a stage of an encoder, its unit and its dropout."""
        row, level, deepest = self.row, node.level, self.levels - LEVELS_WITH_DROPOUT
        stride = self.factor(level if self.pools(node) else level - 1, level) if level else self.factor(0, 0)
        unit = replace(self.unit(node), stride=stride, channels=row.node_features(self.features, node))
        depths = self.decoder_convolutions if node.column else self.encoder_convolutions
        return Block(unit, depths[level], is_input, row.dropout if level >= deepest and not node.column else 0.0)

    def edge(self, source: Node, target: Node, size: tuple[int, ...]) -> Edge:
        """An edge up to its target's grid of that size."""
        return Edge(replace(self.unit(target), bias=self.row.up_bias), self.factor(target.level, source.level), size)

    def edge_name(self, source: Node, target: Node) -> str:
        """Edges of one name share their weights."""
        shared = self.row.up_shared and source.level > target.level
        return f"up {source.level} {target.level}" if shared else f"{source} {target}"

    def head(self, node: Node) -> Unit:
        """The convolution from a node's features to classes."""
        row, ones = self.row, (1,) * self.dimensions
        kernel = (row.low_head_kernel if node.level else row.head_kernel,) * self.dimensions
        return Unit(self.num_classes, kernel, ones, row.head_bias, "none", "relu", self._padding)

    def gate_name(self, source: Node | None, node: Node) -> str | None:
        """The gate on a source (None: the rendered features) of a decoder node; None where there is none."""
        row = self.row
        if row.gate == "none" or not node.column or (source is not None and source.level != node.level):
            return None
        names = {"node": f"{node}.gate", "source": f"{source}.gate", "skip": f"{source} {node} gate"}
        return names[row.gate_per if source is not None or row.gate_per == "node" else "skip"]

    def gate_width(self, node: Node) -> int:
        """Channels inside the gates of a node."""
        return GATE_WIDTHS[self.row.gate_width](self.features[node.level])

    def rendering(self, node: Node, training: bool) -> RenderingPlace:
        """Where a node's renderer stands."""
        cells = math.prod(self.factor(0, node.level))
        return RenderingPlace(self.features[node.level], self.num_classes, cells, training)

    def unit(self, node: Node) -> Unit:
        """A convolution on a node's level, as wide as the level and as the row's encoder or decoder has it."""
        row, ones = self.row, (1,) * self.dimensions
        kernel = self.kernel_sizes[node.level + (row.decoder_kernel_level if node.column else 0)]
        if not node.column:
            kernel = tuple(row.encoder_kernel_edge if edge == KERNEL_EDGE else edge for edge in kernel)
        activation = row.activation if node.column else row.encoder_activation
        return Unit(self.features[node.level], kernel, ones, row.convolution_bias, row.norm, activation, self._padding)

    @property
    def _padding(self) -> str:
        return "zeros" if self.row.padding == "valid" else self.row.padding

    def factor(self, finer: int, coarser: int) -> tuple[int, ...]:
        """The product, on each axis, of the strides between two levels."""
        strides = self.strides[finer:coarser]
        return tuple(math.prod(stride[axis] for stride in strides) for axis in range(self.dimensions))


def layout_of(configuration: Configuration, num_classes: int) -> Layout:
    """The layout of a configuration's network."""
    return Layout(
        row=configuration.row,
        features=configuration.features,
        strides=configuration.strides,
        kernel_sizes=configuration.kernel_sizes,
        encoder_convolutions=configuration.encoder_convolutions,
        decoder_convolutions=configuration.decoder_convolutions,
        heads=len(configuration.supervision_weights),
        num_classes=num_classes,
    )


def layout_of_row(row: NetworkRow, strides: Sequence[Sequence[int]], heads: int, num_classes: int) -> Layout:
    """The layout of a row that is not planned yet: of its own widths and depths, with kernels that span all axes."""
    levels, dimensions = len(strides) + 1, len(strides[0])
    encoder, decoder = row.depths(levels)
    return Layout(
        row=row,
        features=row.features(levels, dimensions),
        strides=tuple(tuple(stride) for stride in strides),
        kernel_sizes=((KERNEL_EDGE,) * dimensions,) * levels,
        encoder_convolutions=encoder,
        decoder_convolutions=decoder,
        heads=heads,
        num_classes=num_classes,
    )
