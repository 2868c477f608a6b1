"""Which cases a batch takes and where its patches lie: pure functions of a generator and of what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from msseg.data.store import ANNOTATED

PADDING_IMAGE = 0.0
PADDING_LABEL = -1


def forced_foreground(batch_size: int, share: float) -> tuple[bool, ...]:
    """Which samples of a batch must show foreground: the last ones, from index round(batch * (1 - share)) on.

    The same patches of every batch, as nnU-Net has it, so that a batch of two always holds one.
    """
    first = round(batch_size * (1 - share))
    return tuple(index >= first for index in range(batch_size))


def choose_cases(generator: np.random.Generator, case_count: int, batch_size: int) -> list[int]:
    """Indices of the cases of one batch, drawn with replacement."""
    return [int(index) for index in generator.integers(case_count, size=batch_size)]


def random_lower(generator: np.random.Generator, shape: Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """Lower corner of a patch anywhere inside the image; an axis shorter than the patch is centred in it."""
    return tuple(
        int(generator.integers(length - patch + 1)) if length >= patch else -((patch - length) // 2)
        for length, patch in zip(shape, patch_size, strict=True)
    )


def foreground_lower(
    generator: np.random.Generator,
    shape: Sequence[int],
    patch_size: Sequence[int],
    locations: Mapping[int, np.ndarray],
) -> tuple[int, ...] | None:
    """Lower corner of a patch centred on a foreground voxel, as far as the image reaches; None where there is none.

    `locations` maps a class to voxels (n, d). The class is drawn first, uniformly, so that a small one is seen
    as often as a large one.
    """
    present = sorted(label for label, voxels in locations.items() if label > 0 and len(voxels))
    if not present:
        return None
    return _around_one(generator, shape, patch_size, locations[present[int(generator.integers(len(present)))]])


def _around_one(
    generator: np.random.Generator, shape: Sequence[int], patch_size: Sequence[int], voxels: np.ndarray
) -> tuple[int, ...]:
    """Lower corner of a patch centred, as far as the image reaches, on one of `voxels` (n, d)."""
    voxel = voxels[int(generator.integers(len(voxels)))]
    return tuple(
        _inside(int(place) - patch // 2, length, patch)
        for place, length, patch in zip(voxel, shape, patch_size, strict=True)
    )


def _inside(lower: int, length: int, patch: int) -> int:
    """The corner moved so that the patch covers no more padding than it must."""
    if length < patch:
        return -((patch - length) // 2)
    return min(max(lower, 0), length - patch)


def choose_lower(
    generator: np.random.Generator,
    shape: Sequence[int],
    patch_size: Sequence[int],
    locations: Mapping[int, np.ndarray],
    foreground: bool,
) -> tuple[int, ...]:
    """Lower corner of the next patch: on a foreground voxel if `foreground` and there is one, else anywhere.

    Where a part of the image is ignored, anywhere is on any voxel that is not: elsewhere nothing may be known.
    """
    lower = foreground_lower(generator, shape, patch_size, locations) if foreground else None
    if lower is None and ANNOTATED in locations:
        return _around_one(generator, shape, patch_size, locations[ANNOTATED])
    return random_lower(generator, shape, patch_size) if lower is None else lower


def grow_around(
    lower: Sequence[int], patch_size: Sequence[int], read_size: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Corners (lower, upper) of a region of `read_size` whose centre crop is the patch at `lower`."""
    start = tuple(place - (read - patch) // 2 for place, patch, read in zip(lower, patch_size, read_size, strict=True))
    return start, tuple(place + read for place, read in zip(start, read_size, strict=True))


def inside_and_padding(
    shape: Sequence[int], lower: Sequence[int], upper: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]:
    """The part of a region that lies in the image, and how many voxels to pad before and after it, per axis.

    A region wholly outside gives an empty part: lower == upper there.
    """
    inner_lower = tuple(min(max(low, 0), length) for low, length in zip(lower, shape, strict=True))
    inner_upper = tuple(
        max(min(high, length), low) for high, length, low in zip(upper, shape, inner_lower, strict=True)
    )
    padding = tuple(
        (inner_low - low, (high - low) - (inner_low - low) - (inner_high - inner_low))
        for low, high, inner_low, inner_high in zip(lower, upper, inner_lower, inner_upper, strict=True)
    )
    return inner_lower, inner_upper, padding
