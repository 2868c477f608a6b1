"""The width of network with which a time budget holds enough steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from msseg.networks.build import build_network
from msseg.training.recipes import scaled_features
from planning.plan import Configuration

BASE_FEATURES = (24, 16, 12, 8)


def fitted_width(
    configuration: Configuration, seconds_per_step: Callable[[Configuration], float], budget_s: float, steps: int
) -> Configuration:
    """The configuration with the widest network, from the planned one down, of which `steps` steps fit `budget_s`.

    A network sees its first few thousand patches with more profit than it has of its width. Where not even the
    narrowest fits, that one is taken.
    """
    candidates = [configuration, *_narrower(configuration)]
    for candidate in candidates[:-1]:
        if seconds_per_step(candidate) * steps <= budget_s:
            return candidate
    return candidates[-1]


def _narrower(configuration: Configuration) -> Sequence[Configuration]:
    planned = configuration.features
    return [
        replace(configuration, features=scaled_features(planned, base)) for base in BASE_FEATURES if base < planned[0]
    ]


def measured_seconds_per_step(
    configuration: Configuration,
    in_channels: int,
    num_classes: int,
    device: torch.device,
    dtype: torch.dtype | None,
    clock: Callable[[], float],
) -> float:
    """Seconds that forward and backward of one batch take, after one to warm up."""
    network = build_network(configuration, in_channels, num_classes).to(device).train()
    batch = torch.zeros((configuration.batch_size, in_channels, *configuration.patch_size), device=device)
    seconds = 0.0
    for _ in range(2):
        start = clock()
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            logits = network(batch)
        torch.stack([level.float().square().mean() for level in logits]).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = clock() - start
    return seconds
