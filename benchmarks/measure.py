"""Time, processor time and peak memory: of a command with all its children, or of a block of this process (Linux)."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_SECONDS_BETWEEN_LOOKS = 0.05
_LEAST_PAUSE = 20.0  # times what a look takes of the processor
_SECONDS_FOR_ORPHANS = 5.0
_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


@dataclass(frozen=True)
class Measurement:
    """One run: `wall_s` from start to exit; `peak_bytes` is the largest sum over the process tree of what each
    process holds, memory that several share counted once (proportional set size); `cpu_s` is the processor time of all
    of them together."""

    wall_s: float
    peak_bytes: int
    cpu_s: float = 0.0


def measure(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Measurement:
    """Run `command` with its output in `log`; CalledProcessError where it fails."""
    _adopt_orphans()
    before_s = _children_cpu_s()
    with log.open("w") as output:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        peak = [0]
        watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
        watcher.start()
        code = process.wait()
        wall_s = time.monotonic() - start
        watcher.join()
    _wait_for_orphans()
    if code:
        print(log.read_text()[-2000:], file=sys.stderr)
        raise subprocess.CalledProcessError(code, command)
    return Measurement(wall_s, peak[0], _children_cpu_s() - before_s)


def middle(measurements: Sequence[Measurement]) -> Measurement:
    """The median of each figure."""
    return Measurement(
        median(m.wall_s for m in measurements),
        round(median(m.peak_bytes for m in measurements)),
        median(m.cpu_s for m in measurements),
    )


class TreePeak:
    """The peak of memory of this process and its children while the block runs, above what they held at its start.

    The kernel's own record of this process's peak is used, so that short peaks count; children are looked at.
    """

    def __enter__(self) -> TreePeak:
        Path("/proc/self/clear_refs").write_text("5")  # sets the recorded peak to what is held now
        self._before_bytes = _status_bytes("VmRSS")
        self._tree_bytes, self._ended = [_children_bytes()], threading.Event()
        self._watcher = threading.Thread(target=self._look, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._watcher.join()
        own = _status_bytes("VmHWM") - self._before_bytes
        self.gained_bytes = own + max(self._tree_bytes) - self._tree_bytes[0]

    def _look(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_LOOKS):
            self._tree_bytes.append(_children_bytes())


def cpu_seconds() -> float:
    """The processor time of this process and of its children that have ended."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime + _children_cpu_s()


def _adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent ends before them, so that their processor time is told to us.

    A pool's fork server, and with it its workers, would else be counted nowhere.
    """
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait_for_orphans() -> None:
    deadline = time.monotonic() + _SECONDS_FOR_ORPHANS
    while time.monotonic() < deadline:
        try:
            found, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not found:
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _children_bytes() -> int:
    return sum(_held_bytes(pid) for pid in _tree(os.getpid())[1:])


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _watch(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    while process.poll() is None:
        start = time.thread_time()
        peak[0] = max(peak[0], sum(_held_bytes(pid) for pid in _tree(process.pid)))
        # The kernel goes through all pages at each look: many large processes must not be slowed down by being watched.
        time.sleep(max(_SECONDS_BETWEEN_LOOKS, _LEAST_PAUSE * (time.thread_time() - start)))


def _tree(root: int) -> list[int]:
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                queue += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _held_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
