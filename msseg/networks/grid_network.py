"""The one module that walks a grid: every network of the school is this class with another grid and other parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import nn

from msseg.networks.channels_last import channels_last, serves
from msseg.networks.edges import Edge
from msseg.networks.margins import Losses, Margins, check, lost_by, measure
from msseg.networks.names import edge_name, node_name
from msseg.networks.outputs import Outputs, Rendered
from msseg.networks.parts import Parts
from planning.encoders import check_encoder
from planning.grids import Grid, Node
from planning.plan import Configuration


@dataclass(frozen=True)
class Step:
    """One node's turn in the walk: what feeds it, and whose features nobody needs afterwards."""

    node: Node
    sources: tuple[Node, ...]
    released: tuple[Node, ...]


@dataclass(frozen=True)
class Joint:
    """The names of a node's modules: an edge a source, then a gate (or None) for each thing that arrives.

    `takes_image`: the block sees the image, whatever arrives.
    """

    takes_image: bool
    edges: tuple[str, ...]
    gates: tuple[str | None, ...]
    below: int | None
    rendered: bool


@dataclass
class _Walked:
    """What a walk has gathered so far."""

    features: dict[Node, torch.Tensor] = field(default_factory=dict)
    logits: dict[Node, torch.Tensor] = field(default_factory=dict)
    presence: list[torch.Tensor] = field(default_factory=list)
    rendered: list[Rendered] = field(default_factory=list)


