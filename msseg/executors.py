"""Where cases are worked on: processes of this machine, or the workers of a Dask cluster that share its files."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msseg
from msseg.errors import MssegError, ResourceError
from msseg.parallel import RemoteExecutor, WorkerKilledError

PROCESSES = "processes"
_DASK = "dask://"
_CONNECT_S = 5.0
_FIRST_WORKER_S = 30.0
_LOOK_EVERY_S = 10.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LOG = logging.getLogger("msseg")


@contextlib.contextmanager
def executor_from(text: str, folder: str | os.PathLike[str] = ".") -> Iterator[Executor | None]:
    """The executor that `text` names: None, the own pool of processes, for "processes", else that of a Dask cluster.

    `folder` is where results are written, or will be: a file is put beside them for the block, and a worker that does
    not find it runs nothing. Where the block fails, what is queued on the cluster is cancelled. Raises ResourceError
    where `text` is malformed, Dask is not installed, the scheduler does not answer, no worker comes, or a worker has
    other versions, several threads or other files.
    """
    if text == PROCESSES:
        yield None
        return
    if not text.startswith(_DASK) or not _is_address(text.removeprefix(_DASK)):
        raise ResourceError(f"executor {text}: expected {PROCESSES} or dask://HOST:PORT, such as dask://node1:8786.")
    if find_spec("distributed") is None:
        raise ResourceError(f"executor {text}: Dask is not installed. Run pip install 'msseg[dask]', here and there.")
    with _marked(Path(folder)) as place, _client(text) as client:
        _await_worker(client, text)
        _check_workers(client, text, place)
        yield from _serving(client, place)


def _serving(client: Any, place: Place) -> Iterator[Executor]:
    executor = client.get_executor(pure=False)
    over = threading.Event()
    watch = threading.Thread(target=_warn_without_workers, args=(client, over), name="cluster watch", daemon=True)
    watch.start()
    try:
        yield ClusterExecutor(executor, place)
    except BaseException:
        executor.shutdown(wait=False)
        raise
    finally:
        over.set()
        watch.join()


class ClusterExecutor(RemoteExecutor):
    """Dask's executor, with each call made ready on its worker and the cluster's own errors in our words."""

    def __init__(self, executor: Executor, place: Place) -> None:
        self._executor, self._place = executor, place

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """The future of a call on some worker, begun anew on another where that one dies."""
        outer: Future[Any] = Future()
        inner = self._executor.submit(_Call(function, self._place), *arguments, **named)
        inner.add_done_callback(partial(_hand_over, outer))
        return outer


@dataclass(frozen=True)
class Place:
    """What a worker must share: a file that the client wrote, and the folder that its relative paths start from."""

    marker: str
    start: str


@dataclass(frozen=True)
class _Call:
    function: Callable[..., Any]
    place: Place

    @property
    def __name__(self) -> str:
        """What Dask's pages and logs call it."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        _make_ready(self.place)
        return self.function(*arguments, **named)


def _make_ready(place: Place) -> None:
    """Check what may have changed since the client looked: workers come and go."""
    if problem := _missing(place):
        raise ResourceError(f"worker on {platform.node()}: {problem}")
    os.chdir(place.start)
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def _missing(place: Place) -> str | None:
    found = {path: Path(path).exists() for path in (place.marker, place.start)}
    lost = next((path for path, there in found.items() if not there), None)
    if lost is None:
        return None
    return f"does not see {lost}. Workers must see the files under the same paths: use a shared file system."


def _hand_over(outer: Future[Any], inner: Future[Any]) -> None:
    try:
        outer.set_result(inner.result())
    except CancelledError:
        outer.set_exception(ResourceError("the connection to the cluster's scheduler was lost. Run the command again."))
    except BaseException as error:
        outer.set_exception(_in_our_words(error))


def _in_our_words(error: BaseException) -> BaseException:
    from distributed import KilledWorker

    if not isinstance(error, KilledWorker):
        return error
    return WorkerKilledError(
        f"{error.allowed_failures + 1} workers of the cluster died with it, most likely because memory ran out. "
        "Start the workers with more memory (--memory-limit), then run the same command again; finished cases are kept."
    )


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon) and "/" not in host and port.isdecimal()


@contextlib.contextmanager
def _marked(folder: Path) -> Iterator[Place]:
    """A file in the folder, or in the nearest one above that is there, for the length of the block."""
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())
    with tempfile.NamedTemporaryFile(prefix=".msseg-shared-", dir=there) as marker:
        yield Place(marker.name, str(Path.cwd()))


@contextlib.contextmanager
def _client(text: str) -> Iterator[Any]:
    from distributed import Client

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Versions are compared below, by what matters here.
            client = Client(text.replace(_DASK, "tcp://"), timeout=_CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ResourceError(
            f"executor {text}: no Dask scheduler answers within {_CONNECT_S:.0f} s ({error}). "
            "Start one with dask scheduler, and give the address that it prints."
        ) from None
    try:
        yield client
    finally:
        client.close()


def _await_worker(client: Any, text: str) -> None:
    from distributed import TimeoutError as TooLate

    try:
        client.wait_for_workers(1, timeout=_FIRST_WORKER_S)
    except (TooLate, TimeoutError):
        raise ResourceError(
            f"executor {text}: the scheduler has no workers, nor did one come in {_FIRST_WORKER_S:.0f} s. Start some: "
            f"dask worker {text.replace(_DASK, 'tcp://')} --nworkers auto --nthreads 1"
        ) from None


def _check_workers(client: Any, text: str, place: Place) -> None:
    """Refuse a cluster of which some worker that answers could not do its part."""
    try:
        answers: Mapping[str, Any] = client.run(_problem_here, _versions(), place, on_error="return")
    except (ImportError, AttributeError) as error:
        raise _without_msseg(text, error) from None
    threads = {name: worker["nthreads"] for name, worker in client.scheduler_info()["workers"].items()}
    for name, answer in answers.items():
        if isinstance(answer, ImportError | AttributeError):
            raise _without_msseg(name, answer)
        if isinstance(answer, str):
            raise ResourceError(f"executor {text}: worker {name} {answer}")
        if threads.get(name, 1) != 1:
            raise ResourceError(
                f"executor {text}: worker {name} has {threads[name]} threads; expected one, for a case is a process's "
                "work. Start workers with --nworkers auto --nthreads 1."
            )


def _without_msseg(name: str, error: BaseException) -> MssegError:
    return ResourceError(f"{name}: its workers cannot load msseg ({error}). Install msseg {msseg.__version__} there.")


def _versions() -> dict[str, str]:
    return {"Python": ".".join(map(str, sys.version_info[:2])), "msseg": msseg.__version__}


def _problem_here(expected: Mapping[str, str], place: Place) -> str | None:
    """Run on a worker: what keeps it from doing its part, None where nothing does."""
    for what, found in _versions().items():
        if found != expected[what]:
            return f"has {what} {found}, expected {expected[what]} as here. Use the same environment for all."
    return _missing(place)


def _warn_without_workers(client: Any, over: threading.Event) -> None:
    """Say once that nothing will go on until a worker comes, as where all were killed and none is started anew."""
    while not over.wait(_LOOK_EVERY_S):
        if not client.scheduler_info()["workers"]:
            _LOG.warning("The cluster has no workers left: the command waits until one comes (Ctrl-C ends it).")
            return
