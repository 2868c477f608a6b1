"""From a network's row and a plan's configuration to the module at each place of the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from msseg.networks.blocks import BLOCKS, BlockShape
from msseg.networks.edges import DOWNS, UPS, Edge, EdgeShape, MaxPool, Same
from msseg.networks.heads import HEADS, HeadShape
from msseg.networks.points import RENDERERS, RendererShape, rendering_source
from planning.grids import Node
from planning.network_row import NetworkRow
from planning.plan import Configuration


@dataclass(frozen=True)
class Parts:
    """Makes the modules of one network; a name it does not know is an error of the table (`CHOICES`)."""

    row: NetworkRow
    configuration: Configuration
    in_channels: int
    num_classes: int

    def edge(self, source: Node, target: Node) -> Edge:
        """What brings a source's features to its target's grid."""
        finer, coarser = sorted((source.level, target.level))
        shape = EdgeShape(
            dimensions=self.configuration.dimensions,
            source_channels=self._features(source),
            target_channels=self.configuration.features[target.level],
            factor=self._factor(finer, coarser),
            bias=self.row.up_bias,
        )
        if source.level > target.level:
            return UPS[self.row.up](shape)
        if source.level == target.level:
            return Same(shape)
        return MaxPool(shape) if target.column else DOWNS[self.row.down](shape)

    def block(self, node: Node, channels: int) -> nn.Module:
        """The convolutions of a node that `channels` channels arrive at; 0 at the first one, which takes the image."""
        row, configuration, level = self.row, self.configuration, node.level
        strided = row.down == "strided" and node.column == 0 and level > 0
        kinds, depths = (
            (row.decoder_block, configuration.decoder_convolutions)
            if node.column
            else (row.encoder_block, configuration.encoder_convolutions)
        )
        return BLOCKS[kinds](
            BlockShape(
                dimensions=configuration.dimensions,
                in_channels=channels or self.in_channels,
                out_channels=self._features(node),
                kernel_size=configuration.kernel_sizes[level + (row.decoder_kernel_level if node.column else 0)],
                stride=self._factor(level - 1 if strided else level, level),
                convolutions=depths[level],
                bias=row.convolution_bias,
                norm=row.norm,
                activation=row.activation if node.column else row.encoder_activation,
                is_input=not channels,
            )
        )

    def head(self, node: Node) -> nn.Module:
        """What turns a node's features into logits."""
        return HEADS[self.row.head](
            HeadShape(
                dimensions=self.configuration.dimensions,
                in_channels=self._features(node),
                num_classes=self.num_classes,
                kernel=self.row.low_head_kernel if node.level else self.row.head_kernel,
                bias=self.row.head_bias,
            )
        )

    def gate_name(self, source: Node | None, node: Node) -> str | None:
        """The name of the gate on a source (None: the rendered features) of a decoder node; None where there is none."""
        return None

    def gate(self, node: Node) -> nn.Module:
        """The gate of what arrives at a node from its own level."""
        raise NotImplementedError

    def guided(self, supervised: Sequence[Node]) -> tuple[Node, ...]:
        """The nodes that decide which classes are present."""
        return ()

    def guide(self, node: Node) -> nn.Module:
        """What decides which classes are present, from a node's features."""
        raise NotImplementedError

    def is_rendered(self, node: Node) -> bool:
        """Whether the node refines features at chosen points."""
        return self.row.points != "none" and node.column > 0

    def renderer(self, node: Node) -> nn.Module:
        """What refines a node's features at chosen points; PlanError where the grid does not bring what it needs."""
        configuration, encoder = self.configuration, Node(node.level, 0)
        below = rendering_source(self.row, node, len(configuration.features))
        with torch.device("meta"):
            upsampled = self.edge(below, node).out_channels
        return RENDERERS[self.row.points](
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

    def _features(self, node: Node) -> int:
        return self.row.node_features(self.configuration.features, node)

    def _factor(self, finer: int, coarser: int) -> tuple[int, ...]:
        """The product, on each axis, of the plan's strides from one level to a coarser one."""
        strides = self.configuration.strides[finer:coarser]
        return tuple(math.prod(stride[axis] for stride in strides) for axis in range(self.configuration.dimensions))
