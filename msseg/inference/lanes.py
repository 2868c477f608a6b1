"""A batch shared among threads of a CPU, each of which takes its part through the networks alone.

Where one pass is spread over the cores, they wait for each other at the end of each of its thousand operators. Apart,
two cores took 2.7 s of processor time for eight views of a U-Net's patch in place of 4.0, and a third less of the
clock; and a core that other work holds up holds up no other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread

import torch

from msseg.inference.answers import Answer, together
from msseg.inference.memory import lanes_for

Forward = Callable[[torch.Tensor], Answer]
# What a thread computes under: gradients and autocast are settings of each thread.
State = Callable[[], contextlib.AbstractContextManager[None]]


class Lanes:
    """The threads that wait for batches while `open`, each with an equal share of the cores."""

    def __init__(self) -> None:
        self._cores = 1
        self._state: State = contextlib.nullcontext
        self._teams: dict[int, _Team] = {}

    @contextlib.contextmanager
    def open(self, state: State) -> Iterator[None]:
        """Share batches in here among as many threads as torch uses; they compute under `state`."""
        self._cores, self._state = torch.get_num_threads(), state
        try:
            yield
        finally:
            for team in self._teams.values():
                team.dismiss()
            self._teams = {}
            torch.set_num_threads(self._cores)  # a thread that asks for fewer speaks for those to come
            self._cores = 1

    def shared(self, forward: Forward) -> Forward:
        """`forward` that shares its batch where lanes are open, the answers in its order."""

        def in_parts(tiles: torch.Tensor) -> Answer:
            count = lanes_for(len(tiles), self._cores)
            if count == 1:
                return forward(tiles)
            if count not in self._teams:
                self._teams[count] = _Team(count, self._cores // count, self._state)
            return together(self._teams[count].answers(forward, tiles.chunk(count)))

        return in_parts


class _Team:
    """Threads that take the parts of batches in turn, each on `cores` cores."""

    def __init__(self, count: int, cores: int, state: State) -> None:
        self._parts: SimpleQueue[tuple[Future[Answer], Forward, torch.Tensor] | None] = SimpleQueue()
        self._members = [Thread(target=self._serve, args=(cores, state), daemon=True) for _ in range(count)]
        for member in self._members:
            member.start()

    def answers(self, forward: Forward, parts: Sequence[torch.Tensor]) -> list[Answer]:
        """The answers to the parts, in order; what one of them raises."""
        futures: list[Future[Answer]] = [Future() for _ in parts]
        for future, part in zip(futures, parts, strict=True):
            self._parts.put((future, forward, part))
        return [future.result() for future in futures]

    def dismiss(self) -> None:
        """Let the threads end when they have done what they were given."""
        for _ in self._members:
            self._parts.put(None)
        for member in self._members:
            member.join()

    def _serve(self, cores: int, state: State) -> None:
        torch.set_num_threads(cores)
        with state():
            while (given := self._parts.get()) is not None:
                future, forward, part = given
                try:
                    future.set_result(forward(part))
                except BaseException as error:  # whatever it is, it is for the one who waits
                    future.set_exception(error)
                del given, future, forward, part  # a waiting thread holds no answer