class GridNetwork(nn.Module):
    """Logits (b, k, *spatial of the level) at every supervised node, the main one first, from (b, c, *spatial).

    Any input size will do: a level has ceil(size / stride) voxels, and what comes up is cut to the level it
    joins. `main_output` gives the first of the logits alone, at no other head's cost.
    """

    def __init__(self, configuration: Configuration, in_channels: int, num_classes: int):
        super().__init__()
        row, levels = configuration.row, len(configuration.features)
        check(row)
        check_encoder(row.encoder, configuration.dimensions, levels)
        self.supervised = row.supervised(levels)[: len(configuration.supervision_weights)]
        self.grid, self.encoder = row.build_grid(levels), row.encoder
        self._steps = walk(self.grid, self.supervised)
        self._main_steps = walk(self.grid, self.supervised[:1])
        self.edges, self.gates, self.renderers = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.nodes, self.guides = nn.ModuleDict(), nn.ModuleDict()
        parts = Parts(row, configuration, in_channels, num_classes)
        self._joints = {step.node: self._add_node(parts, step) for step in self._steps}
        self.heads = nn.ModuleDict({node_name(node): parts.head(node) for node in self.supervised})
        for node in parts.guided(self.supervised):
            self.guides[node_name(node)] = parts.guide(node)
        self._margins = self._measure(parts) if row.padding == "valid" else None

    def _add_node(self, parts: Parts, step: Step) -> Joint:
        """Make the modules of one node, those that other nodes share only once; their names."""
        node = step.node
        edges = [edge_name(source, node, parts.row.up_shared) for source in step.sources]
        arriving = [self._add_edge(parts, name, source, node) for name, source in zip(edges, step.sources, strict=True)]
        below = next((i for i, source in enumerate(step.sources) if source.level > node.level), None)
        gates = [parts.gate_name(source, node) for source in step.sources]
        rendered = parts.is_rendered(node)
        if rendered:
            self.renderers[node_name(node)] = renderer = parts.renderer(node)
            arriving.append(cast(int, renderer.out_channels))
            gates.append(parts.gate_name(None, node))
        for name, channels in zip(gates, arriving, strict=True):
            if name and name not in self.gates and below is not None:
                self.gates[name] = parts.gate(node, channels, arriving[below])
        takes_image = parts.takes_image(node)
        self.nodes[node_name(node)] = parts.block(node, 0 if takes_image else sum(arriving))
        return Joint(takes_image, tuple(edges), tuple(gates) if any(gates) else (), below, rendered)

    def _add_edge(self, parts: Parts, name: str, source: Node, target: Node) -> int:
        """The channels that arrive over an edge, which is made where no other node has made it."""
        if name not in self.edges:
            self.edges[name] = parts.edge(source, target)
        return cast(Edge, self.edges[name]).out_channels

    def _measure(self, parts: Parts) -> Margins:
        """What the network's unpadded convolutions lose."""
        dimensions = parts.configuration.dimensions
        lost = {
            (source, step.node): cast(Edge, self.edges[name]).lost
            for step in self._steps
            for source, name in zip(step.sources, self._joints[step.node].edges, strict=True)
        }
        blocks = {step.node: lost_by(self.nodes[node_name(step.node)], dimensions) for step in self._steps}
        heads = {node: lost_by(self.heads[node_name(node)], dimensions) for node in self.supervised}
        return measure({step.node: step.sources for step in self._steps}, parts.scales(), Losses(lost, blocks, heads))

    def forward(self, x: torch.Tensor) -> Outputs:
        """Logits of every supervised node, the one that predicts first, and what guidance and rendering add."""
        return self._outputs(x, self._steps, self.supervised)

    def main_output(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (b, k, *spatial) at full resolution, computing only the nodes and the head that these need."""
        return self._outputs(x, self._main_steps, self.supervised[:1]).logits[0]

    def branch_outputs(self, x: torch.Tensor, nodes: Sequence[Node]) -> Outputs:
        """The outputs of some of the supervised nodes, computing what these need."""
        return self._outputs(x, walk(self.grid, nodes), nodes)

    @property
    def branches(self) -> tuple[Node, ...]:
        """The supervised nodes of full resolution, the one that predicts first."""
        return tuple(node for node in self.supervised if node.level == 0)

    def _outputs(self, x: torch.Tensor, steps: tuple[Step, ...], supervised: Sequence[Node]) -> Outputs:
        size = x.shape[2:]
        if self._margins is not None:
            x = self._margins.enter(x)
        if serves(x):
            x = channels_last(x)
        walked = _Walked()
        for step in steps:
            name, features = node_name(step.node), self._node(x, step, walked)
            walked.features[step.node] = features
            if step.node in supervised:
                logits = self.heads[name](features)
                walked.logits[step.node] = self._margins.leave(logits, step.node, size) if self._margins else logits
            if name in self.guides:
                walked.presence.append(self.guides[name](features))
            for node in step.released:
                del walked.features[node]
        return Outputs(
            logits=[walked.logits[node] for node in supervised],
            presence=walked.presence,
            points=[rendered.points for rendered in walked.rendered],
            coarse=[rendered.coarse for rendered in walked.rendered],
        )

    def _node(self, x: torch.Tensor, step: Step, walked: _Walked) -> torch.Tensor:
        """What the node's block makes of all that arrives: sources on this grid, rendered features, gated."""
        joint, features = self._joints[step.node], walked.features
        if joint.takes_image:
            return cast(torch.Tensor, self.nodes[node_name(step.node)](x))
        level = features.get(Node(step.node.level, 0))
        arriving = self._arriving(step, features, tuple(level.shape[2:]) if level is not None else ())
        if joint.rendered and joint.below is not None and level is not None:
            deeper = features[step.sources[joint.below]]
            rendered = self.renderers[node_name(step.node)](level, arriving[joint.below], deeper)
            walked.rendered.append(rendered)
            arriving.append(rendered.features)
        if joint.gates and joint.below is not None:
            signal = arriving[joint.below]
            pairs = zip(joint.gates, arriving, strict=True)
            arriving = [item if gate is None else self.gates[gate](item, signal) for gate, item in pairs]
        joined = torch.cat(arriving, dim=1) if len(arriving) > 1 else arriving[0]
        result: torch.Tensor = self.nodes[node_name(step.node)](joined)
        return result

    def _arriving(self, step: Step, features: dict[Node, torch.Tensor], size: tuple[int, ...]) -> list[torch.Tensor]:
        """What the edges of a node make of its sources on its level, whose padded shape is `size`."""
        names = zip(self._joints[step.node].edges, step.sources, strict=True)
        pairs = [(cast(Edge, self.edges[name]), source) for name, source in names]
        if self._margins is None:
            return [edge(features[source], size) for edge, source in pairs]
        return [self._margins.arrive(edge, features[source], source, step.node) for edge, source in pairs]


def walk(grid: Grid, outputs: Iterable[Node]) -> tuple[Step, ...]:
    """The steps that lead to `outputs`, each node after its sources, features released after their last use."""
    order = grid.needed(outputs)
    last_use = {node: node for node in order}
    for node in order:
        last_use.update(dict.fromkeys(grid.sources[node], node))
    return tuple(
        Step(node, grid.sources[node], tuple(source for source in order if last_use[source] == node)) for node in order
    )
