"""A network's training step on a tape: the walk over its grid, its heads and its loss, by the sizes of tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from planning.encoders import stage
from planning.grids import Grid, Node
from planning.network_row import NetworkRow
from planning.plan import Configuration
from planning.recorded_encoders import DOWN_TO_STAGE, STAGES, Stage
from planning.recorded_guides import GUIDED, GUIDES
from planning.recorded_parts import BLOCKS, HEADS, UPS, Block, Edge, Unit, gated, pooled, unit
from planning.recorded_points import Rendered, RenderingPlace, render
from planning.tape import INT64_BYTES, SINGLE_BYTES, Map, Tape

# The edge of a plan's kernels that a row may ask to be another.
_PLAN_EDGE: Final = 3
_LEVELS_WITH_DROPOUT: Final = 2
_DEEP_LEVELS: Final = 2
_GATE_WIDTHS: Final = {"half": lambda channels: max(1, channels // 2), "half_at_least_32": lambda c: max(32, c // 2)}


@dataclass
class Recorded:
    """What a walk answers: logits of the supervised nodes, and what guidance and rendering add."""

    logits: list[Map]
    presence: list[Map]
    points: list[Map]
    coarse: list[Map]


@dataclass(frozen=True)
class Recorder:
    """Records a network's parts on a tape; the twin of `msseg.networks`' `GridNetwork` and `Parts`."""

    tape: Tape
    configuration: Configuration
    num_classes: int

    @property
    def row(self) -> NetworkRow:
        return self.configuration.row

    def step(self, image: Map) -> None:
        """One training step from the image on: forward, loss, backward."""
        outputs = self.forward(image)
        self.tape.backward(record_loss(self.tape, outputs))

    def forward(self, image: Map) -> Recorded:
        """The walk; features are released after their last use."""
        levels = len(self.configuration.features)
        supervised = self.row.supervised(levels)[: len(self.configuration.supervision_weights)]
        features: dict[Node, Map] = {}
        logits: dict[Node, Map] = {}
        presence: list[Map] = []
        rendered: list[Rendered] = []
        for node, sources, released in _walk(self.row.build_grid(levels), supervised):
            features[node] = self._node(image, node, sources, features, rendered)
            if node in supervised:
                logits[node] = self._head(node, features[node])
            if node in GUIDED[self.row.guidance](supervised, levels):
                presence.append(self._guide(node, features[node]))
            for one in released:
                del features[one]
        return Recorded(
            logits=[logits[node] for node in supervised],
            presence=presence,
            points=[one.logits for one in rendered],
            coarse=[one.coarse for one in rendered],
        )

    def _node(
        self, image: Map, node: Node, sources: Sequence[Node], features: dict[Node, Map], rendered: list[Rendered]
    ) -> Map:
        """What the node's block makes of all that arrives: sources on this grid, rendered features, gated."""
        tape, row = self.tape, self.row
        level = features.get(Node(node.level, 0))
        size = level.shape if level else ()
        arriving = [self._edge(source, node, features[source], size) for source in sources]
        names = [_gate_name(row, source, node) for source in sources]
        below = next((index for index, source in enumerate(sources) if source.level > node.level), None)
        if row.points != "none" and node.column and level and below is not None:
            maps = (level, arriving[below], features[sources[below]])
            rendered.append(render(tape, row, f"{node}.points", maps, self._place(node)))
            arriving.append(rendered[-1].features)
            names.append(_gate_name(row, None, node))
        if any(names) and below is not None:
            signal, width = arriving[below], _GATE_WIDTHS[row.gate_width](self.configuration.features[node.level])
            arriving = [
                gated(tape, name, one, signal, width, row.norm) if name else one
                for name, one in zip(names, arriving, strict=True)
            ]
        joined = image
        if stage(row.encoder, node.level) == 0 and not node.column:
            arriving = []
        if len(arriving) > 1:
            joined = tape.apply(arriving, sum(one.channels for one in arriving), arriving[0].shape, backward="slices")
        elif arriving:
            joined = arriving[0]
        return self._block(node, joined, is_input=not arriving)

    def _place(self, node: Node) -> RenderingPlace:
        """Where a renderer stands."""
        cells = math.prod(math.prod(stride) for stride in self.configuration.strides[: node.level])
        return RenderingPlace(self.configuration.features[node.level], self.num_classes, cells)

    def _edge(self, source: Node, target: Node, x: Map, size: tuple[int, ...]) -> Map:
        """A source's features on its target's grid."""
        row = self.row
        finer, coarser = sorted((source.level, target.level))
        factor = self._factor(finer, coarser)
        own = self._unit(target)
        shared = row.up_shared and source.level > target.level
        name = f"up {source.level} {target.level}" if shared else f"{source} {target}"
        if source.level > target.level:
            x = UPS[row.up](self.tape, name, x, Edge(_with(own, bias=row.up_bias), factor, size))
        elif source.level < target.level and self._pools(target):
            x = pooled(self.tape, x, factor, keeps_places=True)
        if row.unified and target.column:
            x = unit(self.tape, f"{name} unified", x, _with(own, channels=self.configuration.features[0]))
        return x

    def _block(self, node: Node, x: Map, is_input: bool) -> Map:
        row, configuration, level = self.row, self.configuration, node.level
        kind = row.decoder_block if node.column else row.encoder_block
        depths = configuration.decoder_convolutions if node.column else configuration.encoder_convolutions
        strided = level > 0 and not node.column and not self._pools(node)
        stride = self._factor(level - 1 if strided else level, level)
        own = _with(self._unit(node), stride=stride, channels=row.node_features(configuration.features, node))
        deep = level >= len(configuration.features) - _LEVELS_WITH_DROPOUT and not node.column
        dropout = row.dropout if deep else 0.0
        index = None if node.column else stage(row.encoder, level)
        if index is not None:
            return STAGES[row.encoder](self.tape, f"{node}", x, Stage(index, own, dropout))
        block = Block(own, depths[level], is_input, dropout)
        return BLOCKS[kind](self.tape, f"{node}", x, block)

    def _pools(self, target: Node) -> bool:
        """Whether what comes from a finer level is pooled; else the target's first convolution is strided."""
        by_stage = not target.column and stage(self.row.encoder, target.level) is not None
        return target.column > 0 or (DOWN_TO_STAGE[self.row.encoder] if by_stage else self.row.down) == "max_pool"

    def _head(self, node: Node, x: Map) -> Map:
        row, dimensions = self.row, self.configuration.dimensions
        kernel = (row.low_head_kernel if node.level else row.head_kernel,) * dimensions
        shape = Unit(self.num_classes, kernel, (1,) * dimensions, row.head_bias, "none", "relu", row.padding)
        return HEADS[row.head](self.tape, f"{node}.head", x, shape, self.configuration.kernel_sizes[node.level])

    def _guide(self, node: Node, x: Map) -> Map:
        """What decides which classes are present."""
        is_deep = node.level >= max(1, len(self.configuration.features) - _DEEP_LEVELS)
        return GUIDES[self.row.guidance](self.tape, f"{node}.guide", x, self.num_classes - 1, is_deep)

    def _unit(self, node: Node) -> Unit:
        """A convolution on a node's level, as wide as the level and as the row's encoder or decoder has it."""
        row, configuration = self.row, self.configuration
        kernel = configuration.kernel_sizes[node.level + (row.decoder_kernel_level if node.column else 0)]
        if not node.column:
            kernel = tuple(row.encoder_kernel_edge if edge == _PLAN_EDGE else edge for edge in kernel)
        kind = row.activation if node.column else row.encoder_activation
        ones = (1,) * configuration.dimensions
        width = configuration.features[node.level]
        return Unit(width, kernel, ones, row.convolution_bias, row.norm, kind, row.padding)

    def _factor(self, finer: int, coarser: int) -> tuple[int, ...]:
        strides = self.configuration.strides[finer:coarser]
        return tuple(math.prod(stride[axis] for stride in strides) for axis in range(self.configuration.dimensions))


