"""Optimisers by name, their state as named tensors, and the moving average of the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from msseg.errors import MssegError
from msseg.training.muon import Muon

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "muon": Muon,
    "sgd": torch.optim.SGD,
}
# Those that treat parameters by what they belong to.
_TAKING_NAMES = ("muon",)


def build_optimiser(
    name: str, network: nn.Module, learning_rate: float, weight_decay: float, options: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """The optimiser over all parameters of the network; MssegError lists the known names, or says what it refuses."""
    if name not in OPTIMISERS:
        raise MssegError(f"optimiser {name!r}: unknown. Known are: {', '.join(OPTIMISERS)}.")
    parameters = network.named_parameters() if name in _TAKING_NAMES else network.parameters()
    try:
        return OPTIMISERS[name](parameters, lr=learning_rate, weight_decay=weight_decay, **options)
    except (TypeError, ValueError) as problem:
        raise MssegError(
            f"optimiser {name}: refuses {dict(options)} ({problem}). Change the recipe's values."
        ) from None


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state of the optimiser, named `<number of the parameter>/<name>`; its settings are the recipe's."""
    state = optimiser.state_dict()["state"]
    return {
        f"{number}/{name}": torch.as_tensor(value)
        for number, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def load_optimiser_tensors(optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `optimiser_tensors` gave."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/", 1)
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def set_learning_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """The same rate for all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, updates: int) -> None:
    """Move `average` towards `network` by 1 - decay, faster at the start.

    The decay grows as (1 + n) / (10 + n), so that the first, random weights are forgotten in a few steps. A batch
    norm's running statistics move like the weights that they belong to; what counts is copied.
    """
    ramped = min(decay, (1 + updates) / (10 + updates))
    pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
    moving = [(target, source) for target, source in pairs if target.is_floating_point()]
    torch._foreach_lerp_([target for target, _ in moving], [source for _, source in moving], 1 - ramped)
    for target, source in pairs:
        if not target.is_floating_point():
            target.copy_(source)


def running_statistics(network: nn.Module) -> list[torch.Tensor]:
    """Copies of what the forward pass in training changes beside gradients: the buffers of batch norms."""
    return [buffer.clone() for buffer in network.buffers()]


@torch.no_grad()
def put_back(network: nn.Module, statistics: list[torch.Tensor]) -> None:
    """Undo what a forward pass did to the buffers since `running_statistics`."""
    for buffer, before in zip(network.buffers(), statistics, strict=True):
        buffer.copy_(before)


def learning_rate_of(optimiser: torch.optim.Optimizer) -> float:
    """The rate that all parameters share."""
    return float(optimiser.param_groups[0]["lr"])
