"""The first weights of a network, drawn from a generator so that a seed gives the same network everywhere."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from msseg.networks.units import ConvolutionUnit

_WEIGHTED = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
_LEAKY_SLOPE = 0.01
_PRELU_SLOPE = 0.25


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Kaiming-normal convolutions and linear layers for a leaky ReLU of slope 0.01, zero biases, norms as identity.

    The norm of a unit that `starts_at_zero` has scale 0. Every parameter and running statistic is set, so the
    network may come from `to_empty`. Raises TypeError at a parameter or buffer it has no rule for.
    """
    for module in network.modules():
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
        elif [*module.buffers(recurse=False)]:
            raise TypeError(f"no rule to initialise the buffers of {type(module).__name__}.")
        if isinstance(module, _WEIGHTED):
            nn.init.kaiming_normal_(module.weight, a=_LEAKY_SLOPE, generator=generator)
        elif isinstance(module, nn.PReLU):
            nn.init.constant_(module.weight, _PRELU_SLOPE)
        elif "weight" in own and own["weight"].ndim == 1:
            nn.init.ones_(own["weight"])
        elif own:
            raise TypeError(f"no rule to initialise {type(module).__name__} with parameters {sorted(own)}.")
        if "bias" in own:
            nn.init.zeros_(own["bias"])
    for unit in network.modules():
        if isinstance(unit, ConvolutionUnit) and unit.starts_at_zero:
            for name, parameter in unit.norm_activation.named_parameters():
                if name.endswith("weight"):
                    nn.init.zeros_(parameter)
