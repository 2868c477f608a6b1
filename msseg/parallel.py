"""Mapping over cases through `concurrent.futures.Executor`: a failure or a killed worker harms one case only."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from msseg.errors import ResourceError

Item = TypeVar("Item")
Result = TypeVar("Result")

# One thread a worker: the pool already fills the cores, and BLAS threads on top of it slow all of them down.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_SUBMITTED_PER_WORKER = 3
_DEATHS_TO_GIVE_UP = 3


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one item: a value, or the error that its function raised."""

    value: Result | None = None
    error: Exception | None = None


class RemoteExecutor(Executor):
    """An executor whose workers may be on other machines: it queues by itself, and begins anew what a dead one left.

    Its futures raise WorkerKilledError for a call with which too many workers died.
    """


class WorkerKilledError(ResourceError):
    """Workers died while they held an item, though it may have been another item of theirs that killed them."""


def default_workers() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def case_executor(workers: int) -> Iterator[Executor]:
    """A pool of `workers` fresh processes of one thread each; where the block fails they are ended at once.

    What they write goes through temporary files, so that nothing half-written is left in a place that counts.
    """
    before = set(multiprocessing.active_children())
    with _single_threaded_children():
        context = multiprocessing.get_context(_start_method())
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_obey_parent_alone)
        try:
            yield pool
        except BaseException:
            _end_at_once(pool, set(multiprocessing.active_children()) - before)
            raise
        pool.shutdown()


def _end_at_once(pool: ProcessPoolExecutor, processes: set[BaseProcess]) -> None:
    """Shut the pool down and end its processes, whatever they are at.

    One ended in the middle of handing over a result leaves this process's reader waiting for the rest, and so the
    interpreter at its exit: the writing end that is open here is closed, so that the reader comes to an end.
    """
    results = getattr(pool, "_result_queue", None)  # Shutting down forgets it.
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
    if results is not None:
        results._writer.close()


def map_cases(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, executor: Executor | None = None
) -> Iterator[tuple[Item, Outcome[Result]]]:
    """Pairs of item and outcome, as they finish.

    One worker and no executor runs in this process. Should a worker of the own pool be killed, the unfinished
    items are run again by one worker, so that only the item that kills it fails (ResourceError in its outcome).
    Raises ResourceError where item after item kills the worker. Items that died together with workers of a
    RemoteExecutor are run again, each alone.
    """
    if isinstance(executor, RemoteExecutor):
        yield from _map_remotely(executor, function, items)
    elif executor is not None:
        yield from _map_with(executor, function, items, window=_SUBMITTED_PER_WORKER * max(workers, 1))
    elif workers <= 1 or len(items) <= 1:
        yield from ((item, _run(function, item)) for item in items)
    else:
        yield from _map_locally(function, items, workers)


def _map_locally(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Outcome[Result]]]:
    finished: set[int] = set()
    indexed = list(enumerate(items))
    try:
        with case_executor(min(workers, len(items))) as pool:
            window = _SUBMITTED_PER_WORKER * workers
            for (index, item), outcome in _map_with(pool, _Indexed(function), indexed, window):
                finished.add(index)
                yield item, outcome
    except BrokenProcessPool:
        left = [item for index, item in indexed if index not in finished]
        yield from _map_one_by_one(function, left)


def _map_one_by_one(
    function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[Item, Outcome[Result]]]:
    """Pairs from a single worker that is replaced whenever an item kills it, so that the item is known."""
    queue = list(items)
    deaths_in_a_row = 0
    while queue:
        try:
            with case_executor(1) as pool:
                while queue:
                    outcome = _outcome(pool.submit(function, queue[0]))
                    deaths_in_a_row = 0
                    yield queue.pop(0), outcome
        except BrokenProcessPool:
            deaths_in_a_row += 1
            if deaths_in_a_row == _DEATHS_TO_GIVE_UP:
                raise ResourceError(WORKERS_KEEP_DYING) from None
            item = queue.pop(0)
            yield item, Outcome(error=ResourceError(f"{_name(item)}: {WORKER_KILLED}"))


def _map_remotely(
    executor: RemoteExecutor, function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[Item, Outcome[Result]]]:
    suspects = []
    for item, outcome in _map_with(executor, function, items, window=max(len(items), 1)):
        if isinstance(outcome.error, WorkerKilledError):
            suspects.append((item, outcome))
        else:
            yield item, outcome
    deaths_in_a_row = 0
    for item, outcome in suspects:
        # A single one has no other to blame, and one after another means that the fault is not with the items.
        if len(suspects) > 1 and deaths_in_a_row < _DEATHS_TO_GIVE_UP:
            outcome = _outcome(executor.submit(function, item))
            deaths_in_a_row = deaths_in_a_row + 1 if isinstance(outcome.error, WorkerKilledError) else 0
        died = isinstance(outcome.error, WorkerKilledError)
        yield item, Outcome(error=ResourceError(f"{_name(item)}: {outcome.error}")) if died else outcome


@dataclass(frozen=True)
class _Indexed(Generic[Item, Result]):
    function: Callable[[Item], Result]

    def __call__(self, pair: tuple[int, Item]) -> Result:
        return self.function(pair[1])


def _map_with(
    executor: Executor, function: Callable[[Item], Result], items: Sequence[Item], window: int
) -> Iterator[tuple[Item, Outcome[Result]]]:
    pending: dict[Future[Result], Item] = {}
    queue = iter(items)
    exhausted = False
    while pending or not exhausted:
        while not exhausted and len(pending) < window:
            try:
                item = next(queue)
            except StopIteration:
                exhausted = True
                break
            pending[executor.submit(function, item)] = item
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            yield pending.pop(future), _outcome(future)


def _outcome(future: Future[Result]) -> Outcome[Result]:
    try:
        return Outcome(value=future.result())
    except BrokenProcessPool:
        raise
    except Exception as error:
        return Outcome(error=error)


def _run(function: Callable[[Item], Result], item: Item) -> Outcome[Result]:
    try:
        return Outcome(value=function(item))
    except Exception as error:
        return Outcome(error=error)


WORKER_KILLED = (
    "the worker process that handled it was killed, most likely because memory ran out. "
    "Free memory or use fewer --workers, then run the same command again; finished cases are kept."
)
WORKERS_KEEP_DYING = (
    f"worker processes died {_DEATHS_TO_GIVE_UP} times in a row. Free memory and run the same command again; a script "
    "that calls this as a library must start its work under `if __name__ == '__main__':`."
)


def _name(item: Any) -> str:
    return str(getattr(item, "name", item))


def _obey_parent_alone() -> None:
    """Leave Ctrl-C to the parent, and end when it is gone: a pool whose parent was killed waits for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), name="parent watch", daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _start_method() -> str:
    # A forked child inherits locks that other threads (BLAS, torch) may hold at that moment.
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


@contextlib.contextmanager
def _single_threaded_children() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
