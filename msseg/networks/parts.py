"""From a network's row and a plan's configuration to the module at each place of the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from msseg.networks.blocks import BLOCKS, BlockShape
from msseg.networks.edges import DOWNS, UPS, Edge, EdgeShape, MaxPool, Same, Unified
from msseg.networks.encoders import STAGES, StageShape
from msseg.networks.gates import GATES, GateShape
from msseg.networks.guidance import GUIDES, GuideShape
from msseg.networks.heads import HEADS, HeadShape
from msseg.networks.names import gate_name
from msseg.networks.points import RENDERERS, RendererShape, refuse_shared_gate, rendering_source
from msseg.networks.units import UnitShape
from planning.encoders import stage
from planning.grids import Node
from planning.network_row import NetworkRow
from planning.part_rules import DOWN_TO_STAGE, GATE_WIDTHS, LEVELS_WITH_DROPOUT
from planning.plan import Configuration
from planning.rules import KERNEL_EDGE


@dataclass(frozen=True)
class Parts:
    """Makes the modules of one network; a name it does not know is an error of the table (`CHOICES`)."""

    row: NetworkRow
    configuration: Configuration
    in_channels: int
    num_classes: int

    def edge(self, source: Node, target: Node) -> Edge:
        """What brings a source's features to its target's grid."""
        row, finer, coarser = self.row, *sorted((source.level, target.level))
        unit = self._unit(target).but(in_channels=self._features(source), bias=row.up_bias)
        shape = EdgeShape(unit, self._factor(finer, coarser))
        if source.level > target.level:
            edge = UPS[row.up](shape)
        elif source.level == target.level:
            edge = Same(shape)
        else:
            edge = MaxPool(shape) if target.column else DOWNS[self._down(target)](shape)
        if row.unified and target.column:
            width = self.configuration.features[0]
            return Unified(edge, unit.but(out_channels=width, bias=row.convolution_bias))
        return edge

    def block(self, node: Node, channels: int) -> nn.Module:
        """The convolutions of a node that `channels` channels arrive at; 0 at the first one, which takes the image."""
        row, configuration, level = self.row, self.configuration, node.level
        if node.column:
            kind, depths = row.decoder_block, configuration.decoder_convolutions
        else:
            kind, depths = row.encoder_block, configuration.encoder_convolutions
        strided = level > 0 and not node.column and self._down(node) == "strided"
        unit = self._unit(node).but(
            in_channels=channels or self.in_channels,
            out_channels=self._features(node),
            stride=self._factor(level - 1 if strided else level, level),
        )
        index = self._stage(node)
        if index is not None:
            return STAGES[row.encoder](StageShape(index, unit, self._dropout(node)))
        return BLOCKS[kind](BlockShape(unit, depths[level], is_input=not channels, dropout=self._dropout(node)))

    def takes_image(self, node: Node) -> bool:
        """Whether a node's block sees the image and not what its sources bring."""
        return node == Node(0, 0) or self._stage(node) == 0

    def head(self, node: Node) -> nn.Module:
        """What turns a node's features into logits."""
        return HEADS[self.row.head](
            HeadShape(
                dimensions=self.configuration.dimensions,
                in_channels=self._features(node),
                num_classes=self.num_classes,
                kernel=self.row.low_head_kernel if node.level else self.row.head_kernel,
                bias=self.row.head_bias,
                level_kernel=self.configuration.kernel_sizes[node.level],
                padding=self.row.padding,
            )
        )

    def gate_name(self, source: Node | None, node: Node) -> str | None:
        """The name of the gate on a source (None: the rendered features) of a node; None where there is none."""
        same_level = source is None or source.level == node.level
        if self.row.gate == "none" or not node.column or not same_level:
            return None
        return gate_name(source, node, self.row.gate_per)

    def gate(self, node: Node, feature_channels: int, signal_channels: int) -> nn.Module:
        """The gate of what arrives at a node from its own level."""
        width = GATE_WIDTHS[self.row.gate_width](self.configuration.features[node.level])
        return GATES[self.row.gate](
            GateShape(self.configuration.dimensions, feature_channels, signal_channels, width, self.row.norm)
        )

    def guided(self, supervised: Sequence[Node]) -> tuple[Node, ...]:
        """The nodes that decide which classes are present."""
        bottleneck = Node(len(self.configuration.features) - 1, 0)
        return {"none": (), "branches": tuple(supervised), "bottleneck": (bottleneck,)}[self.row.guidance]

    def guide(self, node: Node) -> nn.Module:
        """What decides which classes are present, from a node's features.

        A node of full resolution counts as shallow on any grid, so that a pruned network keeps its guides.
        """
        deepest = len(self.configuration.features) - 1
        return GUIDES[self.row.guidance](
            GuideShape(
                dimensions=self.configuration.dimensions,
                in_channels=self._features(node),
                num_foreground=self.num_classes - 1,
                is_deep=node.level >= max(1, deepest - 1),
            )
        )

    def is_rendered(self, node: Node) -> bool:
        """Whether the node refines features at chosen points."""
        return self.row.points != "none" and node.column > 0

    def renderer(self, node: Node) -> nn.Module:
        """What refines a node's features at chosen points; PlanError where the grid does not bring what it needs."""
        configuration, encoder = self.configuration, Node(node.level, 0)
        below = rendering_source(self.row, node, len(configuration.features))
        with torch.device("meta"):
            arriving, upsampled = (self.edge(source, node).out_channels for source in (encoder, below))
        renderer = RENDERERS[self.row.points](
            RendererShape(
                dimensions=configuration.dimensions,
                encoder_channels=self._features(encoder),
                upsampled_channels=upsampled,
                deeper_channels=self._features(below),
                width=configuration.features[node.level],
                num_classes=self.num_classes,
                cells_per_cell=math.prod(self._factor(0, node.level)),
                point_count=self.row.point_count,
            )
        )
        refuse_shared_gate(self.row, renderer.out_channels, arriving)
        return renderer

    def _unit(self, node: Node) -> UnitShape:
        """A convolution on a node's level, as wide as the level and as the row's encoder or decoder has it."""
        row, configuration = self.row, self.configuration
        kernel = configuration.kernel_sizes[node.level + (row.decoder_kernel_level if node.column else 0)]
        if not node.column:
            kernel = tuple(row.encoder_kernel_edge if edge == KERNEL_EDGE else edge for edge in kernel)
        return UnitShape(
            dimensions=configuration.dimensions,
            in_channels=configuration.features[node.level],
            out_channels=configuration.features[node.level],
            kernel_size=kernel,
            stride=(1,) * configuration.dimensions,
            bias=row.convolution_bias,
            norm=row.norm,
            activation=row.activation if node.column else row.encoder_activation,
            padding=row.padding,
        )

    def _stage(self, node: Node) -> int | None:
        """The stage of another encoder that stands at a node; None where the row's own blocks do."""
        return None if node.column else stage(self.row.encoder, node.level)

    def _down(self, node: Node) -> str:
        """How the encoder reaches a node's level."""
        return self.row.down if self._stage(node) is None else DOWN_TO_STAGE[self.row.encoder]

    def _dropout(self, node: Node) -> float:
        """The probability of dropout behind a node: the row's on the encoder's two deepest levels."""
        deep = node.level >= len(self.configuration.features) - LEVELS_WITH_DROPOUT
        return self.row.dropout if deep and not node.column else 0.0

    def _features(self, node: Node) -> int:
        return self.row.node_features(self.configuration.features, node)

    def scales(self) -> tuple[tuple[int, ...], ...]:
        """For each level the product of the strides that lead to it."""
        return tuple(self._factor(0, level) for level in range(len(self.configuration.features)))

    def _factor(self, finer: int, coarser: int) -> tuple[int, ...]:
        """The product, on each axis, of the plan's strides from one level to a coarser one."""
        strides = self.configuration.strides[finer:coarser]
        return tuple(math.prod(stride[axis] for stride in strides) for axis in range(self.configuration.dimensions))
