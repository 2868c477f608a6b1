"""A branch of full resolution as a network of its own: its nodes are a smaller grid, its weights a filter by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from msseg.networks.grid_network import GridNetwork
from planning.errors import PlanError
from planning.grids import PRUNABLE, Node
from planning.networks import NETWORKS
from planning.plan import Configuration
from planning.weights import normalised, uniform_weights


def prunable_levels(configuration: Configuration) -> tuple[int, ...]:
    """The levels that a network can be cut to, the smallest first; the last one keeps every node.

    Level d keeps the nodes (i, j) with i + j <= d and answers with X[0, d], which must have been supervised. Raises
    PlanError for a grid that holds no smaller one, and for a network without deep supervision.
    """
    row = configuration.row
    if row.grid not in PRUNABLE:
        able = ", ".join(name for name, other in NETWORKS.items() if other.grid in PRUNABLE)
        raise PlanError(f"{configuration.network}: its grid ({row.grid}) cannot be pruned; those of {able} can.")
    levels = sorted(node.column for node in _branches(configuration))
    if len(levels) < 2:
        raise PlanError(
            f"{configuration.network}: trained without deep supervision, X[0,{levels[0]}] alone has learnt to answer; "
            "expected a loss at several nodes of full resolution (supervision_weights). Train it with these, or train "
            "a smaller network by itself: --network-option most_levels=LEVELS."
        )
    return tuple(levels)


def pruned_configuration(configuration: Configuration, level: int) -> Configuration:
    """The configuration of the branch X[0, level] alone: the first level + 1 levels and the heads X[0, level..1].

    Their weights in the loss are scaled to sum to 1. Guidance at the bottleneck, which is cut off, is given up. Raises
    PlanError as `prunable_levels` does, and at a level that is not among them.
    """
    known = prunable_levels(configuration)
    if level not in known:
        listed = ", ".join(str(one) for one in known)
        raise PlanError(f"{configuration.network}: found level {level} to prune to, expected one of {listed}.")
    kept = [weight for node, weight in _branches(configuration).items() if node.column <= level]
    options = dict(configuration.network_options)
    if configuration.row.guidance == "bottleneck" and level < len(configuration.strides):
        options["guidance"] = "none"
    return replace(
        configuration,
        features=configuration.features[: level + 1],
        strides=configuration.strides[:level],
        kernel_sizes=configuration.kernel_sizes[: level + 1],
        encoder_convolutions=configuration.encoder_convolutions[: level + 1],
        decoder_convolutions=configuration.decoder_convolutions[:level],
        supervision_weights=normalised(kept) if sum(kept) > 0 else uniform_weights(len(kept)),
        network_options=options,
    )


def pruned_weights(weights: Mapping[str, torch.Tensor], configuration: Configuration) -> dict[str, torch.Tensor]:
    """Those of a whole network's weights that the pruned `configuration` has a place for; copies, in its order.

    Raises KeyError where `weights` are of another network.
    """
    with torch.device("meta"):  # names do not depend on the numbers of channels and classes
        network = GridNetwork(configuration, in_channels=1, num_classes=2)
    return {name: weights[name].clone() for name in network.state_dict()}


def _branches(configuration: Configuration) -> dict[Node, float]:
    """The supervised nodes of full resolution, the deepest first, with their weights in the loss."""
    heads = configuration.row.supervised(len(configuration.features))
    pairs = zip(heads, configuration.supervision_weights, strict=False)  # fewer weights leave the last heads out
    return {node: weight for node, weight in pairs if node.level == 0}
