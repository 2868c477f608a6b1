from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple


class Node(NamedTuple):
    level: int
    column: int


@dataclass(frozen=True)
class Grid:
    levels: int
    sources: dict[Node, tuple[Node, ...]]
    outputs: tuple[Node, ...]


def plain_grid(levels: int) -> Grid:
    bottom = levels - 1
    sources: dict[Node, tuple[Node, ...]] = {Node(0, 0): ()}
    for level in range(1, levels):
        sources[Node(level, 0)] = (Node(level - 1, 0),)
    for level in reversed(range(bottom)):
        sources[Node(level, bottom - level)] = (Node(level + 1, bottom - level - 1), Node(level, 0))
    return Grid(levels, sources, tuple(Node(level, bottom - level) for level in range(bottom)))


GRIDS: dict[str, Callable[[int], Grid]] = {"plain": plain_grid}


@dataclass(frozen=True)
class NetworkRow:
    name: str
    grid: str = "plain"
    block: str = "plain"
    down: str = "strided"
    up: str = "transposed"
    up_bias: bool = False
    norm: str = "instance"
    activation: str = "leaky_relu"
    head_bias: bool = False
    base_features: int = 30
    feature_cap: dict[int, int] = field(default_factory=dict)


NETWORKS = {
    row.name: row
    for row in (
        NetworkRow("mss_unet", feature_cap={2: 480, 3: 320}),
        NetworkRow("plain_unet", up_bias=True, head_bias=True, base_features=32, feature_cap={2: 512, 3: 320}),
    )
}
