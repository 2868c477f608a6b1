"""The width of network with which a time budget holds enough steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from msseg.networks.build import build_network
from msseg.training.probing import probe_step
from msseg.training.recipes import scaled_features
from planning.plan import Configuration

BASE_FEATURES = (8, 12, 16, 24, 32, 48)


def fitted_width(
    configuration: Configuration, seconds_per_step: Callable[[Configuration], float], budget_s: float, steps: int
) -> Configuration:
    """The configuration with the widest network, up to the planned one, of which `steps` steps fit `budget_s`.

    A network sees its first few thousand patches with more profit than it has of its width. Widths are timed from the
    narrowest up: those that fit cost next to nothing of the budget. Where none fits, the narrowest is taken.
    """
    planned = configuration.features
    narrower = [replace(configuration, features=scaled_features(planned, b)) for b in BASE_FEATURES if b < planned[0]]
    candidates = [*narrower, configuration]
    chosen = candidates[0]
    for candidate in candidates:
        if seconds_per_step(candidate) * steps > budget_s:
            break
        chosen = candidate
    return chosen


def measured_seconds_per_step(
    configuration: Configuration,
    in_channels: int,
    num_classes: int,
    device: torch.device,
    dtype: torch.dtype | None,
    clock: Callable[[], float],
    make_optimiser: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
) -> float:
    """Seconds that a step on one batch takes, after one to warm up; infinite where memory gives out.

    A step is forward, backward and, where one is made, the optimiser's update, which in wide networks may be the most.
    """
    try:
        network = build_network(configuration, in_channels, num_classes).to(device).train()
        optimiser = None if make_optimiser is None else make_optimiser(network)
        channels = configuration.input_channels(in_channels)
        batch = torch.zeros((configuration.batch_size, channels, *configuration.patch_size), device=device)
        return _seconds_of_second_step(network, optimiser, batch, dtype, clock)
    except torch.cuda.OutOfMemoryError:
        return math.inf


def _seconds_of_second_step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer | None,
    batch: torch.Tensor,
    dtype: torch.dtype | None,
    clock: Callable[[], float],
) -> float:
    seconds = 0.0
    for _ in range(2):
        start = clock()
        probe_step(network, batch, dtype)
        if optimiser is not None:
            optimiser.step()
        seconds = clock() - start
    return seconds
