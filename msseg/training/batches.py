"""Batches: batch k of a source is a pure function of (seed, k), whoever makes it and whenever."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from msseg.data.store import StoredCase, open_case
from msseg.errors import DatasetError
from msseg.mirroring import mirrored_places
from msseg.planes import previous_labels
from msseg.training.augmentation import Augmentation, read_size
from msseg.training.device_augmentation.draws import Draws, draw
from msseg.training.plane_draws import PlaneDraws, draw_planes
from msseg.training.sampling import (
    PADDING_IMAGE,
    PADDING_LABEL,
    choose_cases,
    choose_lower,
    forced_foreground,
    grow_around,
    inside_and_padding,
)
from planning.label_pairs import Sides

# Opened cases are memory maps; each holds file descriptors, of which a process often has only 1024.
_OPEN_CASES = 200
# What is drawn for planes is drawn apart, so that the rest of a batch does not depend on them.
_PLANES = 1


class Previous(NamedTuple):
    """What a cascade's first network predicted: `classes` (b, *patch) int16, -1 outside the image, as the label is.

    They are shown as `planes`, see `Plan.planes`, that are changed by `draws`; None leaves them as they are.
    """

    classes: np.ndarray
    planes: tuple[tuple[int, ...], ...]
    draws: PlaneDraws | None


class Batch(NamedTuple):
    """Image (b, c, *patch) float32 and class indices (b, *patch) int16, -1 outside the image.

    Of a cascade's second network also what the `previous` one predicted, which is not among the channels yet.
    """

    image: np.ndarray
    label: np.ndarray
    previous: Previous | None = None


@dataclass(frozen=True)
class BatchSource:
    """All that a batch depends on besides its index; small, so that it travels to workers.

    `patch_size` of two axes takes slices across the first axis of the stored volumes. `stream` keeps sources of
    one seed apart. No `augmentation` means patches as they are stored. `colour_channels` says where red, green and blue
    lie, where there are these. `padding` is one of the plan's `PADDINGS`. With `slices_as_channels` the patch is a
    stack (z, y, x) of a slice and its neighbours, mirrored at the ends of the volume; a batch has all of them as
    channels, those of the first slice first, and the label of the middle one. `sides` says which classes a mirror swaps
    and along which axis of the patch. `rows`, the first and the one after the last, are the samples of each batch that
    this process makes, as they would be among all; None makes all. `previous` is the folder of what a cascade's first
    network predicted of the cases, shown as `planes`.
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
    colour_channels: tuple[int, ...] = ()
    padding: str = "zeros"
    slices_as_channels: bool = False
    sides: Sides | None = None
    rows: tuple[int, int] | None = None
    previous: Path | None = None
    planes: tuple[tuple[int, ...], ...] = ()

    @property
    def samples(self) -> range:
        """The samples of a batch that are made."""
        return range(*(self.rows or (0, self.batch_size)))

    @property
    def mirrored(self) -> tuple[bool, ...]:
        """Along which axes (z, y, x) of a volume the image goes on as its mirror image."""
        plane = self.padding == "mirror"
        return self.slices_as_channels or plane, plane, plane


class ReadBatch(NamedTuple):
    """Image (b, c, *read) and label (b, *read) as in a `Batch`, what to do to them, and the source that says how.

    No `draws` where they are patches as they are stored; else those of all samples of the batch.
    """

    image: np.ndarray
    label: np.ndarray
    draws: Draws | None
    source: BatchSource
    previous: Previous | None = None


Array = TypeVar("Array", bound=Any)  # of numpy or of torch
Empty = Callable[[tuple[int, ...], Any], np.ndarray]


def make_batch(source: BatchSource, index: int) -> Batch:
    """Batch `index` of the source: the same arrays at every call, in every process."""
    generator = _generator(source, index)
    places = _choose_places(source, generator)
    if source.augmentation is None:
        places = _made(source, places)
        image, label = _read(source, places, source.patch_size)
        before = _read_previous(source, places, source.patch_size)
    else:  # of all samples: batchgenerators draws for one after another while it works
        size = _read_size(source)
        before = _read_previous(source, places, size)
        image, label, before = _augment(source, *_read(source, places, size), before, generator)
        image, label = _made(source, image), _made(source, label)
        before = None if before is None else _made(source, before)
    if source.slices_as_channels:
        image, label = stack_as_channels(image, label)
    previous = _previous(source, index, before)
    return Batch(np.ascontiguousarray(image, np.float32), np.ascontiguousarray(label, np.int16), previous)


