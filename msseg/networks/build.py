"""From a plan's configuration to a network with its first weights."""

from __future__ import annotations

import torch

from msseg.networks.grid_network import GridNetwork
from msseg.networks.initialise import initialise
from planning.plan import Configuration


def build_network(
    configuration: Configuration,
    in_channels: int,
    num_classes: int,
    generator: torch.Generator | None = None,
) -> GridNetwork:
    """The network that `configuration` names, on the CPU, with weights drawn from `generator` (default: seed 0).

    `in_channels` are those of an image, which a configuration with neighbouring slices sees several times.
    Raises PlanError at a network that is not in the table. The global random state is left alone.
    """
    with torch.device("meta"):
        network = GridNetwork(configuration, configuration.input_channels(in_channels), num_classes)
    network.to_empty(device="cpu")
    initialise(network, generator or torch.Generator().manual_seed(0))
    return network