def _with(own: Unit, **changes: object) -> Unit:
    return replace(own, **changes)  # type: ignore[arg-type]


def _gate_name(row: NetworkRow, source: Node | None, node: Node) -> str | None:
    """The gate on a source (None: the rendered features) of a decoder node; None where there is none."""
    if row.gate == "none" or not node.column or (source is not None and source.level != node.level):
        return None
    names = {"node": f"{node}.gate", "source": f"{source}.gate", "skip": f"{source} {node} gate"}
    return names[row.gate_per if source is not None or row.gate_per == "node" else "skip"]


def _walk(grid: Grid, outputs: Iterable[Node]) -> Iterator[tuple[Node, tuple[Node, ...], list[Node]]]:
    """Each node with its sources, and the nodes that nobody needs after it."""
    order = grid.needed(outputs)
    last_use = {node: node for node in order}
    for node in order:
        last_use.update(dict.fromkeys(grid.sources[node], node))
    for node in order:
        yield node, grid.sources[node], [source for source in order if last_use[source] == node]


def record_loss(tape: Tape, outputs: Recorded) -> Map:
    """Cross entropy and Dice at every map of logits, coarse ones of rendering included, and of the points' logits."""
    terms = [_loss_of_logits(tape, one) for one in (*outputs.logits, *outputs.points, *outputs.coarse)]
    return tape.apply([*terms, *outputs.presence], 0, ())


def _loss_of_logits(tape: Tape, logits: Map) -> Map:
    """Keeps log-probabilities and probabilities in single precision, where each class is, and the labels."""
    voxels = math.prod(logits.shape) * tape.batch
    single = voxels * logits.channels * SINGLE_BYTES
    masks = voxels * (logits.channels + 1) + voxels * INT64_BYTES
    return tape.apply([logits], 0, (), keeps_bytes=2 * single + masks, scratch=2 * single)
