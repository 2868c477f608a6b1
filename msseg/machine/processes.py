"""What the commands' processes cost before they do anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from msseg.errors import ResourceError

# What each kind of process has loaded when its work begins.
_MODULES = {
    "prepare": "msseg.commands.plan_and_preprocess, msseg.pipeline.planning, msseg.data.nifti, planning.networks",
    "train": "msseg.commands.train, msseg.pipeline.training, msseg.data.nifti",
    "batches": "msseg.training.worker_augmentation",
    "predict": "msseg.commands.predict, msseg.pipeline.prediction, msseg.data.nifti",
    "evaluate": "msseg.commands.evaluate, msseg.pipeline.evaluation, msseg.data.nifti",
}
_STATUS = "import sys; from msseg.machine.processes import held_bytes; import json; print(json.dumps(held_bytes()))"


def measured_processes() -> dict[str, dict[str, Any]]:
    """For each kind of process the seconds to its start, and the memory that it holds then."""
    return {name: _measured(module) for name, module in _MODULES.items()}


def _measured(module: str) -> dict[str, Any]:
    """Start-up in processor time, which a busy machine hardly stretches; the files are in the system's cache by now."""
    before = os.times()
    command = [sys.executable, "-c", f"import {module}; {_STATUS}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        raise ResourceError(f"measuring this machine failed: {module}: {' '.join(said)}. Is the installation whole?")
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    resident, private = json.loads(done.stdout)
    return {"start_s": seconds, "resident_bytes": resident, "private_bytes": private}


def held_bytes() -> tuple[int, int]:
    """Resident bytes of this process, and of these its anonymous ones, which no other process shares.

    Where the system does not tell them apart (not Linux), all count as its own.
    """
    try:
        fields = dict(_status_lines(Path("/proc/self/status").read_text(encoding="utf-8")))
        return fields["VmRSS"], fields.get("RssAnon", fields["VmRSS"])
    except (OSError, KeyError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return peak, peak


def _status_lines(text: str) -> list[tuple[str, int]]:
    rows = (line.split() for line in text.splitlines())
    return [(row[0].rstrip(":"), int(row[1]) * 1024) for row in rows if len(row) == 3 and row[2] == "kB"]


def memory_bytes() -> int:
    """The main memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        raise ResourceError("this system does not say how much memory it has; --explain needs to know.") from None
