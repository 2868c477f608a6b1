"""What one thread of this machine can do at best: matrix products, copies, files. Prints one line of JSON."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

_EDGE, _COPIED_VALUES, _WRITTEN_BYTES = 1024, 1 << 25, 1 << 27
_RUNS = 5


def floors() -> dict[str, float]:
    """Operations a second of a product (float32, bfloat16), bytes a second read and written by a copy and by files."""
    torch.set_num_threads(1)
    operations = 2 * _EDGE**3
    return {
        "float32_flops_per_s": operations / _fastest(_product(torch.float32)),
        "bfloat16_flops_per_s": operations / _fastest(_product(torch.bfloat16)),
        "copy_bytes_per_s": 2 * 4 * _COPIED_VALUES / _fastest(_copy()),
        **_files(),
    }


def _product(dtype: torch.dtype) -> Callable[[], object]:
    left, right = (torch.randn(_EDGE, _EDGE).to(dtype) for _ in range(2))
    return lambda: left @ right


def _copy() -> Callable[[], object]:
    source = np.ones(_COPIED_VALUES, np.float32)
    target = np.zeros_like(source)
    return lambda: np.copyto(target, source)


def _files() -> dict[str, float]:
    content = np.random.default_rng(0).bytes(_WRITTEN_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"

        def write() -> None:
            with path.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())

        return {"written_bytes_per_s": _WRITTEN_BYTES / _fastest(write, 2, time.monotonic)}


def _fastest(run: Callable[[], object], runs: int = _RUNS, clock: Callable[[], float] = time.process_time) -> float:
    """The least seconds of some runs, by default of the processor: other work on the machine can only add to them."""
    seconds = []
    for _ in range(runs):
        start = clock()
        run()
        seconds.append(clock() - start)
    return min(seconds)


if __name__ == "__main__":
    print(json.dumps(floors()))
