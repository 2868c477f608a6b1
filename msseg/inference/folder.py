"""Many image files through one predictor: the next is read and the last is written while the network computes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.cases import Case
from msseg.data.geometry import Geometry
from msseg.data.image import image_ending, output_ending, read_image, write_label
from msseg.data.problems import Problem
from msseg.errors import DatasetError, MssegError
from msseg.inference.predictor import Predictor
from msseg.parallel import Outcome
from msseg.preprocessing.case import PreparedCase
from msseg.progress import progress

# Images read ahead, and as many bytes of label maps that wait for being written.
AHEAD_BYTES = 1 << 30

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionReport:
    """What became of each case, by name: `failed` with the reason; `stopped` ones were not begun or not finished."""

    written: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]
    stopped: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every case has its output."""
        return not self.failed and not self.stopped


@dataclass(frozen=True)
class _Read:
    """A case read and prepared."""

    case: Case
    geometry: Geometry
    prepared: PreparedCase


class _StoppedError(Exception):
    """Somebody asked to stop in the middle of a case."""


def predict_folder(
    predictor: Predictor,
    cases: Sequence[Case],
    output_folder: Path,
    *,
    overwrite: bool = False,
    workers: int = 1,
    problems: Sequence[Problem] = (),
    quiet: bool = False,
    stop: Callable[[], bool] = lambda: False,
    ahead_bytes: int = AHEAD_BYTES,
) -> PredictionReport:
    """Write a label map for every case to `output_folder`, on its image's grid; what became of each.

    An output is named by its case, with the ending of the image, and appears whole or not at all. Outputs that exist
    are skipped unless `overwrite`. A case that fails is reported and the others go on; `problems` are cases that
    failed before. `workers` threads read and prepare ahead, images of `ahead_bytes` at most, and as much may wait for
    being written. When `stop()` turns true, the case in the network is given up and those before it are still
    written. Raises DatasetError where an output would replace an input.
    """
    outputs = {case.name: output_path(case, output_folder) for case in cases}
    _refuse_to_replace_inputs(cases, outputs)
    skipped = tuple(case.name for case in cases if not overwrite and outputs[case.name].exists())
    todo = [case for case in cases if case.name not in skipped]
    failed = {problem.case: _in_words(problem) for problem in problems if problem.severity == "error"}
    written = []
    outcomes = _predicted(predictor, todo, outputs, workers, ahead_bytes, stop)
    for case, outcome in progress(outcomes, "predict", total=len(todo), quiet=quiet):
        if outcome.error is None:
            written.append(case.name)
        else:
            failed[case.name] = _reason(outcome.error)
    ended = {*written, *failed}
    stopped = tuple(case.name for case in todo if case.name not in ended)
    return PredictionReport(tuple(written), skipped, failed, stopped)


def output_path(case: Case, output_folder: Path) -> Path:
    """Where the label map of a case goes: its name with its image's ending."""
    first = case.image_paths[0]
    return Path(output_folder) / f"{case.name}{output_ending(image_ending(first) or first.suffix)}"


def _predicted(
    predictor: Predictor,
    cases: Sequence[Case],
    outputs: dict[str, Path],
    workers: int,
    ahead_bytes: int,
    stop: Callable[[], bool],
) -> Iterator[tuple[Case, Outcome[Path]]]:
    """Each case with its written file or its error, in order; what has not ended when `stop()` turns true is left out.

    Label maps wait for the thread that writes them, no more than `ahead_bytes` of them beside the one in work.
    """
    waiting: deque[tuple[Case, int, Future[Path]]] = deque()
    with ThreadPoolExecutor(workers) as readers, ThreadPoolExecutor(1) as writer:
        reading = _ReadAhead(predictor, cases, workers, ahead_bytes, readers)
        try:
            while (one := reading.take()) is not None and not stop():
                case, read = one
                try:
                    ready = read.result()
                    reading.begin_more()
                    classes = predictor.classes(ready.prepared, _stopper(stop))
                except _StoppedError:
                    break
                except Exception as error:
                    yield case, Outcome(error=error)
                    continue
                written = writer.submit(_finish, predictor, ready, classes, outputs[case.name])
                waiting.append((case, classes.nbytes, written))
                del classes, ready, read, one
                while waiting and (waiting[0][2].done() or sum(size for _, size, _ in waiting) > ahead_bytes):
                    yield _ended(waiting)
        finally:  # Also where the caller leaves in the middle of a case: it would wait for readings that nobody wants.
            reading.cancel()
        while waiting:
            yield _ended(waiting)


