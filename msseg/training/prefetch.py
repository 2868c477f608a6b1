"""Batches made ahead in worker processes, in the order asked for; a worker that dies is named with its cause."""

from __future__ import annotations

import collections
import itertools
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from msseg.errors import MssegError, ResourceError
from msseg.parallel import case_executor
from msseg.training.batches import Batch, BatchSource, make_batch

BATCHES_AHEAD_PER_WORKER = 3
_DEATHS_IN_A_ROW = 3
_OUT_OF_MEMORY_SIGNAL = 9
# What multiprocessing reports when the server that forks the workers is gone and nobody knows their exit codes.
_WATCHER_GONE = 255


class BatchRequest(NamedTuple):
    """Batch `number` of the source of that name."""

    source: str
    number: int


def request_sequence(first_step: int, steps_per_epoch: int, validation_batches: int) -> Iterator[BatchRequest]:
    """What the training loop consumes, without end: an epoch's training batches, then its validation batches."""
    for step in itertools.count(first_step):
        yield BatchRequest("training", step)
        epoch, place = divmod(step, steps_per_epoch)
        if place == steps_per_epoch - 1:
            first = epoch * validation_batches
            yield from (BatchRequest("validation", first + index) for index in range(validation_batches))


def batches_in_order(
    sources: Mapping[str, BatchSource],
    requests: Iterator[BatchRequest],
    workers: int,
    report: Callable[[str], None],
    make: Callable[[BatchSource, int], Batch] = make_batch,
) -> Generator[Batch, None, None]:
    """The batches, one after another; `workers` processes make them ahead, 0 makes each when it is asked for.

    A killed worker is reported through `report` and its batches are made again by one worker fewer, down to one.
    Raises ResourceError when that one keeps dying, or when making a batch raises.
    """
    if workers <= 0:
        yield from (make(sources[request.source], request.number) for request in requests)
        return
    waiting: collections.deque[BatchRequest] = collections.deque()
    deaths = 0
    while True:
        processes: list[BaseProcess] = []
        try:
            for batch in _from_pool(sources, requests, waiting, workers, processes, make):
                deaths = 0
                yield batch
            return
        except BrokenProcessPool:
            deaths += 1
            cause = death_cause([process.exitcode for process in processes])
        workers = _fewer_workers(workers, deaths, cause, report)


def _fewer_workers(workers: int, deaths: int, cause: str, report: Callable[[str], None]) -> int:
    if deaths >= _DEATHS_IN_A_ROW:
        raise ResourceError(
            f"batch workers died {deaths} times without making a batch: {cause}. Free memory, choose a smaller "
            "--memory for the plan; the same command goes on from the last checkpoint."
        )
    fewer = max(1, workers - 1)
    report(f"a batch worker died: {cause}; going on with {fewer} worker{'s' if fewer > 1 else ''}")
    return fewer


def _from_pool(
    sources: Mapping[str, BatchSource],
    requests: Iterator[BatchRequest],
    waiting: collections.deque[BatchRequest],
    workers: int,
    processes: list[BaseProcess],
    make: Callable[[BatchSource, int], Batch],
) -> Iterator[Batch]:
    """Batches from a fresh pool; `waiting` keeps what was asked for and not yet given, `processes` who works."""
    before = set(multiprocessing.active_children())
    with case_executor(workers) as pool:

        def submit(request: BatchRequest) -> Future[Batch]:
            return pool.submit(make, sources[request.source], request.number)

        waiting.extend(itertools.islice(requests, max(0, workers * BATCHES_AHEAD_PER_WORKER - len(waiting))))
        futures = collections.deque(submit(request) for request in waiting)
        processes += set(multiprocessing.active_children()) - before
        while futures:
            batch = _result(futures.popleft(), waiting[0], pool)
            waiting.popleft()
            for request in itertools.islice(requests, 1):
                waiting.append(request)
                futures.append(submit(request))
            yield batch


def _result(future: Future[Batch], request: BatchRequest, pool: Executor) -> Batch:
    try:
        return future.result()
    except BrokenProcessPool:
        pool.shutdown()  # Joins the processes, so that their exit codes are known.
        raise
    except MssegError:
        raise
    except Exception as error:
        raise ResourceError(
            f"{request.source} batch {request.number}: {type(error).__name__}: {error}. Preprocess again if the store "
            "is damaged; --traceback shows the worker's own trace."
        ) from error


def death_cause(exit_codes: list[int | None]) -> str:
    """Why a pool broke, from its processes' exit codes; the pool itself ends the others with SIGTERM."""
    codes = [code for code in exit_codes if code and code != _WATCHER_GONE]
    first = next((code for code in codes if code != -signal.SIGTERM), codes[0] if codes else None)
    if first is None:
        return "cause unknown"
    if first > 0:
        return f"it exited with code {first}"
    hint = ": probably out of memory" if -first == _OUT_OF_MEMORY_SIGNAL else f" ({signal.strsignal(-first)})"
    return f"killed by signal {-first}{hint}"
