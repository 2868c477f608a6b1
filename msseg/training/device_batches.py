"""Batches on the device that trains, in the order asked for: read or made ahead, copied and augmented."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from msseg.errors import MssegError, ResourceError
from msseg.training.batches import Batch, BatchSource, ReadBatch, read_batch, stack_as_channels
from msseg.training.device_augmentation.apply import augment
from msseg.training.prefetch import BatchRequest, batches_in_order
from msseg.training.previous_planes import shown_planes

AUGMENT = ("workers", "device")
# A thread reads gigabytes a second; more would only hold more memory.
_MOST_READERS = 4
_AHEAD_PER_READER = 2
_STAGED_AHEAD = 2


class DeviceBatch(NamedTuple):
    """Image (b, c, *patch) float32 and class indices (b, *patch) int16, -1 outside the image, on the device."""

    image: torch.Tensor
    label: torch.Tensor


def default_augment(device: torch.device) -> str:
    """Where augmentation runs unless asked otherwise: on the device, where that was measured to be cheaper."""
    return "device" if device.type in ("cpu", "cuda") else "workers"


def device_batches(
    sources: Mapping[str, BatchSource],
    requests: Iterator[BatchRequest],
    workers: int,
    device: torch.device,
    where: str,
    report: Callable[[str], None],
) -> Generator[DeviceBatch, None, None]:
    """The batches, augmented on the device or by workers (`where`); 0 workers make each when it is asked for.

    On CUDA a thread copies and augments two batches ahead on a stream of its own. Raises ResourceError where a batch
    cannot be read, or as `batches_in_order` does.
    """
    raw: Generator[Batch | ReadBatch, None, None]
    if where == "device":
        raw = read_in_order(sources, requests, workers, pinned=device.type == "cuda")
    else:
        raw = batches_in_order(sources, requests, workers, report)
    with contextlib.closing(raw):
        if device.type == "cuda":
            yield from _beside_the_step(raw, device)
        else:
            yield from (finished(batch, device) for batch in raw)


def finished(batch: Batch | ReadBatch, device: torch.device) -> DeviceBatch:
    """The batch on the device, with what was drawn done to it; a cascade's planes are its last channels."""
    image, label = (_copied(array, device) for array in (batch.image, batch.label))
    before = None if batch.previous is None else _copied(batch.previous.classes, device)
    if isinstance(batch, ReadBatch) and batch.draws is not None:
        source = batch.source
        assert source.augmentation is not None
        row, patch_size, colours = source.augmentation, source.patch_size, source.colour_channels
        maps = label if before is None else torch.stack([label, before], dim=1)
        image, maps = augment(
            image, maps, batch.draws, row, patch_size, source.dummy_2d, colours, source.sides, source.samples
        )
        label, before = (maps, None) if before is None else (maps[:, 0], maps[:, 1])
    if isinstance(batch, ReadBatch) and batch.source.slices_as_channels:
        image, label = stack_as_channels(image, label)
    if batch.previous is not None and before is not None:
        image = torch.cat([image, shown_planes(before, batch.previous.planes, batch.previous.draws)], dim=1)
    return DeviceBatch(image, label)


def _copied(array: np.ndarray, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda" and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def read_in_order(
    sources: Mapping[str, BatchSource],
    requests: Iterator[BatchRequest],
    readers: int,
    pinned: bool = False,
    read: Callable[..., ReadBatch] = read_batch,
) -> Generator[ReadBatch, None, None]:
    """The batches as they are read, one after another; up to four threads read ahead, 0 reads when asked.

    Threads, as copying out of a mapped file leaves the interpreter free. `pinned` reads into memory that a GPU copies
    from by itself.
    """
    empty = _pinned_empty if pinned else np.empty

    def read_one(request: BatchRequest) -> ReadBatch:
        return read(sources[request.source], request.number, empty)

    if readers <= 0:
        yield from (_named(request, functools.partial(read_one, request)) for request in requests)
        return
    readers = min(readers, _MOST_READERS)
    pool = ThreadPoolExecutor(readers, "read batches")
    try:
        waiting: collections.deque[tuple[BatchRequest, Future[ReadBatch]]] = collections.deque(
            (request, pool.submit(read_one, request))
            for request in itertools.islice(requests, readers * _AHEAD_PER_READER)
        )
        while waiting:
            request, future = waiting.popleft()
            waiting.extend((later, pool.submit(read_one, later)) for later in itertools.islice(requests, 1))
            yield _named(request, future.result)
    finally:
        pool.shutdown(cancel_futures=True)


def _named(request: BatchRequest, result: Callable[[], ReadBatch]) -> ReadBatch:
    """What `result` gives; an error that is not ours gets the batch's name."""
    try:
        return result()
    except MssegError:
        raise
    except Exception as error:
        raise ResourceError(
            f"{request.source} batch {request.number}: {type(error).__name__}: {error}. Preprocess again if the store "
            "is damaged; --traceback shows where it came from."
        ) from error


def _pinned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.empty(shape, dtype=kind, pin_memory=True).numpy()


def _beside_the_step(raw: Iterator[Batch | ReadBatch], device: torch.device) -> Iterator[DeviceBatch]:
    """The batches, copied and augmented on a stream of their own by a thread of their own."""
    stream = torch.cuda.Stream(device)
    pool = ThreadPoolExecutor(1, "augment")

    def stage() -> DeviceBatch | None:
        batch = next(raw, None)
        if batch is None:
            return None
        ready = torch.cuda.Event(blocking=True)
        with torch.cuda.stream(stream):
            result = finished(batch, device)
            ready.record(stream)
        # Until then the copy may still read the batch's memory, which the next one is read into.
        ready.synchronize()
        return result

    waiting = collections.deque(pool.submit(stage) for _ in range(_STAGED_AHEAD))
    try:
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(stage))
            for tensor in batch:
                # Its memory came from the other stream, which must not reuse it before this one is done with it.
                tensor.record_stream(torch.cuda.current_stream(device))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