def stack_as_channels(image: Array, label: Array) -> tuple[Array, Array]:
    """Stacks (b, c, z, y, x) and labels (b, z, y, x) as slices (b, z · c, y, x) with the middle label (b, y, x)."""
    middle = label.shape[1] // 2
    return image.swapaxes(1, 2).reshape(len(image), -1, *image.shape[3:]), label[:, middle]


def read_batch(source: BatchSource, index: int, empty: Empty = np.empty) -> ReadBatch:
    """Batch `index` of the source as it is read, of the same places as `make_batch`'s, and what is to be done to it.

    `empty` gives the memory to read into.
    """
    generator = _generator(source, index)
    places = _choose_places(source, generator)
    if source.augmentation is None:
        places = _made(source, places)
        image, label = _read(source, places, source.patch_size, empty)
        before = _read_previous(source, places, source.patch_size, empty)
        return ReadBatch(image, label, None, source, _previous(source, index, before))
    draws = draw(
        source.augmentation,
        generator,
        source.batch_size,
        len(places[0].stored.image),
        source.patch_size,
        source.dummy_2d,
        source.mirror_axes,
    )
    places = _made(source, places)
    image, label = _read(source, places, draws.read_size, empty)
    before = _read_previous(source, places, draws.read_size, empty)
    return ReadBatch(image, label, draws, source, _previous(source, index, before))


def _made(source: BatchSource, samples: Any) -> Any:
    """Those of a batch's samples that are made."""
    return samples if source.rows is None else samples[slice(*source.rows)]


class _Place(NamedTuple):
    """Where a patch lies: its case, and its lower corner (z, y, x)."""

    stored: StoredCase
    lower: tuple[int, ...]


def _generator(source: BatchSource, index: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((source.seed, source.stream, index, *purpose)))


def _previous(source: BatchSource, index: int, classes: np.ndarray | None) -> Previous | None:
    """What was read of the first network's predictions and what is to be done to it, alike in both ways."""
    if classes is None:
        return None
    draws = None
    if source.augmentation is not None:
        generator = _generator(source, index, _PLANES)
        draws = draw_planes(source.augmentation, generator, source.batch_size, len(source.planes)).of(source.samples)
    return Previous(np.ascontiguousarray(classes, np.int16), source.planes, draws)


def _choose_places(source: BatchSource, generator: np.random.Generator) -> list[_Place]:
    forced = forced_foreground(source.batch_size, source.foreground_share)
    chosen = choose_cases(generator, len(source.case_names), source.batch_size)
    places = []
    for case, foreground in zip(chosen, forced, strict=True):
        stored = _open_case(source.store, source.case_names[case])
        lower = choose_lower(generator, stored.image.shape[1:], _drawn_size(source), stored.locations, foreground)
        places.append(_Place(stored, _with_neighbours(lower, source)))
    return places


def _drawn_size(source: BatchSource) -> tuple[int, ...]:
    """The size (z, y, x) of what is put into the image; a slice's neighbours are wherever it is."""
    return (1, *source.patch_size[1:]) if source.slices_as_channels else _volume(source.patch_size)


def _with_neighbours(lower: tuple[int, ...], source: BatchSource) -> tuple[int, ...]:
    before = source.patch_size[0] // 2 if source.slices_as_channels else 0
    return (lower[0] - before, *lower[1:])


def _volume(size: tuple[int, ...]) -> tuple[int, ...]:
    """The size (z, y, x) of a patch, of which one of two axes is a slice."""
    return (1, *size) if len(size) == 2 else size


def _read(
    source: BatchSource, places: Sequence[_Place], size: tuple[int, ...], empty: Empty = np.empty
) -> tuple[np.ndarray, np.ndarray]:
    """Image (b, c, *size) and label (b, *size) around the patches at `places`."""
    image = empty((len(places), len(places[0].stored.image), *_volume(size)), np.float32)
    label = empty((len(places), *_volume(size)), np.int16)
    for sample, (stored, lower) in enumerate(places):
        corners = grow_around(lower, _volume(source.patch_size), _volume(size))
        _read_padded(stored, *corners, image[sample], label[sample], source.mirrored)
    return image.reshape(*image.shape[:2], *size), label.reshape(len(label), *size)


