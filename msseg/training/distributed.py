"""Several processes that train one network together, as torchrun starts them: who they are and what they agree on.

Process 0 leads: it decides what depends on a clock or a measurement, and it alone writes files and speaks. Sums go
through the process group (NCCL on GPUs, Gloo on CPUs); what may take long is waited for without a time limit at the
store that brought the group together.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from msseg.devices import resolve_device
from msseg.errors import MssegError, ResourceError
from msseg.interrupts import StopRequest
from msseg.processes import Processes

_BACKENDS = {"cuda": "nccl", "cpu": "gloo"}
# A process that dies breaks the group at once; this is for one that hangs, and holds a validation on the way.
_LONGEST_STEP = datetime.timedelta(hours=2)
_LOOK_EVERY_S = 0.1
# torchrun kills 30 s after its SIGTERM.
_PATIENCE_S = 20.0
_LEAVING_S = 60.0
_FAILED, _LEFT = "failed", "left"
# In what PyTorch says where an exchange fails; it has no error of its own for that in every version.
_LOST_WORDS = ("gloo", "NCCL", "onnection")
_LOST = (
    "another process of this training is gone: killed, perhaps as memory ran out, or its machine was lost. Run the "
    "same command again; training goes on from its last checkpoint, with any number of processes."
)

Told = TypeVar("Told")


class Team:
    """This process and those that it trains with; alone, nothing is exchanged.

    Every process must call the same methods in the same order. `device` is where this process trains.
    """

    def __init__(
        self,
        processes: Processes | None = None,
        device: torch.device | None = None,
        store: distributed.Store | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        of = processes or Processes()
        self.rank, self.world, self.local_world = of.rank, of.world, of.local_world
        self.device = device or torch.device("cpu")
        self._store, self._stop = store, stop or StopRequest()
        self._turns = 0

    @property
    def is_shared(self) -> bool:
        """Whether there is a process group, be it of one process."""
        return self._store is not None

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def rows(self, batch_size: int) -> tuple[int, int] | None:
        """The first of a batch's samples that are this process's, and the one after its last; None where all are."""
        if self.world == 1:
            return None
        return batch_size * self.rank // self.world, batch_size * (self.rank + 1) // self.world

    def share(self, batch_size: int) -> int:
        """The most samples of a batch that a process has."""
        return -(-batch_size // self.world)

    def workers(self, workers: int) -> int:
        """Its share of so many workers of a machine, at least one of one."""
        return min(workers, max(1, workers // self.local_world))

    def added(self, numbers: np.ndarray) -> np.ndarray:
        """The sums over all processes of numbers (any shape) of which each has its own."""
        if self._store is None:
            return numbers
        total = torch.as_tensor(numbers).to(self.device)
        distributed.all_reduce(total)
        return total.cpu().numpy()

    def told_by_lead(self, make: Callable[[], Told]) -> Told:
        """What `make` gives, a value of JSON, in the process that leads; the others wait for it."""
        if self._store is None:
            return make()
        place = self._next_place()
        if self.leads:
            value = make()
            self._store.set(place, json.dumps(value))
            return value
        self._wait_for(place)
        told: Told = json.loads(self._store.get(place))
        return told

    def averaging(self, loss: nn.Module, has_unused: bool) -> nn.Module:
        """`loss`, a module that gives a scalar, with its gradients averaged over the processes; itself alone.

        `has_unused`: some of its weights have no part in the scalar.
        """
        if self._store is None:
            return loss
        return DistributedDataParallel(
            loss,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            find_unused_parameters=has_unused,
            gradient_as_bucket_view=True,
        )

    @contextlib.contextmanager
    def lead_first(self) -> Iterator[None]:
        """The block is run by the process that leads, and by the others when that is through."""
        if self.leads:
            yield
            self.told_by_lead(lambda: True)
        else:
            self.told_by_lead(lambda: True)
            yield

    def check_agreement(self, what: str, value: str) -> None:
        """ResourceError where a process has another `value`, a text, than the one that leads."""
        found = self.told_by_lead(lambda: value)
        if found != value:
            raise ResourceError(
                f"process {self.rank} of {self.world}: its {what} is {value}, that of process 0 {found}. All processes "
                "must see the same files and run the same version of msseg."
            )

    def _next_place(self) -> str:
        self._turns += 1
        return str(self._turns)

    def _wait_for(self, place: str) -> None:
        assert self._store is not None
        asked_s = 0.0
        while not self._store.check([place]):
            if self._store.check([_FAILED]):
                raise ResourceError(_LOST)  # replaced by what failed, see `explained`
            if self._stop.requested:
                asked_s += _LOOK_EVERY_S
            if asked_s > _PATIENCE_S:
                raise ResourceError(_LOST)
            time.sleep(_LOOK_EVERY_S)

    def explained(self, error: Exception) -> Exception:
        """The error to end with: the first that a process raised, where that was another, said so."""
        assert self._store is not None
        mine = {"rank": self.rank, "message": _message(error)}
        try:
            first = json.loads(self._store.compare_set(_FAILED, "", json.dumps(mine)))
        except RuntimeError:  # the store is gone with the machine that held it
            first = mine
        if first["rank"] != self.rank:
            return ResourceError(f"process {self.rank} ends as process {first['rank']} did: {first['message']}")
        return ResourceError(_LOST) if _is_lost(error) else error

    def leave(self) -> None:
        """End the group; the process that leads, which may hold the store, goes last."""
        assert self._store is not None
        distributed.destroy_process_group()
        self._store.add(_LEFT, 1)
        end = time.monotonic() + _LEAVING_S
        while self.leads and self._store.add(_LEFT, 0) < self.world and time.monotonic() < end:
            time.sleep(_LOOK_EVERY_S)


ALONE = Team()


@contextlib.contextmanager
def joined(processes: Processes | None, device: str, stop: StopRequest | None = None) -> Iterator[Team]:
    """The team of the processes, each on its device, for as long as the block lasts; `ALONE` where there are none.

    An error in one process ends all: each raises it, or says whose it was. Raises ResourceError where there are not as
    many GPUs as processes, or the others do not come.
    """
    if processes is None:
        yield ALONE
        return
    own = device_of(processes, device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    try:
        store, rank, world = next(distributed.rendezvous("env://"))
        distributed.init_process_group(
            _BACKENDS[own.type],
            store=distributed.PrefixStore(f"group {processes.restarts}", store),  # torchrun keeps one store
            rank=rank,
            world_size=world,
            timeout=_LONGEST_STEP,
        )
    except RuntimeError as problem:
        raise ResourceError(f"the {processes.world} processes do not find each other: {problem}") from problem
    team = Team(processes, own, distributed.PrefixStore(f"msseg {processes.restarts}", store), stop)
    try:
        yield team
    except Exception as error:
        raise team.explained(error) from error
    team.leave()


def device_of(processes: Processes, name: str) -> torch.device:
    """The device of a process: of several GPUs on its machine the one of its number there."""
    device = resolve_device(name)
    if device.type not in _BACKENDS:
        raise ResourceError(f"--device {name}: one process only. Use --device cpu, or leave torchrun out.")
    if device.type == "cpu":
        return device
    if device.index is not None:
        raise ResourceError(f"--device {name}: under torchrun each process takes a GPU of its own. Use --device cuda.")
    found = torch.cuda.device_count()
    if processes.local_rank >= found:
        raise ResourceError(
            f"process {processes.local_rank} of this machine: it shows {found} CUDA devices. Use --nproc-per-node "
            f"{found}, or --device cpu."
        )
    return torch.device("cuda", processes.local_rank)


def _message(error: Exception) -> str:
    if _is_lost(error):
        return _LOST
    return str(error) if isinstance(error, MssegError) else f"{type(error).__name__}: {error}"


def _is_lost(error: Exception) -> bool:
    """Whether an exchange failed, which says no more than that another process did."""
    if isinstance(error, MssegError):
        return False
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST_WORDS)
    )
