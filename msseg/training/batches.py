"""Batches: batch k of a source is a pure function of (seed, k), whoever makes it and whenever."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msseg.data.store import StoredCase, open_case, read_patch
from msseg.errors import DatasetError
from msseg.training.augmentation import Augmentation, read_size
from msseg.training.sampling import (
    PADDING_IMAGE,
    PADDING_LABEL,
    choose_cases,
    choose_lower,
    forced_foreground,
    grow_around,
    inside_and_padding,
)

# Opened cases are memory maps; each holds file descriptors, of which a process often has only 1024.
_OPEN_CASES = 200


class Batch(NamedTuple):
    """Image (b, c, *patch) float32 and class indices (b, *patch) int16, -1 outside the image."""

    image: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class BatchSource:
    """All that a batch depends on besides its index; small, so that it travels to workers.

    `patch_size` of two axes takes slices across the first axis of the stored volumes. `stream` keeps sources of
    one seed apart. No `augmentation` means patches as they are stored.
    """

    store: Path
    case_names: tuple[str, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    seed: int
    stream: int = 0
    foreground_share: float = 0.33
    augmentation: Augmentation | None = None
    dummy_2d: bool = False
    mirror_axes: tuple[int, ...] = ()


def make_batch(source: BatchSource, index: int) -> Batch:
    """Batch `index` of the source: the same arrays at every call, in every process."""
    generator = np.random.default_rng(np.random.SeedSequence((source.seed, source.stream, index)))
    forced = forced_foreground(source.batch_size, source.foreground_share)
    chosen = choose_cases(generator, len(source.case_names), source.batch_size)
    patches = [
        _read_sample(source, source.case_names[case], foreground, generator)
        for case, foreground in zip(chosen, forced, strict=True)
    ]
    image = np.stack([image for image, _ in patches])
    label = np.stack([label for _, label in patches])
    if source.augmentation is not None:
        image, label = _augment(source, image, label, generator)
    return Batch(np.ascontiguousarray(image, np.float32), np.ascontiguousarray(label, np.int16))


def _read_sample(
    source: BatchSource, name: str, foreground: bool, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    stored = _open_case(source.store, name)
    size = _read_size(source)
    flat = len(size) == 2
    patch_zyx = (1, *source.patch_size) if flat else source.patch_size
    lower = choose_lower(generator, stored.image.shape[1:], patch_zyx, stored.locations, foreground)
    image, label = padded_patch(stored, *grow_around(lower, patch_zyx, (1, *size) if flat else size))
    return (image[:, 0], label[0]) if flat else (image, label)


def padded_patch(stored: StoredCase, lower: Sequence[int], upper: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Image (c, z, y, x) and label (z, y, x) of a region that may leave the case: 0 and -1 outside it."""
    inner_lower, inner_upper, padding = inside_and_padding(stored.image.shape[1:], lower, upper)
    image, label = read_patch(stored, inner_lower, inner_upper)
    if label is None:
        raise DatasetError(
            f"case {stored.name}: stored without a label, so it cannot be trained on. Preprocess it again."
        )
    return (
        np.pad(image.astype(np.float32, copy=False), ((0, 0), *padding), constant_values=PADDING_IMAGE),
        np.pad(label.astype(np.int16, copy=False), padding, constant_values=PADDING_LABEL),
    )


def _augment(
    source: BatchSource, image: np.ndarray, label: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    with legacy_randomness(int(generator.integers(2**32))):
        moved = _transforms(source)(data=image, seg=label[:, None].astype(np.float32))
    return moved["data"], np.rint(moved["seg"][:, 0])


@contextlib.contextmanager
def legacy_randomness(seed: int) -> Iterator[None]:
    """The global generators of numpy and Python, seeded inside and put back afterwards.

    batchgenerators knows no others.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@functools.lru_cache(maxsize=8)
def _transforms(source: BatchSource) -> Callable[..., dict[str, Any]]:
    # Loads batchgenerators, which augmentation on the device does without.
    from msseg.training.worker_augmentation import build_transforms

    assert source.augmentation is not None
    return build_transforms(source.augmentation, source.patch_size, source.dummy_2d, source.mirror_axes)


@functools.lru_cache(maxsize=8)
def _read_size(source: BatchSource) -> tuple[int, ...]:
    if source.augmentation is None:
        return source.patch_size
    return read_size(source.augmentation, source.patch_size, source.dummy_2d)


_open_case = functools.lru_cache(maxsize=_OPEN_CASES)(open_case)
