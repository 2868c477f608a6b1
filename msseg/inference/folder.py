"""Many image files through one predictor: the next is read and the last is written while the network computes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from msseg.data.cases import Case
from msseg.data.problems import Problem
from msseg.errors import DatasetError, MssegError
from msseg.inference.outputs import LabelMaps, ObjectNumbers, Output, PredictedCase, kept_by
from msseg.inference.outputs import output_path as output_path
from msseg.inference.predictor import Predictor
from msseg.inference.read_ahead import ReadAhead
from msseg.parallel import Outcome
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


class _StoppedError(Exception):
    """Somebody asked to stop in the middle of a case."""


def predict_folder(
    predictor: Predictor,
    cases: Sequence[Case],
    output_folder: Path,
    *,
    instances: bool = False,
    labels: bool = True,
    beside: Sequence[Output] = (),
    overwrite: bool = False,
    workers: int = 1,
    problems: Sequence[Problem] = (),
    quiet: bool = False,
    stop: Callable[[], bool] = lambda: False,
    ahead_bytes: int = AHEAD_BYTES,
) -> PredictionReport:
    """Write a label map for every case to `output_folder`, on its image's grid; what became of each case.

    With `instances` it holds object numbers; without `labels` none is written. `beside` says what else is written. An
    output is named by its case, with the ending of the image, and appears whole or not at all. A case all of whose
    outputs exist is skipped unless `overwrite`. A case that fails is reported and the others go on; `problems` are
    cases that failed before. `workers` threads read and prepare ahead, images of `ahead_bytes` at most, and as much may
    wait for being written. When `stop()` turns true, the case in the network is given up and those before it are still
    written. Raises DatasetError where an output would replace an input.
    """
    folder = Path(output_folder)
    outputs: list[Output] = [ObjectNumbers(folder) if instances else LabelMaps(folder)] if labels else []
    outputs += beside
    _refuse_to_replace_inputs(cases, outputs)
    skipped = tuple(case.name for case in cases if not overwrite and _is_written(case, outputs))
    todo = [case for case in cases if case.name not in skipped]
    failed = {problem.case: in_words(problem) for problem in problems if problem.severity == "error"}
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


def _predicted(
    predictor: Predictor,
    cases: Sequence[Case],
    outputs: Sequence[Output],
    workers: int,
    ahead_bytes: int,
    stop: Callable[[], bool],
) -> Iterator[tuple[Case, Outcome[None]]]:
    """Each case, written, or with its error, in order; what has not ended when `stop()` turns true is left out.

    Predictions wait for the thread that writes them, no more than `ahead_bytes` of them beside the one in work.
    """
    waiting: deque[tuple[Case, int, Future[None]]] = deque()
    keep = kept_by(outputs)
    with ThreadPoolExecutor(workers) as readers, ThreadPoolExecutor(1) as writer:
        reading = ReadAhead(predictor, cases, workers, ahead_bytes, readers)
        try:
            while (one := reading.take()) is not None and not stop():
                case, read = one
                try:
                    ready = read.result()
                    reading.begin_more()
                    found = predictor.predict(ready.prepared, _stopper(stop), keep)
                except _StoppedError:
                    break
                except Exception as error:
                    yield case, Outcome(error=error)
                    continue
                predicted = PredictedCase(case, ready.geometry, ready.prepared, found)
                waiting.append((case, found.nbytes, writer.submit(_written, predictor, predicted, outputs)))
                del predicted, found, ready, read, one
                while waiting and (waiting[0][2].done() or sum(size for _, size, _ in waiting) > ahead_bytes):
                    yield _ended(waiting)
        finally:  # Also where the caller leaves in the middle of a case: it would wait for readings that nobody wants.
            reading.cancel()
        while waiting:
            yield _ended(waiting)


def _written(predictor: Predictor, one: PredictedCase, outputs: Sequence[Output]) -> None:
    for output in reversed(outputs):  # the label map last: where it is, the others are
        output.write(predictor, one)


def _is_written(case: Case, outputs: Sequence[Output]) -> bool:
    return all(output.path(case).exists() for output in outputs)


def _ended(waiting: deque[tuple[Case, int, Future[None]]]) -> tuple[Case, Outcome[None]]:
    case, _, future = waiting.popleft()
    error = future.exception()
    if error is None:
        return case, Outcome()
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


def in_words(problem: Problem) -> str:
    """The sentence for a report."""
    return f"{problem.file}: {problem.found}; expected {problem.expected}. {problem.remedy}"


def _refuse_to_replace_inputs(cases: Sequence[Case], outputs: Sequence[Output]) -> None:
    inputs = {path.resolve() for case in cases for path in case.image_paths}
    for path in (output.path(case) for output in outputs for case in cases):
        if path.resolve() in inputs:
            raise DatasetError(
                f"{path}: is an input image and would be replaced by its segmentation. Choose another output folder."
            )
