"""How the C library's allocator is told to keep the memory of freed tensors for the next ones."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 256 << 20


def keep_freed_memory() -> bool:
    """Whether the process now keeps freed memory instead of giving it back to the system after every tensor.

    By default glibc maps every tensor above 32 MB anew, and the kernel clears its pages again: about a tenth of a
    training step on the CPU. Call it once, before the first step; the process's memory then stays at its peak.
    False, and nothing done, where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(option, value) == 1 for option, value in options)
