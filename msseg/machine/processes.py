"""What the commands' processes cost before they do anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import PIPE
from typing import Any

from msseg.errors import ResourceError

# What is started beside a command: the process that workers are forked from (and another that keeps count of what they
# share), and one that makes batches.
_MODULES = {
    "server": "multiprocessing.forkserver",
    "batches": "msseg.training.worker_augmentation",
}
_ROUNDS = 2  # of which the faster counts: what else runs on the same core slows even processor time
_SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def measured_processes(folder: Path) -> dict[str, dict[str, Any]]:
    """For each kind of process what the least run of it takes: seconds, and the memory that it holds at its end.

    `folder` is for the small data set that they run on.
    """
    from msseg.machine.least import COMMANDS, WORKERS, write_task

    found: dict[str, dict[str, Any]] = {}
    for round_number in range(_ROUNDS):
        place = folder / str(round_number)
        write_task(place)
        runs = {name: _loaded(module) for name, module in _MODULES.items()}
        for kind in (*COMMANDS, *WORKERS):
            runs[kind] = _least_run(kind, place, is_worker=kind in WORKERS)
        found = {name: min(run, found.get(name, run), key=_start_s) for name, run in runs.items()}
    return found


def _start_s(measured: Mapping[str, Any]) -> float:
    seconds: float = measured["start_s"]
    return seconds


def _loaded(module: str) -> dict[str, Any]:
    """A process that has nothing but a module, looked at from outside."""
    before_s = _children_s()
    command = [sys.executable, "-c", f"import {module}; print(flush=True); input()"]
    with subprocess.Popen(command, env={**os.environ, **_SINGLE}, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        resident, private = held_bytes(str(process.pid))
        process.stdin.write("\n")
    return {"start_s": _children_s() - before_s, "resident_bytes": resident, "private_bytes": private}


def _least_run(kind: str, folder: Path, is_worker: bool) -> dict[str, Any]:
    """In processor time, which a busy machine hardly stretches; the files are in the system's cache by now.

    That of a command is all of its process, its end included; a worker tells its own.
    """
    before_s = _children_s()
    command = [sys.executable, "-m", "msseg.machine.least", kind, str(folder)]
    done = subprocess.run(command, env={**os.environ, **_SINGLE}, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.strip().splitlines()[-1:])
        raise ResourceError(f"measuring this machine failed: {kind}: {said}. Is the installation whole?")
    own_s, resident, private = json.loads(done.stdout.splitlines()[-1])
    seconds = own_s if is_worker else _children_s() - before_s
    return {"start_s": seconds, "resident_bytes": resident, "private_bytes": private}


def _children_s() -> float:
    """Seconds of the processor that this process's children have taken, those that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def held_bytes(process: str = "self") -> tuple[int, int]:
    """Resident bytes of a process, and of these what it has written itself and shares with no other process.

    A process that was forked shares with its parent what neither has changed. Where the system does not tell them
    apart (not Linux), all count as its own, and as much as this process has had.
    """
    try:
        status, rollup = (_fields(Path("/proc") / process / name) for name in ("status", "smaps_rollup"))
        return status["VmRSS"], rollup["Private_Dirty"]
    except (OSError, KeyError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return peak, peak


def _fields(path: Path) -> dict[str, int]:
    rows = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}


def memory_bytes() -> int:
    """The main memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        raise ResourceError("this system does not say how much memory it has; --explain needs to know.") from None
