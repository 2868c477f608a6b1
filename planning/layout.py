"""From a configuration to the list of its network's layers, by the walk over the grid that the built network takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from planning.block_layers import BLOCKS, Block
from planning.edge_layers import UPS, max_pool
from planning.encoder_layers import DOWN_TO_STAGE, STAGES
from planning.encoders import stage
from planning.grids import Node
from planning.layers import Layer, Shape, Unit, unit_layers
from planning.network_row import NetworkRow
from planning.plan import Configuration
from planning.point_counts import level_points
from planning.rules import KERNEL_EDGE
from planning.side_layers import (
    GATE_WIDTHS,
    GUIDES,
    HEADS,
    RENDERED,
    Guide,
    Head,
    Rendering,
    attention_gate,
    renderer,
)

_LEVELS_WITH_DROPOUT = 2
_LEVELS_WITH_DEEP_GUIDES = 2


@dataclass(frozen=True)
class Layout:
    """What the layers of a network follow from; fields as in `Configuration`, `heads` of the row's are supervised."""

    row: NetworkRow
    patch_size: Shape
    features: tuple[int, ...]
    strides: tuple[Shape, ...]
    kernel_sizes: tuple[Shape, ...]
    encoder_convolutions: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]
    heads: int
    in_channels: int
    num_classes: int

    @property
    def levels(self) -> int:
        return len(self.features)

    @property
    def supervised(self) -> tuple[Node, ...]:
        """The nodes with a head."""
        return self.row.supervised(self.levels)[: self.heads]

    @property
    def guided(self) -> tuple[Node, ...]:
        """The nodes that decide which classes are present."""
        bottleneck = Node(self.levels - 1, 0)
        return {"none": (), "branches": self.supervised, "bottleneck": (bottleneck,)}[self.row.guidance]

    def width(self, node: Node) -> int:
        """Channels that a node writes."""
        return self.row.node_features(self.features, node)

    def stage(self, node: Node) -> int | None:
        """The stage of an encoder of the literature that stands at a node, None where a block does."""
        return None if node.column else stage(self.row.encoder, node.level)

    def takes_image(self, node: Node) -> bool:
        """Whether a node's block sees the image and not what its sources bring."""
        return node == Node(0, 0) or self.stage(node) == 0

    def down(self, level: int) -> str:
        """How the encoder's node of a level is reached from the one above it."""
        return self.row.down if self.stage(Node(level, 0)) is None else DOWN_TO_STAGE[self.row.encoder]

    def factor(self, finer: int, coarser: int) -> Shape:
        """The product, on each axis, of the strides between two levels."""
        strides = self.strides[finer:coarser]
        return tuple(math.prod(stride[axis] for stride in strides) for axis in range(len(self.patch_size)))

    def unit(self, node: Node) -> Unit:
        """A convolution on a node's level, as wide as the level."""
        row, ones = self.row, (1,) * len(self.patch_size)
        kernel = self.kernel_sizes[node.level + (row.decoder_kernel_level if node.column else 0)]
        if not node.column:
            kernel = tuple(row.encoder_kernel_edge if edge == KERNEL_EDGE else edge for edge in kernel)
        width = self.features[node.level]
        activation = row.activation if node.column else row.encoder_activation
        return Unit(width, width, kernel, ones, row.convolution_bias, row.norm, activation)


def layout_of(configuration: Configuration, in_channels: int, num_classes: int) -> Layout:
    """The layout of a configuration's network."""
    return Layout(
        row=configuration.row,
        patch_size=configuration.patch_size,
        features=configuration.features,
        strides=configuration.strides,
        kernel_sizes=configuration.kernel_sizes,
        encoder_convolutions=configuration.encoder_convolutions,
        decoder_convolutions=configuration.decoder_convolutions,
        heads=len(configuration.supervision_weights),
        in_channels=in_channels,
        num_classes=num_classes,
    )


@dataclass(frozen=True)
class _Arrived:
    """What reaches a node over one edge."""

    channels: int
    shape: Shape


