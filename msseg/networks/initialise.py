"""The first weights of a network, drawn from a generator so that a seed gives the same network everywhere."""

from __future__ import annotations

import torch
from torch import nn

_KERNELS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
_LEAKY_SLOPE = 0.01


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Kaiming-normal kernels for a leaky ReLU of slope 0.01 and zero biases; norms start as the identity.

    Every parameter is set, so the network may come from `to_empty`. Raises TypeError at a parameter it has no
    rule for.
    """
    for module in network.modules():
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, _KERNELS):
            nn.init.kaiming_normal_(module.weight, a=_LEAKY_SLOPE, generator=generator)
        elif "weight" in own and own["weight"].ndim == 1:
            nn.init.ones_(own["weight"])
        elif own:
            raise TypeError(f"no rule to initialise {type(module).__name__} with parameters {sorted(own)}.")
        if "bias" in own:
            nn.init.zeros_(own["bias"])
