"""Sums over a batch that several processes share: each process gets those of all, and so the loss of the whole batch.

Without a process group (`torch.distributed`) everything stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed


def is_shared() -> bool:
    """Whether the batch is divided among processes."""
    return distributed.is_available() and distributed.is_initialized()


def whole_batch(*sums: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The sums, of any shapes, added over all processes in one exchange; float32 where they were integers.

    Differentiable: averaging the gradients over the processes, as DistributedDataParallel does, gives the gradient of
    the whole batch, however it was divided.
    """
    if not is_shared():
        return sums
    dtype = torch.promote_types(torch.float32, max((each.dtype for each in sums), key=_precision))
    flat: torch.Tensor = _Total.apply(torch.cat([each.reshape(-1).to(dtype) for each in sums]))
    parts = flat.split([each.numel() for each in sums])
    return tuple(part.view(each.shape) for part, each in zip(parts, sums, strict=True))


def batch_mean(values: torch.Tensor) -> torch.Tensor:
    """The mean of all values, of which each process has those of its samples, a scalar."""
    if not is_shared():
        return values.mean()
    total, count = whole_batch(values.sum(), values.new_tensor(values.numel()))
    return total / count


def _precision(dtype: torch.dtype) -> int:
    return int(dtype.is_floating_point) * dtype.itemsize


class _Total(torch.autograd.Function):
    """The sum over the processes; what each does with it comes back to all."""

    @staticmethod
    def forward(_ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return _added(x)

    @staticmethod
    def backward(_ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _added(gradient)


def _added(x: torch.Tensor) -> torch.Tensor:
    total = x.contiguous().clone()
    distributed.all_reduce(total)
    return total