def _read_previous(
    source: BatchSource, places: Sequence[_Place], size: tuple[int, ...], empty: Empty = np.empty
) -> np.ndarray | None:
    """What the first network predicted (b, *size) around the patches at `places`, -1 outside the case."""
    if source.previous is None:
        return None
    classes = empty((len(places), *_volume(size)), np.int16)
    for region, (stored, lower) in zip(classes, places, strict=True):
        corners = grow_around(lower, _volume(source.patch_size), _volume(size))
        inner_lower, inner_upper, padding = inside_and_padding(stored.image.shape[1:], *corners)
        region.fill(PADDING_LABEL)
        inside = tuple(slice(before, edge - after) for (before, after), edge in zip(padding, region.shape, strict=True))
        box = tuple(slice(low, high) for low, high in zip(inner_lower, inner_upper, strict=True))
        region[inside] = _open_previous(source.previous, stored.name)[box]
    return classes.reshape(len(classes), *size)


def padded_patch(stored: StoredCase, lower: Sequence[int], upper: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Image (c, z, y, x) and label (z, y, x) of a region that may leave the case: 0 and -1 outside it."""
    size = tuple(high - low for low, high in zip(lower, upper, strict=True))
    image, label = np.empty((len(stored.image), *size), np.float32), np.empty(size, np.int16)
    _read_padded(stored, lower, upper, image, label)
    return image, label


def _read_padded(
    stored: StoredCase,
    lower: Sequence[int],
    upper: Sequence[int],
    image: np.ndarray,
    label: np.ndarray,
    mirrored: Sequence[bool] = (False, False, False),
) -> None:
    """Fill image (c, z, y, x) and label (z, y, x) with a region; read straight into place, as large patches want.

    Outside the case the label is -1 and the image 0, or its mirror image along the axes that are `mirrored`.
    """
    if stored.label is None:
        raise DatasetError(
            f"case {stored.name}: stored without a label, so it cannot be trained on. Preprocess it again."
        )
    inner_lower, inner_upper, padding = inside_and_padding(stored.image.shape[1:], lower, upper)
    inside = tuple(slice(before, size - after) for (before, after), size in zip(padding, label.shape, strict=True))
    box = tuple(slice(low, high) for low, high in zip(inner_lower, inner_upper, strict=True))
    all_channels = (slice(None),)
    if any(before or after for before, after in padding):
        image.fill(PADDING_IMAGE)
        label.fill(PADDING_LABEL)
    label[inside] = stored.label[box]
    if any(mirror and any(widths) for mirror, widths in zip(mirrored, padding, strict=True)):
        _fill_mirrored(stored.image, lower, upper, image, mirrored)
    else:
        image[all_channels + inside] = stored.image[all_channels + box]


def _fill_mirrored(
    stored_image: np.ndarray, lower: Sequence[int], upper: Sequence[int], image: np.ndarray, mirrored: Sequence[bool]
) -> None:
    """Fill the part of image (c, z, y, x) that lies inside along the axes that are not `mirrored`."""
    targets, boxes, picked = [slice(None)], [slice(None)], [np.arange(len(stored_image))]
    for low, high, length, mirror in zip(lower, upper, stored_image.shape[1:], mirrored, strict=True):
        inner = np.arange(max(low, 0), min(high, length))
        places = mirrored_places(low, high, length) if mirror else inner
        first = int(places.min(initial=length))
        targets.append(slice(None) if mirror else slice(max(-low, 0), max(-low, 0) + len(inner)))
        boxes.append(slice(first, int(places.max(initial=first)) + 1))
        picked.append(places - first)
    image[tuple(targets)] = stored_image[tuple(boxes)][np.ix_(*picked)]


def _augment(
    source: BatchSource, image: np.ndarray, label: np.ndarray, before: np.ndarray | None, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    maps = np.stack([label] if before is None else [label, before], axis=1)
    with legacy_randomness(int(generator.integers(2**32))):
        moved = _transforms(source)(data=image, seg=maps.astype(np.float32))
    maps = np.rint(moved["seg"])
    return moved["data"], maps[:, 0], None if before is None else maps[:, 1]


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
    row, patch_size = source.augmentation, source.patch_size
    axes, colours = source.mirror_axes, source.colour_channels
    return build_transforms(row, patch_size, source.dummy_2d, axes, colours, source.sides)


@functools.lru_cache(maxsize=8)
def _read_size(source: BatchSource) -> tuple[int, ...]:
    if source.augmentation is None:
        return source.patch_size
    return read_size(source.augmentation, source.patch_size, source.dummy_2d)


_open_case = functools.lru_cache(maxsize=_OPEN_CASES)(open_case)
_open_previous = functools.lru_cache(maxsize=_OPEN_CASES)(previous_labels)
