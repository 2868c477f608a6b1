"""torch.compile where a probe shows that it works and helps."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from msseg.networks.outputs import Outputs
from msseg.training.probing import probe_step

_PROBE_STEPS = 3
_WORTH_IT = 0.95
_SECONDS_TO_PAY_BACK = 1800.0


def worth_probing(device: torch.device, budget_s: float | None) -> bool:
    """Whether compiling can pay: on CUDA, when training lasts long enough to win the compile time back.

    On a CPU compiling takes minutes and has not been seen to help these networks.
    """
    return device.type == "cuda" and (budget_s is None or budget_s >= _SECONDS_TO_PAY_BACK)


def compiled_if_faster(
    network: nn.Module,
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype | None,
    report: Callable[[str], None],
) -> Callable[[torch.Tensor], Outputs]:
    """The compiled network, or the network itself where compiling fails or gains under 5 %; reports which, once.

    `shape` is a batch's (b, c, *spatial). Weights, buffers and gradients are left as they were.
    """
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        eager_s = _seconds_per_step(network, shape, device, dtype)
        candidate = torch.compile(network)
        compiled_s = _seconds_per_step(candidate, shape, device, dtype)
    except Exception as error:  # Compilers fail in ways of their own; training goes on without.
        report(f"torch.compile does not work here ({type(error).__name__}); training without it")
        return network
    finally:
        network.load_state_dict(before)
        network.zero_grad(set_to_none=True)
    helps = compiled_s < _WORTH_IT * eager_s
    report(f"torch.compile: {compiled_s:.3f} s a step against {eager_s:.3f} s; {'used' if helps else 'not used'}")
    return candidate if helps else network


def _seconds_per_step(
    forward: Callable[[torch.Tensor], Outputs],
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype | None,
) -> float:
    batch = torch.zeros(shape, device=device)
    probe_step(forward, batch, dtype)
    start = time.perf_counter()
    for _ in range(_PROBE_STEPS):
        probe_step(forward, batch, dtype)
    return (time.perf_counter() - start) / _PROBE_STEPS
