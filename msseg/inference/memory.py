"""How much memory the prediction of one case takes, from shapes alone. Standard library and `planning` only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

SINGLE_BYTES, HALF_BYTES = 4, 2
# A slab of scores of one class, resampled, the best so far and their comparison.
_SLAB_BYTES = 64 << 20


def rolled_axis(shape: Sequence[int], patch: Sequence[int]) -> int:
    """The axis along which rows of tiles are finished: where the patch is the smallest part of the image.

    So many scores as one row of tiles covers are held at a time; across this axis that is the least.
    """
    return min(range(len(patch)), key=lambda axis: patch[axis] / max(shape[axis], patch[axis]))


def rolling_bytes(num_classes: int, shape: Sequence[int], patch: Sequence[int], value_bytes: int) -> int:
    """Bytes of the scores (k, z, y, x) that are held at a time: one row of tiles across the whole image."""
    padded = [max(length, size) for length, size in zip(shape, patch, strict=True)]
    axis = rolled_axis(shape, patch)
    padded[axis] = patch[axis]
    return num_classes * math.prod(padded) * value_bytes


def case_bytes(
    num_classes: int,
    shape: Sequence[int],
    patch: Sequence[int],
    new_shape: Sequence[int],
    batch_size: int,
    value_bytes: int = SINGLE_BYTES,
) -> int:
    """Bytes of scores, answers and labels of one case: what `PredictionOptions.max_bytes` bounds.

    Scores of one row of tiles, the answers of a batch, the rows that go to the image's grid, and the label map there.
    """
    answers = batch_size * num_classes * math.prod(patch) * SINGLE_BYTES
    label_bytes = 1 if num_classes <= 256 else 2
    labels = math.prod(new_shape) * label_bytes
    return rolling_bytes(num_classes, shape, patch, value_bytes) + answers + labels + _SLAB_BYTES


def free_bytes() -> int | None:
    """Memory that this process may still take without another giving way, None where the system does not say."""
    found = [read() for read in (_available, _left_of_group)]
    known = [size for size in found if size is not None]
    return min(known) if known else None


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _left_of_group(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a control group's limit (version 2) leaves."""
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None
    return max(0, limit - used)
