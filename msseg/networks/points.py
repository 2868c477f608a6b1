"""Point rendering: features refined by a small network at the points whose class is least certain.

Source: Li et al., Render U-Net (2020), after PointRend (Kirillov et al., 2020). Coordinates (b, n, d) lie in [0, 1],
in the order of the spatial axes; cell i of an axis of length s has its centre at (i + 0.5) / s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn import functional as F

from msseg.networks.operators import OPERATORS
from msseg.networks.outputs import PointLogits, Rendered
from planning.errors import PlanError
from planning.grids import Node
from planning.network_row import NetworkRow
from planning.point_counts import CANDIDATES_PER_POINT, level_points

# Render U-Net's beta.
_UNCERTAIN_SHARE: Final = 0.75
_HIDDEN_LAYERS = 3


@dataclass(frozen=True)
class RendererShape:
    """Where a renderer stands: channels of the encoder's features, of those that came up, and of those below.

    `width` is the level's; `cells_per_cell` counts the cells of full resolution in one cell of this level;
    `point_count` None scales the paper's 8096 with full resolution.
    """

    dimensions: int
    encoder_channels: int
    upsampled_channels: int
    deeper_channels: int
    width: int
    num_classes: int
    cells_per_cell: int
    point_count: int | None

    def points(self, size: tuple[int, ...], training: bool) -> int:
        """How many points a level of shape `size` gets."""
        return level_points(self.point_count, math.prod(size), self.cells_per_cell, self.dimensions, training)


class Renderer(nn.Module):
    """Copies a map of features and replaces the cells nearest to chosen points by what a small network makes there.

    The points are random ones of which most are uncertain in training, and the most uncertain cells in evaluation.
    `out_channels` are those of the copied map: the encoder's, or those that came up where `replaces_upsampled`.
    """

    def __init__(self, shape: RendererShape, replaces_upsampled: bool):
        super().__init__()
        self.replaces_upsampled = replaces_upsampled
        self.out_channels = shape.upsampled_channels if replaces_upsampled else shape.encoder_channels
        operators = OPERATORS[shape.dimensions]
        self.mode = operators.interpolation
        self.shape = shape
        self.coarse = operators.convolution(shape.deeper_channels, shape.num_classes, 1)
        sampled = shape.encoder_channels + shape.upsampled_channels + shape.num_classes
        hidden = 2 * shape.width
        layers: list[nn.Module] = []
        for channels in (sampled, *(hidden,) * (_HIDDEN_LAYERS - 1)):
            layers += [nn.Linear(channels, hidden), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.features = nn.Linear(hidden, self.out_channels)
        self.logits = nn.Linear(hidden, shape.num_classes)

    def forward(self, encoder: torch.Tensor, upsampled: torch.Tensor, deeper: torch.Tensor) -> Rendered:
        """The refined map from the encoder's features, those that came up and, on the coarser grid, those below.

        `encoder` and `upsampled` are (b, c, *level), `deeper` is (b, c, *coarser).
        """
        size = tuple(encoder.shape[2:])
        coarse = F.interpolate(self.coarse(deeper), size=size, mode=self.mode, align_corners=False)
        maps = (encoder, upsampled, coarse)
        if self.training:
            coordinates = random_points(coarse, self.shape.points(size, training=True))
            cells = nearest_cells(coordinates, size)
            sampled = [sample(one, coordinates) for one in maps]
        else:
            cells = uncertain_cells(coarse, self.shape.points(size, training=False))
            coordinates = cell_centres(cells, size)
            sampled = [values_at(one, cells) for one in maps]
        hidden = self.hidden(torch.cat(sampled, dim=2))  # (b, n, hidden)
        copied = upsampled if self.replaces_upsampled else encoder
        refined = self.features(hidden).to(copied.dtype)
        replace = replace_cells if self.training else replace_distinct_cells
        points = PointLogits(coordinates, self.logits(hidden).transpose(1, 2))
        return Rendered(replace(copied, cells, refined), points, coarse)


def encoder_renderer(shape: RendererShape) -> Renderer:
    """Refines a copy of the encoder's features: the paper's section 3.3 and figure 5."""
    return Renderer(shape, replaces_upsampled=False)


def upsampled_renderer(shape: RendererShape) -> Renderer:
    """Refines a copy of the features that came up: the paper's figure 4."""
    return Renderer(shape, replaces_upsampled=True)


RENDERERS: dict[str, Callable[[RendererShape], Renderer]] = {
    "encoder": encoder_renderer,
    "upsampled": upsampled_renderer,
}


def rendering_source(row: NetworkRow, node: Node, levels: int) -> Node:
    """The coarser source of a node whose features are refined: the first one, as the grid orders them.

    Raises PlanError where the node has none, where the encoder's node of its level is no source, or where
    convolutions without padding leave the encoder's grid larger than what comes up.
    """
    sources = row.build_grid(levels).sources[node]
    below = next((source for source in sources if source.level > node.level), None)
    if below is None or Node(node.level, 0) not in sources:
        wanted = "a grid whose decoder nodes are fed by the encoder on their level and by a coarser node"
        raise PlanError(f"network option points: found {row.points!r} on the grid {row.grid!r}, expected {wanted}.")
    if row.padding == "valid":
        raise PlanError(
            f"network option points: found {row.points!r} with padding 'valid', expected padded convolutions."
        )
    return below


