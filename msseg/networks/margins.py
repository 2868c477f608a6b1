"""What unpadded convolutions cost at the borders: how far each node's features end inside the grid of its level.

The network mirrors its input by what it will lose, and its logits have the input's size: the U-Net's mirrored
overlap-tile (Ronneberger et al. 2015). All margins are the same on both sides of an axis and depend on the network
alone, so every level keeps one grid on which features are cut, never shifted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from msseg.networks.convolutions import mirrored
from msseg.networks.edges import Edge, cut
from planning.errors import PlanError
from planning.grids import Node
from planning.network_row import NetworkRow

Lengths = tuple[int, ...]


@dataclass(frozen=True)
class Losses:
    """Voxels lost on both sides of each axis, on the part's own level (an edge's is its target's)."""

    edges: Mapping[tuple[Node, Node], Lengths]
    blocks: Mapping[Node, Lengths]
    heads: Mapping[Node, Lengths]


@dataclass(frozen=True)
class Margins:
    """Where features are cut so that all that meets at a node covers the same voxels.

    `scales[i]` is the product of the strides down to level i. `before` is cut from a source before its edge, `after`
    from what the edge gives; `logits` is what a head's logits leave out of their level's grid.
    """

    scales: Sequence[Lengths]
    before: Mapping[tuple[Node, Node], Lengths]
    after: Mapping[tuple[Node, Node], Lengths]
    logits: Mapping[Node, Lengths]

    def enter(self, image: torch.Tensor) -> torch.Tensor:
        """The image, mirrored by what will be lost and to a multiple of the coarsest scale."""
        lost = self._lost()
        coarsest, edges = self.scales[-1], []
        for axis, length in enumerate(image.shape[2:]):
            before = self._before(axis)
            # A coarse level's last cell reaches beyond an image that its scale does not divide.
            cell = self._coarsest_cell(axis)
            reach = -(-length // cell) * cell
            whole = -(-(before + reach + lost[axis]) // coarsest[axis]) * coarsest[axis]
            edges.append((before, whole - before - length))
        return mirrored(image, edges)

    def arrive(self, edge: Edge, features: torch.Tensor, source: Node, target: Node) -> torch.Tensor:
        """What an edge makes of a source's features, on the voxels that all of the target's sources cover."""
        features = cut(features, self.before[source, target])
        scales = zip(self.scales[source.level], self.scales[target.level], strict=True)
        size = tuple(length * own // there for length, (own, there) in zip(features.shape[2:], scales, strict=True))
        return cut(edge(features, size), self.after[source, target])

    def leave(self, logits: torch.Tensor, node: Node, size: Sequence[int]) -> torch.Tensor:
        """The logits of a node on the cells of an image of shape `size`."""
        for axis, (length, scale, lost) in enumerate(
            zip(size, self.scales[node.level], self.logits[node], strict=True)
        ):
            logits = logits.narrow(axis + 2, self._before(axis) // scale - lost, -(-length // scale))
        return logits

    def _lost(self) -> list[int]:
        """What the widest margin of any logits is, on each axis, in voxels of full resolution."""
        axes = range(len(self.scales[0]))
        return [max(lost[axis] * self.scales[node.level][axis] for node, lost in self.logits.items()) for axis in axes]

    def _before(self, axis: int) -> int:
        """What lies before the image: what is lost, in whole cells of the coarsest level with a head."""
        cell = self._coarsest_cell(axis)
        return -(-self._lost()[axis] // cell) * cell

    def _coarsest_cell(self, axis: int) -> int:
        return max(self.scales[node.level][axis] for node in self.logits)


def check(row: NetworkRow) -> None:
    """Raise PlanError where the parts of a row do not keep one grid without padding."""
    if row.padding != "valid":
        return
    wanted = {"down": "max_pool", "encoder": "blocks", "encoder_block": "plain", "decoder_block": "plain"}
    wrong = [f"{name}={getattr(row, name)}" for name, value in wanted.items() if getattr(row, name) != value]
    if wrong:
        expected = ", ".join(f"{name}={value}" for name, value in wanted.items())
        raise PlanError(f"network option padding: found valid with {', '.join(wrong)}, expected {expected}.")


def lost_by(module: nn.Module, dimensions: int) -> Lengths:
    """What the unpadded convolutions of a module lose on both sides of each axis, one after another."""
    kernels = [one.kernel_size for one in module.modules() if isinstance(one, (nn.Conv2d, nn.Conv3d))]
    return tuple(sum(int(kernel[axis]) // 2 for kernel in kernels) for axis in range(dimensions))


def measure(sources: Mapping[Node, Sequence[Node]], scales: Sequence[Lengths], losses: Losses) -> Margins:
    """The margins of nodes with these sources, each node after its sources; `scales` as in `Margins`."""
    before: dict[tuple[Node, Node], Lengths] = {}
    after: dict[tuple[Node, Node], Lengths] = {}
    margins: dict[Node, Lengths] = {}
    for node, its_sources in sources.items():
        arriving: dict[Node, Lengths] = {}
        for source in its_sources:
            cut, margin = _brought(margins[source], scales[source.level], scales[node.level])
            before[source, node] = cut
            arriving[source] = _sum(margin, losses.edges[source, node])
        widest = tuple(max(axis) for axis in zip(*arriving.values(), strict=True)) or (0,) * len(scales[0])
        for source, margin in arriving.items():
            after[source, node] = tuple(all_of - own for all_of, own in zip(widest, margin, strict=True))
        margins[node] = _sum(widest, losses.blocks[node])
    return Margins(scales, before, after, {node: _sum(margins[node], lost) for node, lost in losses.heads.items()})


def _brought(margin: Lengths, source: Lengths, target: Lengths) -> tuple[Lengths, Lengths]:
    """What is cut from a source's features before they go to another scale, and their margin on that one."""
    in_target = tuple(-(-lost * own // other) for lost, own, other in zip(margin, source, target, strict=True))
    cut = tuple(
        max(there * other // own - lost, 0)
        for there, other, own, lost in zip(in_target, target, source, margin, strict=True)
    )
    return cut, in_target


def _sum(first: Lengths, second: Lengths) -> Lengths:
    return tuple(a + b for a, b in zip(first, second, strict=True))