class _ReadAhead:
    """The cases in order, each with its reading under way: `count` at most ahead, and `max_bytes` of prepared images.

    A case that is not read yet counts as much as the largest so far, so that the first is read alone; one is read when
    it is asked for, whatever it takes.
    """

    def __init__(
        self, predictor: Predictor, cases: Sequence[Case], count: int, max_bytes: int, readers: Executor
    ) -> None:
        self._predictor, self._upcoming, self._readers = predictor, iter(cases), readers
        self._count, self._max_bytes = count, max_bytes
        self._reading: deque[tuple[Case, Future[_Read]]] = deque()
        self._largest: int | None = None

    def take(self) -> tuple[Case, Future[_Read]] | None:
        """The next case, None after the last."""
        if not self._reading:
            self._begin()
        return self._reading.popleft() if self._reading else None

    def begin_more(self) -> None:
        """Read on, as far as count and bytes allow."""
        while len(self._reading) < self._count and self._bytes_with_another() <= self._max_bytes and self._begin():
            pass

    def cancel(self) -> None:
        """Give up what has not begun."""
        for _, future in self._reading:
            future.cancel()

    def _begin(self) -> bool:
        case = next(self._upcoming, None)
        if case is not None:
            self._reading.append((case, self._readers.submit(self._read, case)))
        return case is not None

    def _read(self, case: Case) -> _Read:
        read = _read(self._predictor, case)
        self._largest = max(self._largest or 0, read.prepared.image.nbytes)
        return read

    def _bytes_with_another(self) -> int:
        return (len(self._reading) + 1) * (self._largest or 0)


def _read(predictor: Predictor, case: Case) -> _Read:
    image, geometry = read_image(case.image_paths)
    return _Read(case, geometry, predictor.prepare(image, geometry.spacing_mm, overwrite=True))


def _finish(predictor: Predictor, read: _Read, classes: np.ndarray, path: Path) -> Path:
    write_label(path, predictor.finish(classes, read.prepared), read.geometry)
    return path


def _ended(waiting: deque[tuple[Case, int, Future[Path]]]) -> tuple[Case, Outcome[Path]]:
    case, _, future = waiting.popleft()
    error = future.exception()
    if error is None:
        return case, Outcome(value=future.result())
    if not isinstance(error, Exception):
        raise error
    return case, Outcome(error=error)


def _stopper(stop: Callable[[], bool]) -> Callable[[int, int], None]:
    def on_batch(_done: int, _total: int) -> None:
        if stop():
            raise _StoppedError

    return on_batch


def _reason(error: Exception) -> str:
    if isinstance(error, MssegError):
        return str(error)
    _log.debug("unexpected error", exc_info=error)
    return f"{type(error).__name__}: {error}"


def _in_words(problem: Problem) -> str:
    return f"{problem.file}: {problem.found}; expected {problem.expected}. {problem.remedy}"


def _refuse_to_replace_inputs(cases: Sequence[Case], outputs: dict[str, Path]) -> None:
    inputs = {path.resolve() for case in cases for path in case.image_paths}
    for output in outputs.values():
        if output.resolve() in inputs:
            raise DatasetError(
                f"{output}: is an input image and would be replaced by its segmentation. Choose another output folder."
            )
