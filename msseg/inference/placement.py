"""Where the networks, the image and the scores of one case lie, and what is tried next where memory gives out."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from msseg.errors import ResourceError

_Result = TypeVar("_Result")
_CPU = torch.device("cpu")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placement:
    """One way to compute a case: `batch_size` tiles at a time on `device`, image and scores (of `dtype`) on `keep_on`.

    `because` says why it is not the first choice.
    """

    device: torch.device
    keep_on: torch.device
    batch_size: int
    dtype: torch.dtype = torch.float32
    because: str = ""


def placements(device: torch.device, batch_size: int, dtype: torch.dtype = torch.float32) -> list[Placement]:
    """The ways to compute a case, the fastest first; on the CPU there is but one."""
    first = Placement(device, device, batch_size, dtype)
    if device.type == "cpu":
        return [first]
    smaller = sorted({max(1, batch_size // 4), 1} - {batch_size}, reverse=True)
    found = [first]
    found += [replace(first, batch_size=size, because=f"batches of {size} instead of {batch_size}") for size in smaller]
    found += [
        replace(first, keep_on=_CPU, batch_size=size, because="the scores are kept in main memory")
        for size in (batch_size, *smaller)
    ]
    return [*found, Placement(_CPU, _CPU, batch_size, dtype, because="the CPU computes instead")]


def first_that_fits(
    ways: Sequence[Placement], attempt: Callable[[Placement], _Result], release: Callable[[], None] = lambda: None
) -> _Result:
    """What `attempt` makes of the first placement whose memory holds it; each fall back is said once.

    An attempt starts from nothing; `release` gives up what a failed one has left. Raises ResourceError where none fits.
    """
    for way in ways:
        if way.because:
            _say_once(f"The memory of the {ways[0].device.type} device is full: {way.because}.")
        try:
            return attempt(way)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here, when the error is gone, are the tensors gone that its traceback held.
        release()
        if ways[0].device.type == "cuda":
            torch.cuda.empty_cache()
    raise ResourceError(
        "memory gave out while the scores of an image were computed; expected room for one row of tiles of all "
        "classes. Free memory, allow less for it (--max-ram), or predict on a machine with more."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory gave out, on a device or on the CPU."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and ("not enough memory" in str(error) or "out of memory" in str(error))


def score_type(bytes_with: Callable[[int], int], max_bytes: int | None, free: int | None) -> torch.dtype:
    """float32 where `max_bytes`, else the `free` memory, holds the case, else float16; float32 where neither is known.

    `bytes_with(value_bytes)` is what the case takes. In half precision each of the n tiles that meet in a voxel rounds
    its mean by up to 2⁻¹¹ of the largest score. Raises ResourceError where not even that fits.
    """
    limit = max_bytes if max_bytes is not None else free
    if limit is None or bytes_with(torch.float32.itemsize) <= limit:
        return torch.float32
    needed = bytes_with(torch.float16.itemsize)
    if needed > limit:
        found = "the limit leaves" if max_bytes is not None else "this machine has"
        raise ResourceError(
            f"the scores of the image take {needed / 1e9:.2f} GB even in half precision, but {found} "
            f"{limit / 1e9:.2f} GB for them. Allow more (--max-ram), or predict where there is more memory."
        )
    _say_once("Memory is short: the scores of large images are kept in half precision.")
    return torch.float16


@functools.cache
def _say_once(message: str) -> None:
    _log.warning(message)
