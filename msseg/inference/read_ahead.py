"""Images that are read and prepared by threads while the network computes, bounded in number and bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from msseg.data.cases import Case
from msseg.data.geometry import Geometry
from msseg.data.image import read_image
from msseg.inference.predictor import Predictor
from msseg.preprocessing.case import PreparedCase


@dataclass(frozen=True)
class ReadCase:
    """A case read and prepared."""

    case: Case
    geometry: Geometry
    prepared: PreparedCase


class ReadAhead:
    """The cases in order, each with its reading under way: `count` at most ahead, and `max_bytes` of prepared images.

    A case that is not read yet counts as much as the largest so far, so that the first is read alone; one is read when
    it is asked for, whatever it takes.
    """

    def __init__(
        self, predictor: Predictor, cases: Sequence[Case], count: int, max_bytes: int, readers: Executor
    ) -> None:
        self._predictor, self._upcoming, self._readers = predictor, iter(cases), readers
        self._count, self._max_bytes = count, max_bytes
        self._reading: deque[tuple[Case, Future[ReadCase]]] = deque()
        self._largest: int | None = None

    def take(self) -> tuple[Case, Future[ReadCase]] | None:
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

    def _read(self, case: Case) -> ReadCase:
        read = read_case(self._predictor, case)
        self._largest = max(self._largest or 0, read.prepared.nbytes)
        return read

    def _bytes_with_another(self) -> int:
        return (len(self._reading) + 1) * (self._largest or 0)


def read_case(predictor: Predictor, case: Case) -> ReadCase:
    """The case read and prepared; its image is worked on in its own memory."""
    image, geometry = read_image(case.image_paths, len(predictor.model.plan.channels))
    return ReadCase(case, geometry, predictor.prepare(image, geometry.known_spacing_mm, overwrite=True))
