"""How a training step is computed on a device: precision, memory layout, the optimiser's kernel, compiled or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from msseg.devices import autocast_dtype
from msseg.losses.supervision import SupervisedLoss
from msseg.networks.outputs import Outputs
from msseg.training.optimisers import build_optimiser
from msseg.training.recipes import Recipe

_LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}
_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FUSED = ("adam", "adamw", "sgd")
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class StepPlan:
    """`dtype` is autocast's, None for float32 throughout; `channels_last` puts channels innermost in memory; `fused`
    updates all weights in one kernel; `compiled` runs the network through torch.compile."""

    dtype: torch.dtype | None = None
    channels_last: bool = False
    fused: bool = False
    compiled: bool = False

    def words(self) -> str:
        """The plan in a few words."""
        parts = ("channels last", self.channels_last), ("fused optimiser", self.fused), ("compiled", self.compiled)
        return ", ".join([_NAMES[self.dtype], *(name for name, chosen in parts if chosen)])

    def as_json(self) -> dict[str, Any]:
        return {
            "dtype": _NAMES[self.dtype],
            "channels_last": self.channels_last,
            "fused": self.fused,
            "compiled": self.compiled,
        }


def step_plan_from_json(value: Mapping[str, Any]) -> StepPlan:
    """The plan that `as_json` gave; KeyError where it is of another make."""
    return StepPlan(
        dtype=_DTYPES[value["dtype"]],
        channels_last=bool(value["channels_last"]),
        fused=bool(value["fused"]),
        compiled=bool(value["compiled"]),
    )


def unmeasured_plan(device: torch.device) -> StepPlan:
    """What is done without a probe: the device's own precision, and on a CPU the fused optimiser.

    There it takes a seventh to a half of the time of the default, measured on networks of 16 and 32 features.
    """
    return StepPlan(dtype=autocast_dtype(device), fused=device.type == "cpu")


def laid_out(network: nn.Module, dimensions: int, plan: StepPlan) -> nn.Module:
    """The network itself, its weights laid out as the plan has it."""
    if plan.channels_last:
        network.to(memory_format=_LAYOUTS[dimensions])  # type: ignore[call-overload]
    return network


def image_laid_out(image: torch.Tensor, plan: StepPlan) -> torch.Tensor:
    """A batch (b, c, *spatial) laid out as the plan has it."""
    return image.contiguous(memory_format=_LAYOUTS[image.ndim - 2]) if plan.channels_last else image


def forward_of(network: nn.Module, plan: StepPlan) -> Callable[[torch.Tensor], Outputs]:
    """What a step calls with its images."""
    return torch.compile(network) if plan.compiled else network


class LossOf(nn.Module):
    """The loss, a scalar, of images (b, c, *spatial) and their labels (b, *spatial), the network's part in autocast.

    One module from images to loss, so that DistributedDataParallel sees which weights the loss reaches.
    """

    def __init__(self, network: Callable[[torch.Tensor], Outputs], loss: SupervisedLoss, plan: StepPlan):
        super().__init__()
        self.network, self.loss, self.dtype = network, loss, plan.dtype

    def forward(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with torch.autocast(image.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            outputs = self.network(image)
        return self.loss(outputs, target)


def optimiser_of(network: nn.Module, recipe: Recipe, plan: StepPlan) -> torch.optim.Optimizer:
    """The recipe's optimiser over the network."""
    options = dict(recipe.optimiser_options)
    if plan.fused and recipe.optimiser in _FUSED:
        options["fused"] = True
    return build_optimiser(recipe.optimiser, network, recipe.learning_rate, recipe.weight_decay, options)


def state_laid_out(optimiser: torch.optim.Optimizer) -> None:
    """Lay out what the optimiser keeps of each weight as the weight is, which a checkpoint does not."""
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.ndim > 1:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