def refuse_shared_gate(row: NetworkRow, refined: int, arriving: int) -> None:
    """Raise PlanError where one gate is to serve refined features and the encoder's, of other numbers of channels."""
    if row.gate != "none" and row.gate_per == "node" and refined != arriving:
        found = f"one for {refined} channels at points and {arriving} of the encoder"
        raise PlanError(f"network option gate_per: found {row.gate_per!r}, {found}; expected 'skip'.")


def uncertainty(logits: torch.Tensor) -> torch.Tensor:
    """How near the decision is, at most 0, (b, ...) from logits (b, k, ...).

    One output: -|p - 0.5|, p its sigmoid. Several: the second largest softmax probability minus the largest.
    """
    logits = logits.float()
    if logits.shape[1] == 1:
        return -(logits[:, 0].sigmoid() - 0.5).abs()
    largest = logits.softmax(dim=1).topk(2, dim=1).values
    return largest[:, 1] - largest[:, 0]


@torch.no_grad()
def random_points(coarse: torch.Tensor, count: int) -> torch.Tensor:
    """Coordinates (b, count, d) of training, drawn from torch's global generator of the device.

    Of 3 · `count` uniform candidates the 0.75 · `count` (rounded down) where the interpolated `coarse` logits
    (b, k, *level) are least certain, the rest uniform anew.
    """
    batch, dimensions = coarse.shape[0], coarse.ndim - 2
    candidates = torch.rand(batch, CANDIDATES_PER_POINT * count, dimensions, device=coarse.device)
    certain = uncertainty(sample(coarse, candidates).transpose(1, 2))
    chosen = certain.topk(int(_UNCERTAIN_SHARE * count), dim=1).indices
    uncertain = candidates.gather(1, chosen[..., None].expand(-1, -1, dimensions))
    fresh = torch.rand(batch, count - chosen.shape[1], dimensions, device=coarse.device)
    return torch.cat((uncertain, fresh), dim=1)


@torch.no_grad()
def uncertain_cells(coarse: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` cells where logits (b, k, *level) are least certain, (b, count) int64 of the flattened level."""
    return uncertainty(coarse).flatten(1).topk(count, dim=1).indices


def sample(features: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Features (b, n, c), interpolated (bi- or trilinearly) from (b, c, *level) at coordinates (b, n, d).

    Beyond the outermost centres of cells the value there is kept.
    """
    dtype = torch.promote_types(features.dtype, coordinates.dtype)
    ones = (1,) * (coordinates.shape[2] - 1)
    grid = (2 * coordinates.flip(2) - 1).unflatten(1, (*ones, -1)).to(dtype)  # (b, [1,] 1, n, d)
    values = F.grid_sample(features.to(dtype), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return values.flatten(2).transpose(1, 2).to(features.dtype)


def values_at(features: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Features (b, n, c) of the cells (b, n) of (b, c, *level): what `sample` gives at their centres."""
    index = cells[:, None].expand(-1, features.shape[1], -1)
    return features.flatten(2).gather(2, index).transpose(1, 2)


def nearest_cells(coordinates: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """The cells (b, n) int64, of a flattened level of shape `size`, that coordinates (b, n, d) lie in."""
    index = torch.zeros_like(coordinates[..., 0], dtype=torch.int64)
    for axis, length in enumerate(size):
        position = (coordinates[..., axis] * length).long().clamp(0, length - 1)
        index = index * length + position
    return index


def cell_centres(cells: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Coordinates (b, n, d), float32, of the centres of cells (b, n) of a flattened level of shape `size`."""
    positions = []
    for length in reversed(size):
        positions.append((cells % length + 0.5) / length)
        cells = cells // length
    return torch.stack(positions[::-1], dim=2).float()


def replace_cells(features: torch.Tensor, cells: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """`features` (b, c, *level) with the `values` (b, n, c) in `cells` (b, n), their mean where several share one.

    Differentiable in both; a replaced cell passes no gradient to `features`.
    """
    flat = features.flatten(2)
    visits = torch.zeros_like(flat[:, 0], dtype=torch.int64).scatter_add(1, cells, torch.ones_like(cells))
    shares = values / visits.gather(1, cells)[..., None].to(values.dtype)
    kept = flat.masked_fill(visits[:, None] > 0, 0)
    index = cells[:, None].expand(-1, flat.shape[1], -1)
    return kept.scatter_add_(2, index, shares.transpose(1, 2)).reshape(features.shape)


def replace_distinct_cells(features: torch.Tensor, cells: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """What `replace_cells` gives where no two of the cells are the same: values are written, not added."""
    index = cells[:, None].expand(-1, features.shape[1], -1)
    return features.flatten(2).scatter(2, index, values.transpose(1, 2)).reshape(features.shape)
