"""The profile of this machine: read where it was measured before with the same versions, else measured and kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from msseg.errors import MssegError, ResourceError
from msseg.files import read_json, value_hash, write_json
from msseg.parallel import default_workers
from planning.costs.machine import PROFILE_VERSION, Machine, machine_from_json, machine_to_json

CACHE_VARIABLE = "MSSEG_CACHE"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PACKAGES = ("msseg", "torch", "numpy", "scipy")
_LONGEST_S = 600
_USUAL_S = 45


def cache_folder() -> Path:
    """$MSSEG_CACHE, else `msseg` in the folder where the system keeps a user's caches."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    places = {"win32": os.environ.get("LOCALAPPDATA"), "darwin": str(Path.home() / "Library" / "Caches")}
    return Path(places.get(sys.platform) or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msseg"


def measured_machine(
    cache: Path | None = None, remeasure: bool = False, announce: Callable[[str], None] | None = None
) -> Machine:
    """The profile of this machine with its present versions, cores and threads.

    It lies in `cache` (default: `cache_folder`), one JSON file for each of these. Where there is none, or `remeasure`
    asks for it, the machine is measured, half a minute, which `announce` is told first. Raises ResourceError where
    measuring fails.
    """
    known = None if remeasure else known_machine(cache)
    if known is not None:
        return known
    identity = machine_identity()
    path = _profile_path(cache, identity)
    (announce or _say)(f"measuring this machine once, about {_USUAL_S} s at rest; kept in {path}")
    machine = measure_machine(identity)
    write_json(path, machine_to_json(machine))
    return machine


def known_machine(cache: Path | None = None) -> Machine | None:
    """The profile where this machine was measured before, else None; nothing is measured."""
    path = _profile_path(cache, machine_identity())
    try:
        return machine_from_json(read_json(path), str(path)) if path.is_file() else None
    except MssegError:  # of another version, or damaged
        return None


def _profile_path(cache: Path | None, identity: dict[str, Any]) -> Path:
    return (cache or cache_folder()) / f"machine_{value_hash(identity)[:12]}.json"


def measure_machine(identity: dict[str, Any]) -> Machine:
    """Everything measured anew, part by part in processes of their own, as the commands run them."""
    from msseg.machine.processes import measured_processes, memory_bytes

    with tempfile.TemporaryDirectory() as folder:
        processes = measured_processes(Path(folder))
    single = dict.fromkeys(_THREAD_VARIABLES, "1")
    cases = _measured("cases", single)
    arithmetic = _measured("arithmetic", {})
    return machine_from_json(
        {
            "name": identity["name"],
            "cores": identity["cores"],
            "threads": arithmetic["threads"],
            "memory_bytes": memory_bytes(),
            "versions": identity["versions"],
            "processes": processes,
            "cases": cases,
            "cpu": arithmetic["cpu"],
            "device": arithmetic["device"],
            "version": PROFILE_VERSION,
        },
        "the measurement",
    )


def machine_identity() -> dict[str, Any]:
    """What a profile holds for: processor, cores, threads asked for, and versions."""
    return {
        "profile": PROFILE_VERSION,
        "node": platform.node(),
        "name": _processor_name(),
        "cores": default_workers(),
        "threads": {name: os.environ.get(name) for name in _THREAD_VARIABLES},
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
    }


def _measured(part: str, environment: dict[str, str]) -> dict[str, Any]:
    """What `msseg.machine.PART` prints as JSON in a process of its own."""
    command = [sys.executable, "-m", f"msseg.machine.{part}"]
    try:
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=_LONGEST_S, check=True
        )
        value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return value
    except (subprocess.SubprocessError, ValueError, IndexError) as problem:
        said = (getattr(problem, "stderr", None) or str(problem)).strip().splitlines()[-1:]
        raise ResourceError(
            f"measuring this machine ({part}) failed: {' '.join(said)}. Free memory, or run without --explain."
        ) from None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
