"""Networks as grids: nodes (level, column) and, for each, the nodes that feed it. No channels, no operators.

Level 0 is full resolution; column 0 is the encoder. A source on a finer level is pooled, on the same level taken as
it is, on a coarser level upsampled; the factor is the product of the strides between the two levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Node(NamedTuple):
    """A place in the grid, where a block of convolutions stands."""

    level: int
    column: int


@dataclass(frozen=True)
class Grid:
    """The sources of every node, in the order of concatenation; each node comes after its sources.

    The first node has none and takes the image. Raises ValueError where the order is broken or a node does not exist.
    """

    levels: int
    sources: dict[Node, tuple[Node, ...]]

    def __post_init__(self) -> None:
        seen: set[Node] = set()
        for node, sources in self.sources.items():
            if not seen.issuperset(sources) or bool(sources) != bool(seen):
                raise ValueError(f"{node}: each node but the first comes after its sources, found {sources}")
            if not 0 <= node.level < self.levels:
                raise ValueError(f"{node}: levels are 0 to {self.levels - 1}")
            seen.add(node)

    def needed(self, outputs: Iterable[Node]) -> tuple[Node, ...]:
        """The nodes that lead to `outputs`, these included, in the grid's order."""
        needed = set(outputs)
        for node in reversed(self.sources):
            if node in needed:
                needed.update(self.sources[node])
        return tuple(node for node in self.sources if node in needed)


def encoder_sources(levels: int) -> dict[Node, tuple[Node, ...]]:
    """Column 0, from the image down: each level is fed by the one above it."""
    return {Node(level, 0): (Node(level - 1, 0),) if level else () for level in range(levels)}


def plain_grid(levels: int) -> Grid:
    """The U-Net's grid: above the bottleneck one decoder node a level, fed from below and by its encoder node."""
    bottleneck = levels - 1
    sources = encoder_sources(levels)
    for level in reversed(range(bottleneck)):
        below = Node(level + 1, bottleneck - level - 1)
        sources[Node(level, bottleneck - level)] = (below, Node(level, 0))
    return Grid(levels, sources)


def nested_grid(levels: int) -> Grid:
    """UNet++'s grid: node (i, j) is fed by all before it on its level and by (i + 1, j - 1)."""
    return _triangle(levels, lambda level, column: [Node(level + 1, column - 1)])


def sharp_grid(levels: int) -> Grid:
    """UNet#'s grid: the nested one, and every coarser node of the same diagonal, (i + m, j - m)."""
    return _triangle(levels, _diagonal)


def sharp_grid_of_printed_count(levels: int) -> Grid:
    """UNet#'s grid without the long skips into (2, 2) and (1, 3): its paper's 9.71 M parameters, against its text."""
    return _triangle(levels, _diagonal_except(Node(2, 2), Node(1, 3)))


def sharp_grid_of_printed_count_3d(levels: int) -> Grid:
    """V-Net#'s grid without the long skips into (0, 4): its paper's 28.37 M parameters, against its text."""
    return _triangle(levels, _diagonal_except(Node(0, 4)))


def full_scale_grid(levels: int) -> Grid:
    """UNet 3+'s grid: a decoder node is fed by the encoder down to its level and by all coarser decoder nodes."""
    bottleneck = levels - 1
    sources = encoder_sources(levels)
    for level in reversed(range(bottleneck)):
        encoder = [Node(finer, 0) for finer in range(level + 1)]
        decoder = [Node(coarser, bottleneck - coarser) for coarser in range(level + 1, levels)]
        sources[Node(level, bottleneck - level)] = (*encoder, *decoder)
    return Grid(levels, sources)


def _triangle(levels: int, coarser: Callable[[int, int], list[Node]]) -> Grid:
    """Nodes with level + column < levels, column by column, each fed by its level's earlier nodes and by `coarser`."""
    sources = encoder_sources(levels)
    for column in range(1, levels):
        for level in range(levels - column):
            earlier = [Node(level, before) for before in range(column)]
            sources[Node(level, column)] = (*earlier, *coarser(level, column))
    return Grid(levels, sources)


def _diagonal(level: int, column: int) -> list[Node]:
    return [Node(level + steps, column - steps) for steps in range(1, column + 1)]


def _diagonal_except(*without_long_skips: Node) -> Callable[[int, int], list[Node]]:
    def coarser(level: int, column: int) -> list[Node]:
        whole = _diagonal(level, column)
        return whole[:1] if Node(level, column) in without_long_skips else whole

    return coarser


GRIDS: dict[str, Callable[[int], Grid]] = {
    "plain": plain_grid,
    "nested": nested_grid,
    "full_scale": full_scale_grid,
    "sharp": sharp_grid,
    "sharp_count2d": sharp_grid_of_printed_count,
    "sharp_count3d": sharp_grid_of_printed_count_3d,
}

# Grids whose first d + 1 levels are the same grid with fewer levels: a branch of full resolution can be cut out.
PRUNABLE = ("nested", "sharp", "sharp_count2d", "sharp_count3d")


def decoder_heads(levels: int) -> tuple[Node, ...]:
    """The decoder's nodes above the bottleneck, full resolution first: multi-scale supervision and nnU-Net."""
    return tuple(Node(level, levels - 1 - level) for level in range(levels - 1))


def last_head(levels: int) -> tuple[Node, ...]:
    """The last node alone: no deep supervision."""
    return (Node(0, levels - 1),)


def full_resolution_heads(levels: int) -> tuple[Node, ...]:
    """The nodes of full resolution but the encoder's, the last one first: UNet++, ANU-Net, Render U-Net."""
    return tuple(Node(0, column) for column in reversed(range(1, levels)))


def sharp_heads(levels: int) -> tuple[Node, ...]:
    """UNet#'s eight branches: full resolution, the last one first, then the coarser ends of the decoder."""
    return (*full_resolution_heads(levels), *(Node(level, levels - 1 - level) for level in range(1, levels)))


def full_scale_heads(levels: int) -> tuple[Node, ...]:
    """UNet 3+'s branches: every node of the decoder, the bottleneck included."""
    return tuple(Node(level, levels - 1 - level) for level in range(levels))


# Which nodes carry a head, the one that predicts first and those of full resolution before the others.
HEADS: dict[str, Callable[[int], tuple[Node, ...]]] = {
    "last": last_head,
    "decoder": decoder_heads,
    "full_resolution": full_resolution_heads,
    "sharp": sharp_heads,
    "full_scale": full_scale_heads,
}
