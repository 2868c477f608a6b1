"""How long a piece of work takes, and the most memory that this process and its children hold meanwhile."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SECONDS_BETWEEN_LOOKS = 0.2


@dataclass
class Watched:
    """Figures of the work, final once it has ended: seconds, and bytes that several processes share counted once."""

    wall_s: float = 0.0
    peak_bytes: int = 0


@contextlib.contextmanager
def watched() -> Iterator[Watched]:
    """Watches what happens inside from a thread of its own."""
    found = Watched()
    ended = threading.Event()
    watcher = threading.Thread(target=_look, args=(found, ended), name="memory watch", daemon=True)
    start = time.monotonic()
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()
        found.wall_s = time.monotonic() - start
        found.peak_bytes = max(found.peak_bytes, _own_peak_bytes())


def _look(found: Watched, ended: threading.Event) -> None:
    while not ended.wait(_SECONDS_BETWEEN_LOOKS):
        found.peak_bytes = max(found.peak_bytes, tree_bytes(os.getpid()))


def tree_bytes(root: int) -> int:
    """What a process and all below it hold now (proportional set size); 0 where the system does not tell (Linux)."""
    total, queue = 0, [root]
    while queue:
        process = Path(f"/proc/{queue.pop()}")
        try:
            total += _proportional_bytes((process / "smaps_rollup").read_text(encoding="utf-8"))
            for task in (process / "task").iterdir():
                queue += [int(child) for child in (task / "children").read_text(encoding="utf-8").split()]
        except OSError:  # it has ended, or this is another system
            continue
    return total


def _proportional_bytes(text: str) -> int:
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)


def _own_peak_bytes() -> int:
    """The most that this process alone held; 0 on Windows, which does not say."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
