"""The one module that walks a grid: every network of the school is this class with another grid and other parts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from msseg.networks.blocks import BLOCKS, BlockShape
from msseg.networks.channels_last import channels_last, serves
from msseg.networks.edges import DOWNS, UPS, Edge, EdgeShape, Same
from msseg.networks.operators import OPERATORS
from planning.grids import Grid, Node
from planning.networks import NetworkRow
from planning.plan import Configuration


@dataclass(frozen=True)
class Step:
    """One node's turn in the walk: what feeds it, and whose features nobody needs afterwards."""

    node: Node
    sources: tuple[Node, ...]
    released: tuple[Node, ...]


class GridNetwork(nn.Module):
    """Logits (b, k, *spatial of the level) at every supervised node, full resolution first, from (b, c, *spatial).

    Any input size will do: a level has ceil(size / stride) voxels, and what comes up is cut to the level it
    joins. `main_output` gives the first of the logits alone, at no other head's cost.
    """

    def __init__(self, row: NetworkRow, configuration: Configuration, in_channels: int, num_classes: int):
        super().__init__()
        grid = row.build_grid(len(configuration.features))
        self.supervised = grid.outputs[: len(configuration.supervision_weights)]
        self._steps = walk(grid, self.supervised)
        self._main_steps = walk(grid, self.supervised[:1])
        self.edges = nn.ModuleDict()
        self.nodes = nn.ModuleDict()
        for step in self._steps:
            edges = [_edge(row, configuration, source, step.node) for source in step.sources]
            self.edges.update({edge_name(s, step.node): e for s, e in zip(step.sources, edges, strict=True)})
            channels = sum(edge.out_channels for edge in edges) or in_channels
            self.nodes[node_name(step.node)] = _block(row, configuration, grid, step.node, channels)
        self.heads = nn.ModuleDict(
            {node_name(node): _head(row, configuration, node, num_classes) for node in self.supervised}
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits of every supervised node, full resolution first."""
        return self._logits(x, self._steps, self.supervised)

    def main_output(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (b, k, *spatial) at full resolution, computing only the nodes and the head that these need."""
        return self._logits(x, self._main_steps, self.supervised[:1])[0]

    def _logits(self, x: torch.Tensor, steps: tuple[Step, ...], supervised: tuple[Node, ...]) -> list[torch.Tensor]:
        if serves(x):
            x = channels_last(x)
        features: dict[Node, torch.Tensor] = {}
        logits: dict[Node, torch.Tensor] = {}
        for step in steps:
            features[step.node] = self._node(x, step, features)
            if step.node in supervised:
                logits[step.node] = self.heads[node_name(step.node)](features[step.node])
            for node in step.released:
                del features[node]
        return [logits[node] for node in supervised]

    def _node(self, x: torch.Tensor, step: Step, features: dict[Node, torch.Tensor]) -> torch.Tensor:
        level = features.get(Node(step.node.level, 0))
        size = tuple(level.shape[2:]) if level is not None else ()
        arriving = [self.edges[edge_name(s, step.node)](features[s], size) for s in step.sources]
        joined = torch.cat(arriving, dim=1) if len(arriving) > 1 else (arriving or [x])[0]
        result: torch.Tensor = self.nodes[node_name(step.node)](joined)
        return result


def node_name(node: Node) -> str:
    """The name of a node in the state dict, such as 0_3."""
    return f"{node.level}_{node.column}"


def edge_name(source: Node, target: Node) -> str:
    """The name of an edge in the state dict, such as 1_2_to_0_3."""
    return f"{node_name(source)}_to_{node_name(target)}"


def walk(grid: Grid, outputs: tuple[Node, ...]) -> tuple[Step, ...]:
    """The steps that lead to `outputs`, each node after its sources, features released after their last use."""
    needed = set(outputs)
    for node in reversed(grid.sources):
        if node in needed:
            needed.update(grid.sources[node])
    order = [node for node in grid.sources if node in needed]
    last_use = {node: node for node in order}
    for node in order:
        last_use.update(dict.fromkeys(grid.sources[node], node))
    return tuple(
        Step(node, grid.sources[node], tuple(source for source in order if last_use[source] == node)) for node in order
    )


def _edge(row: NetworkRow, configuration: Configuration, source: Node, target: Node) -> Edge:
    finer, coarser = sorted((source.level, target.level))
    kind = UPS[row.up] if source.level > target.level else DOWNS[row.down] if finer < coarser else Same
    return kind(
        EdgeShape(
            dimensions=configuration.dimensions,
            source_channels=configuration.features[source.level],
            target_channels=configuration.features[target.level],
            factor=_factor(configuration, finer, coarser),
            bias=row.up_bias,
        )
    )


def _block(row: NetworkRow, configuration: Configuration, grid: Grid, node: Node, in_channels: int) -> nn.Module:
    finer = [source.level for source in grid.sources[node] if source.level < node.level]
    strided = row.down == "strided" and bool(finer)
    return BLOCKS[row.block](
        BlockShape(
            dimensions=configuration.dimensions,
            in_channels=in_channels,
            out_channels=configuration.features[node.level],
            kernel_size=configuration.kernel_sizes[node.level + (row.decoder_kernel_level if node.column else 0)],
            stride=_factor(configuration, finer[0] if strided else node.level, node.level),
            convolutions=configuration.convolutions_per_level,
            bias=row.convolution_bias,
            norm=row.norm,
            activation=row.activation,
        )
    )


def _head(row: NetworkRow, configuration: Configuration, node: Node, num_classes: int) -> nn.Module:
    return OPERATORS[configuration.dimensions].convolution(
        configuration.features[node.level],
        num_classes,
        row.head_kernel,
        padding=row.head_kernel // 2,
        bias=row.head_bias,
    )


def _factor(configuration: Configuration, finer: int, coarser: int) -> tuple[int, ...]:
    """The product, on each axis, of the plan's strides from one level to a coarser one."""
    strides = configuration.strides[finer:coarser]
    return tuple(math.prod(stride[axis] for stride in strides) for axis in range(configuration.dimensions))
