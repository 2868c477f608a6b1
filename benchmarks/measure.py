"""Time and peak memory of a command with all its children, from outside (Linux)."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_SECONDS_BETWEEN_LOOKS = 0.05


@dataclass(frozen=True)
class Measurement:
    """One run: `wall_s` from start to exit; `peak_bytes` is the largest sum over the process tree of what each
    process holds, memory that several share counted once (proportional set size)."""

    wall_s: float
    peak_bytes: int


def measure(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Measurement:
    """Run `command` with its output in `log`; CalledProcessError where it fails."""
    with log.open("w") as output:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        peak = [0]
        watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
        watcher.start()
        code = process.wait()
        wall_s = time.monotonic() - start
        watcher.join()
    if code:
        print(log.read_text()[-2000:], file=sys.stderr)
        raise subprocess.CalledProcessError(code, command)
    return Measurement(wall_s, peak[0])


def middle(measurements: Sequence[Measurement]) -> Measurement:
    """The median of each figure."""
    return Measurement(median(m.wall_s for m in measurements), round(median(m.peak_bytes for m in measurements)))


def _watch(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(_held_bytes(pid) for pid in _tree(process.pid)))
        time.sleep(_SECONDS_BETWEEN_LOOKS)


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