class Walk:
    """Goes over the grid once and gathers the layers; `training` says how many points are rendered."""

    def __init__(self, layout: Layout, training: bool):
        self.layout, self.training = layout, training
        self.layers: list[Layer] = []
        self._written: dict[Node, Layer] = {}
        grid = layout.row.build_grid(layout.levels)
        for node in grid.needed(layout.supervised):
            self._visit(node, grid.sources[node])
        for node in layout.supervised:
            self._head(node)
        for node in layout.guided:
            self._guide(node)

    def _visit(self, node: Node, sources: tuple[Node, ...]) -> None:
        if self.layout.takes_image(node):
            sources = ()
        arrived = [self._edge(source, node) for source in sources]
        below = next((index for index, source in enumerate(sources) if source.level > node.level), None)
        gated = [source.level == node.level for source in sources]
        row = self.layout.row
        if row.points != "none" and node.column and below is not None:
            arrived.append(self._rendered(node, sources[below], arrived[below]))
            gated.append(True)
        if row.gate != "none" and node.column and below is not None:
            names = [*sources, None]
            for index, one in enumerate(arrived):
                if gated[index]:
                    self._gate(names[index], node, one, arrived[below])
        self._block(node, arrived)

    def _edge(self, source: Node, target: Node) -> _Arrived:
        """The layers of one edge, and what it brings."""
        layout, row, before = self.layout, self.layout.row, self._written[source]
        name = _edge_name(source, target, row.up_shared)
        arrived = _Arrived(layout.width(source), before.shape)
        unit = layout.unit(target).but(in_channels=layout.width(source), bias=row.up_bias)
        layers: list[Layer] = []
        if source.level > target.level:
            factor = layout.factor(target.level, source.level)
            layers = UPS[row.up](name, unit, factor, self._written[Node(target.level, 0)].shape)
            keeps = row.gate != "none" or row.unified
            layers[-1] = layers[-1].keeping(max(int(keeps), layers[-1].kept))
        elif source.level < target.level and (target.column or layout.down(target.level) == "max_pool"):
            layers = max_pool(name, arrived.channels, layout.factor(source.level, target.level), before.shape)
            keeps = not target.column or row.unified
            layers[-1] = layers[-1].keeping(layers[-1].kept + int(keeps))
        if layers:
            arrived = _Arrived(layers[-1].channels, layers[-1].shape)
        if row.unified and target.column:
            width = layout.features[0]
            narrowed = unit.but(in_channels=arrived.channels, out_channels=width, bias=row.convolution_bias)
            layers += unit_layers(f"{name}.unified", narrowed, arrived.shape)
            arrived = _Arrived(width, layers[-1].shape)
        self.layers += layers
        return arrived

    def _gate(self, source: Node | None, node: Node, feature: _Arrived, signal: _Arrived) -> None:
        row = self.layout.row
        name = {
            "node": _name(node),
            "source": _name(source) if source else f"rendered_{_name(node)}",
            "skip": f"{_name(source) if source else 'rendered'}_{_name(node)}",
        }[row.gate_per]
        width = GATE_WIDTHS[row.gate_width](self.layout.features[node.level])
        self.layers += attention_gate(
            f"gates.{name}", feature.channels, signal.channels, width, row.norm, feature.shape
        )

    def _rendered(self, node: Node, below: Node, upsampled: _Arrived) -> _Arrived:
        layout = self.layout
        shape = upsampled.shape
        rendering = Rendering(
            encoder=layout.width(Node(node.level, 0)),
            upsampled=upsampled.channels,
            deeper=layout.width(below),
            width=layout.features[node.level],
            num_classes=layout.num_classes,
            points=self._points(node, shape),
        )
        channels = RENDERED[layout.row.points](rendering)
        name = f"renderers.{_name(node)}"
        self.layers += renderer(name, rendering, channels, self._written[below].shape, shape)
        return _Arrived(channels, shape)

    def _points(self, node: Node, shape: Shape) -> int:
        layout, dimensions = self.layout, len(shape)
        cells_per_cell = math.prod(layout.factor(0, node.level))
        return level_points(layout.row.point_count, math.prod(shape), cells_per_cell, dimensions, self.training)

    def _block(self, node: Node, arrived: list[_Arrived]) -> None:
        """The concatenation and the block of one node."""
        layout, row, level = self.layout, self.layout.row, node.level
        channels, shape = sum(one.channels for one in arrived), (arrived[-1].shape if arrived else layout.patch_size)
        name = f"nodes.{_name(node)}"
        if len(arrived) > 1:
            self.layers.append(Layer(f"{name}.concatenation", "concatenation", channels, shape, kept=1))
        strided = level > 0 and not node.column and layout.down(level) == "strided"
        unit = layout.unit(node).but(
            in_channels=channels or layout.in_channels,
            out_channels=layout.width(node),
            stride=layout.factor(level - 1 if strided else level, level),
        )
        kind, depths = (
            (row.decoder_block, layout.decoder_convolutions)
            if node.column
            else (row.encoder_block, layout.encoder_convolutions)
        )
        deep = level >= layout.levels - _LEVELS_WITH_DROPOUT and not node.column
        block = Block(unit, depths[level], is_input=not arrived, dropout=deep and row.dropout > 0)
        index = layout.stage(node)
        if index is None:
            self.layers += BLOCKS[kind](name, block, shape)
        else:
            self.layers += STAGES[row.encoder](name, index, block, shape)
        self._written[node] = self.layers[-1]

    def _head(self, node: Node) -> None:
        layout, row = self.layout, self.layout.row
        head = Head(
            in_channels=layout.width(node),
            num_classes=layout.num_classes,
            kernel=row.low_head_kernel if node.level else row.head_kernel,
            bias=row.head_bias,
            level_kernel=layout.kernel_sizes[node.level],
        )
        self.layers += HEADS[row.head](f"heads.{_name(node)}", head, self._written[node].shape)

    def _guide(self, node: Node) -> None:
        layout = self.layout
        is_deep = node.level >= max(1, layout.levels - _LEVELS_WITH_DEEP_GUIDES)
        guide = Guide(layout.width(node), layout.num_classes - 1, is_deep)
        self.layers += GUIDES[layout.row.guidance](f"guides.{_name(node)}", guide, self._written[node].shape)


def _name(node: Node) -> str:
    return f"{node.level}_{node.column}"


def _edge_name(source: Node, target: Node, shared: bool) -> str:
    if shared and source.level > target.level:
        return f"edges.{source.level}_to_{target.level}"
    return f"edges.{_name(source)}_to_{_name(target)}"


def network_layers(layout: Layout, training: bool = False) -> list[Layer]:
    """The layers of a network, in the order in which it computes them, its heads last.

    Features are counted as with padding: a network without it sees its patch enlarged by the margins that it loses.
    """
    return Walk(layout, training).layers
