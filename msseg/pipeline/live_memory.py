"""How much memory a computation takes at its peak."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def peak_bytes(compute: Callable[[], object], device: torch.device) -> int:
    """The most memory that what `compute` makes takes at once, in bytes; what was there before does not count.

    On CUDA it is the allocator's peak. Elsewhere it is the bytes of all living tensors that the operators return: no
    scratch memory inside an operator, but the same figure at every call and under any other load.
    """
    if device.type == "cuda":
        return _peak_of_allocator(compute, device)
    with _LivingTensors() as living:
        compute()
    return living.peak


def _peak_of_allocator(compute: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    compute()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


class _LivingTensors(TorchDispatchMode):
    """Counts the storages that operators make, from their first sight until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = {storage._cdata for storage in _storages((args, kwargs))}
        result = function(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in before:
                self._note(storage)
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def forget(_reference: object) -> None:
            del self._known[key]
            self._now -= size

        self._known[key] = weakref.ref(storage, forget)
        self._now += size
        self.peak = max(self.peak, self._now)


def _storages(value: Any) -> Iterator[torch.UntypedStorage]:
    """The storages of the tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value.untyped_storage()
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _storages(item)
    elif isinstance(value, dict):
        yield from _storages(list(value.values()))
