"""Whether the hand-made CPU paths serve a tensor, and the layout that they share.

They are for float arithmetic outside autocast, where most time went into layout copies and slow reductions of the
stock operators; everywhere else (GPU, autocast, compilers, export) PyTorch's own operators run.
"""

from __future__ import annotations

import torch

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def serves(x: torch.Tensor) -> bool:
    """True for a float32 or float64 tensor on the CPU, outside autocast and torch.compile or export."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """`x` (b, c, *spatial) with its channels innermost in memory; itself where they are."""
    return x.contiguous(memory_format=_FORMATS[x.ndim])


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """`x` (b, c, *spatial) as (b, voxels, c): a view where the channels are innermost."""
    return x.movedim(1, -1).reshape(x.shape[0], -1, x.shape[1])


def from_rows(rows: torch.Tensor, spatial: tuple[int, ...]) -> torch.Tensor:
    """The view (b, c, *spatial) of `rows` (b, voxels, c)."""
    return rows.reshape(rows.shape[0], *spatial, rows.shape[2]).movedim(-1, 1)
