"""Progress that suits where it is read: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LOG_LINES = 15.0


def progress(
    items: Iterable[Item], description: str, total: int | None = None, unit: str = "case", quiet: bool = False
) -> Iterator[Item]:
    """The items, with a report of rate and time left on stderr; `total` where `items` has no length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if quiet:
        return iter(items)
    if sys.stderr.isatty():
        return _with_bar(items, description, total, unit)
    return _with_lines(items, description, total, unit)


def _with_bar(items: Iterable[Item], description: str, total: int | None, unit: str) -> Iterator[Item]:
    from tqdm import tqdm

    yield from tqdm(items, desc=description, total=total, unit=unit, file=sys.stderr, dynamic_ncols=True)


def _with_lines(items: Iterable[Item], description: str, total: int | None, unit: str) -> Iterator[Item]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - last >= SECONDS_BETWEEN_LOG_LINES:
            last = now
            print(progress_line(description, done, total, now - start, unit), file=sys.stderr, flush=True)


def progress_line(description: str, done: int, total: int | None, elapsed_s: float, unit: str) -> str:
    """One line of a log: count, rate and time left."""
    rate = done / elapsed_s if elapsed_s > 0 else float("inf")
    line = f"{description}: {done}{'' if total is None else f'/{total}'} {unit}s, {rate:.2f} {unit}s/s"
    if total is None or done >= total:
        return f"{line}, {format_duration(elapsed_s)}"
    return f"{line}, {format_duration((total - done) / rate)} left"


def format_duration(seconds: float) -> str:
    """A duration as people say it: `9 s`, `2 min 05 s`, `3 h 12 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
