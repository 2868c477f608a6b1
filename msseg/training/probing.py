"""A training step on nothing, to be timed."""

from __future__ import annotations

from collections.abc import Callable

import torch

from msseg.networks.outputs import Outputs


def probe_step(forward: Callable[[torch.Tensor], Outputs], batch: torch.Tensor, dtype: torch.dtype | None) -> None:
    """Forward and backward of one batch (b, c, *spatial) through everything the network answers, to its end."""
    with torch.autocast(batch.device.type, dtype=dtype, enabled=dtype is not None):
        outputs = forward(batch)
    points = [points.logits for points in outputs.points]
    answers = [*outputs.logits, *outputs.presence, *points, *outputs.coarse]
    torch.stack([answer.float().square().mean() for answer in answers]).sum().backward()
    if batch.device.type == "cuda":
        torch.cuda.synchronize(batch.device)
