"""How much memory the prediction of one case takes, from shapes alone. Standard library and `planning` only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from planning.counting import parameters
from planning.plan import Configuration

SINGLE_BYTES, HALF_BYTES = 4, 2
# Voxels of input that a lane of a CPU (`lanes`) takes through the network at once: a patch fills its cache, and more
# only leave it. All lanes together take no more than one large patch would.
CPU_VOXELS_AT_ONCE = 1 << 17
_CPU_VOXELS_OF_ALL = 1 << 20
# The same of other devices: on a GPU a patch of the largest usual size (128³) is taken eight-fold, as its mirrors.
_VOXELS_AT_ONCE = {"cuda": 1 << 24, "mps": 1 << 21}
# What the process holds before the first case: torch and what else is imported. Measured.
PROCESS_BYTES = 235 * 10**6
# Feature maps of the first level's width that are alive at once, and what convolutions hold transformed. Measured with
# plain U-Nets of 32 features: a peak of 200 MB on a patch of 40 × 56 × 40, of 1294 MB on one of 64 × 128 × 112.
_FULL_MAPS = 9.7
_TRANSFORM_BYTES = 57 * 10**6
# Winograd's filters, kept beside the weights that they are made of, as a share of all weights.
_TRANSFORMED_FILTERS = 1.6
# A slab of scores of one class, resampled, the best so far and their comparison.
_SLAB_BYTES = 64 << 20


def patches_at_once(device_type: str, patch_voxels: int, cores: int) -> int:
    """How many patches go through the network at once on a kind of device; `cores` are those of a CPU."""
    if device_type == "cpu":
        return cpu_batch(patch_voxels, cores)
    return max(1, _VOXELS_AT_ONCE.get(device_type, 1) // patch_voxels)


def cpu_batch(patch_voxels: int, cores: int) -> int:
    """How many patches go through the network at once on so many cores of a CPU, one or more on each lane."""
    in_lane = max(1, CPU_VOXELS_AT_ONCE // patch_voxels)
    return in_lane * lanes_for(_CPU_VOXELS_OF_ALL // (in_lane * patch_voxels), cores)


def lanes_for(parts: int, cores: int) -> int:
    """The most lanes that `cores` are divided into without a rest, no more than there are parts for them."""
    return max(count for count in range(1, max(1, min(parts, cores)) + 1) if cores % count == 0)


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
    kept_bytes: int = 0,
) -> int:
    """Bytes of scores, answers and labels of one case: what `PredictionOptions.max_bytes` bounds.

    Scores of one row of tiles, the answers of a batch, the rows that go to the image's grid, and the label map there;
    `kept_bytes` are those of probabilities that are kept.
    """
    answers = batch_size * num_classes * math.prod(patch) * SINGLE_BYTES
    label_bytes = 1 if num_classes <= 256 else 2
    labels = math.prod(new_shape) * label_bytes
    return rolling_bytes(num_classes, shape, patch, value_bytes) + answers + labels + _SLAB_BYTES + kept_bytes


def prediction_bytes(
    configuration: Configuration,
    num_classes: int,
    prepared_shape: Sequence[int],
    image_shape: Sequence[int],
    max_bytes: int | None = None,
    in_channels: int = 1,
    folds: int = 1,
    cores: int = 1,
) -> int:
    """Predicted peak of a process that segments one case on so many CPU cores, from shapes (z, y, x) alone.

    The image as read counts too: on a CPU the process keeps what it frees. Where `max_bytes` does not hold the scores
    they count in half precision.
    """
    patch = (1,) * (3 - configuration.dimensions) + configuration.patch_size
    batch_size = cpu_batch(math.prod(patch), cores)
    needs = partial(case_bytes, num_classes, prepared_shape, patch, image_shape, batch_size)
    scores = needs(SINGLE_BYTES)
    if max_bytes is not None and scores > max_bytes:
        scores = needs(HALF_BYTES)
    voxel_bytes = in_channels * SINGLE_BYTES
    copies = 2 if configuration.neighbour_slices else 1  # where neighbours lie side by side
    images = voxel_bytes * (copies * math.prod(prepared_shape) + math.prod(image_shape))
    weights = folds * SINGLE_BYTES * parameters(configuration, in_channels, num_classes)
    network = round((1 + _TRANSFORMED_FILTERS) * weights) + forward_bytes(configuration, batch_size, in_channels)
    return PROCESS_BYTES + images + scores + network


def forward_bytes(configuration: Configuration, batch_size: int, in_channels: int) -> int:
    """Bytes that live at once while a batch of patches passes a U-Net on the CPU, without weights and answer.

    The blocks at full resolution are where they are most.
    """
    voxels = batch_size * math.prod(configuration.patch_size)
    values = voxels * (_FULL_MAPS * configuration.features[0] + configuration.input_channels(in_channels))
    return round(SINGLE_BYTES * values) + _TRANSFORM_BYTES


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
