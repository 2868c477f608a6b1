"""Seconds that a function takes when nothing disturbs it."""

from __future__ import annotations

import time
from collections.abc import Callable


def least_seconds(
    function: Callable[[], object],
    repeats: int = 3,
    longest_s: float = 0.5,
    clock: Callable[[], float] = time.process_time,
) -> float:
    """The least of `repeats` runs after one to warm up; no further run once `longest_s` are spent.

    The least, because what else runs on the machine only ever adds. `clock` is the processor time of this process,
    which a busy machine hardly stretches; what runs on several threads or a graphics card needs `time.perf_counter`.
    """
    function()
    measured: list[float] = []
    spent = 0.0
    while not measured or (len(measured) < repeats and spent < longest_s):
        start = clock()
        function()
        measured.append(clock() - start)
        spent += measured[-1]
    return max(min(measured), 1e-7)
