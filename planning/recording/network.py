"""A network on a tape: the walk over its grid and its heads, by the sizes of tensors.

This is `planning`'s one description of what a network computes. What is counted or predicted of it are sums over the
tape: parameters and multiply-adds (`planning.counting`), what patch and batch are sized by (`planning.memory`), the
memory of a training step (`planning.training_memory`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from planning.grids import Grid, Node
from planning.recording.blocks import BLOCKS
from planning.recording.edges import UPS
from planning.recording.encoders import STAGES, Stage
from planning.recording.gates import gated
from planning.recording.guidance import GUIDES
from planning.recording.heads import HEADS
from planning.recording.layout import Layout
from planning.recording.points import Rendered, render
from planning.recording.tape import Map, Tape
from planning.recording.units import pooled, unit


@dataclass
class Recorded:
    """What a walk answers: logits of the supervised nodes, and what guidance and rendering add."""

    logits: list[Map]
    presence: list[Map]
    points: list[Map]
    coarse: list[Map]


@dataclass(frozen=True)
class Recorder:
    """Records a network on a tape, in training or in evaluation; the twin of `msseg.networks`' `GridNetwork`."""

    tape: Tape
    layout: Layout
    training: bool = True

    def forward(self, image: Map) -> Recorded:
        """The walk, all heads computed; features are released after their last use."""
        layout = self.layout
        features: dict[Node, Map] = {}
        logits: dict[Node, Map] = {}
        presence: list[Map] = []
        rendered: list[Rendered] = []
        for node, sources, released in _walk(layout.row.build_grid(layout.levels), layout.supervised):
            features[node] = self._node(image, node, sources, features, rendered)
            if node in layout.supervised:
                logits[node] = self._head(node, features[node])
            if node in layout.guided:
                presence.append(self._guide(node, features[node]))
            for one in released:
                del features[one]
        return Recorded(
            logits=[logits[node] for node in layout.supervised],
            presence=presence,
            points=[one.logits for one in rendered],
            coarse=[one.coarse for one in rendered],
        )

    def _node(
        self, image: Map, node: Node, sources: Sequence[Node], features: dict[Node, Map], rendered: list[Rendered]
    ) -> Map:
        """What the node's block makes of all that arrives: sources on this grid, rendered features, gated."""
        layout = self.layout
        if layout.takes_image(node):
            return self._block(node, image, is_input=True)
        level = features.get(Node(node.level, 0))
        size = level.shape if level else ()
        arriving = [self._edge(source, node, features[source], size) for source in sources]
        names = [layout.gate_name(source, node) for source in sources]
        below = next((index for index, source in enumerate(sources) if source.level > node.level), None)
        if layout.row.points != "none" and node.column and level and below is not None:
            maps, place = (level, arriving[below], features[sources[below]]), layout.rendering(node, self.training)
            rendered.append(render(self.tape, layout.row, f"{node}.points", maps, place))
            arriving.append(rendered[-1].features)
            names.append(layout.gate_name(None, node))
        if any(names) and below is not None:
            arriving = self._gated(node, names, arriving, arriving[below])
        return self._block(node, self._joined(arriving), is_input=False)

    def _gated(self, node: Node, names: Sequence[str | None], arriving: Sequence[Map], signal: Map) -> list[Map]:
        """What arrives, through a gate where it has the name of one."""
        width, norm = self.layout.gate_width(node), self.layout.row.norm
        return [
            gated(self.tape, name, one, signal, width, norm) if name else one
            for name, one in zip(names, arriving, strict=True)
        ]

    def _joined(self, arriving: Sequence[Map]) -> Map:
        """The concatenation."""
        if len(arriving) == 1:
            return arriving[0]
        channels = sum(one.channels for one in arriving)
        return self.tape.apply(arriving, channels, arriving[0].shape, backward="slices")

    def _edge(self, source: Node, target: Node, x: Map, size: tuple[int, ...]) -> Map:
        """A source's features on its target's grid."""
        layout, row = self.layout, self.layout.row
        name = layout.edge_name(source, target)
        if source.level > target.level:
            x = UPS[row.up](self.tape, name, x, layout.edge(source, target, size))
        elif source.level < target.level and layout.pools(target):
            x = pooled(self.tape, x, layout.factor(source.level, target.level), keeps_places=True)
        if row.unified and target.column:
            x = unit(self.tape, f"{name} unified", x, replace(layout.unit(target), channels=layout.features[0]))
        return x

    def _block(self, node: Node, x: Map, is_input: bool) -> Map:
        layout, row = self.layout, self.layout.row
        block, index = layout.block(node, is_input), layout.stage(node)
        if index is not None:
            return STAGES[row.encoder](self.tape, f"{node}", x, Stage(index, block.unit, block.dropout))
        return BLOCKS[row.decoder_block if node.column else row.encoder_block](self.tape, f"{node}", x, block)

    def _head(self, node: Node, x: Map) -> Map:
        layout = self.layout
        return HEADS[layout.row.head](self.tape, f"{node}.head", x, layout.head(node), layout.kernel_sizes[node.level])

    def _guide(self, node: Node, x: Map) -> Map:
        """What decides which classes are present."""
        layout = self.layout
        guide = GUIDES[layout.row.guidance]
        return guide(self.tape, f"{node}.guide", x, layout.num_classes - 1, layout.has_deep_guide(node))


def _walk(grid: Grid, outputs: Iterable[Node]) -> Iterator[tuple[Node, tuple[Node, ...], list[Node]]]:
    """Each node with its sources, and the nodes that nobody needs after it."""
    order = grid.needed(outputs)
    last_use = {node: node for node in order}
    for node in order:
        last_use.update(dict.fromkeys(grid.sources[node], node))
    for node in order:
        yield node, grid.sources[node], [source for source in order if last_use[source] == node]
