"""Networks as grids: nodes (level, column) and, for each, the nodes that feed it. No channels, no operators.

Level 0 is full resolution; column 0 is the encoder. A source on a finer level is pooled, on the same level taken as
it is, on a coarser level upsampled; the factor is the product of the strides between the two levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Node(NamedTuple):
    """A place in the grid, where a block of convolutions stands."""

    level: int
    column: int


@dataclass(frozen=True)
class Grid:
    """The sources of every node, in the order of concatenation; each node comes after its sources.

    The first node has none and takes the image. `outputs` are the nodes that may carry a head, full resolution first.
    Raises ValueError where the order is broken or a node does not exist.
    """

    levels: int
    sources: dict[Node, tuple[Node, ...]]
    outputs: tuple[Node, ...]

    def __post_init__(self) -> None:
        seen: set[Node] = set()
        for node, sources in self.sources.items():
            if not seen.issuperset(sources) or bool(sources) != bool(seen):
                raise ValueError(f"{node}: each node but the first comes after its sources, found {sources}")
            if not 0 <= node.level < self.levels:
                raise ValueError(f"{node}: levels are 0 to {self.levels - 1}")
            seen.add(node)
        if not seen.issuperset(self.outputs):
            raise ValueError(f"outputs {self.outputs}: not all of them are nodes of the grid")


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
    outputs = tuple(Node(level, bottleneck - level) for level in range(bottleneck))
    return Grid(levels, sources, outputs)


GRIDS: dict[str, Callable[[int], Grid]] = {"plain": plain_grid}
