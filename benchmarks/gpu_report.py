"""The checks and measurements of gpu_check.py, one by one, as far as packages and time allow, and what came of them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_checks import CHECKS, OF_THE_LINE, Check, prepare_line, same_logits
from gpu_speed import Workload, inference_rate, nnunet_request, training_rate
from wheels import is_missing

from msseg.devices import autocast_dtype

# What the checks of the whole line need beside torch.
_LINE = ("nibabel", "connected-components-3d", "scipy")
# Of the largest score; the device computes in reduced precision.
LARGEST_SCORE_ERROR = 0.05
NNUNET_RATIO = 1.5
# Estimates: what is measured is left out where less time is left.
_SECONDS_LEFT = {"check": 20.0, "device": 25.0, "workers": 60.0, "compiled": 120.0, "inference": 20.0, "nnunet": 90.0}


class Report:
    """What was found, printed line by line as it is; `end` is when time is up."""

    def __init__(self, end: float) -> None:
        self.end = end
        self.found: dict[str, Any] = {"checks": [], "training": [], "inference": [], "left_out": []}

    def say(self, line: str) -> None:
        print(line, flush=True)

    def has_time_for(self, kind: str, what: str) -> bool:
        """Whether the time left holds one more of the kind; where not, that is noted."""
        if time.monotonic() + _SECONDS_LEFT[kind] <= self.end:
            return True
        self.leave_out(what, "no time left")
        return False

    def leave_out(self, what: str, why: str) -> None:
        self.found["left_out"].append({"what": what, "why": why})
        self.say(f"left out: {what}: {why}")


def run_check(check: Check, root: Path, device: torch.device) -> dict[str, Any]:
    """How the check went, its time and device memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.monotonic()
    try:
        passed, said = True, check(root, device)
    except AssertionError as failure:
        passed, said = False, str(failure)
    except Exception as error:  # One check that breaks must not keep the others from running.
        passed, said = False, f"{type(error).__name__}: {error}"
    gigabytes = round(torch.cuda.max_memory_allocated(device) / 1e9, 2) if device.type == "cuda" else None
    return {
        "check": check.__name__,
        "passed": passed,
        "said": said,
        "seconds": round(time.monotonic() - start, 1),
        "device_gb": gigabytes,
    }


def run_checks(report: Report, root: Path, device: torch.device, quick: bool) -> bool:
    """Whether all checks passed that this machine's packages and the time allow."""
    lacking = [package for package in _LINE if is_missing(package)]
    checks = list(CHECKS)
    if lacking:
        checks = [check for check in CHECKS if check not in OF_THE_LINE]
        report.leave_out(", ".join(check.__name__ for check in OF_THE_LINE), f"{', '.join(lacking)} missing")
    elif quick:
        checks = [same_logits]
    if any(check in OF_THE_LINE for check in checks):
        prepare_line(root)
    if quick and lacking:
        checks = []
    for check in checks:
        if report.has_time_for("check", check.__name__):
            entry = run_check(check, root, device)
            report.found["checks"].append(entry)
            memory = "" if entry["device_gb"] is None else f", {entry['device_gb']} GB"
            word = "ok  " if entry["passed"] else "FAIL"
            report.say(f"{word} {entry['check']}: {entry['said']} ({entry['seconds']} s{memory})")
    return all(entry["passed"] for entry in report.found["checks"])


def measure_training(report: Report, root: Path, device: torch.device, workloads: tuple[Workload, ...]) -> None:
    """Rates with augmentation on the device, then by workers, then compiled; each workload's in turn."""
    runs = [("device", workers, False, "device") for workers in (2, 4)]
    if is_missing("batchgenerators"):
        report.leave_out("augmentation by workers", "batchgenerators missing")
    else:
        runs += [("workers", workers, False, "workers") for workers in _worker_counts()]
    if device.type == "cuda":
        runs.insert(2, ("device", 4, True, "compiled"))
    for workload in workloads:
        for augment, workers, compiled, kind in runs:
            what = f"training {workload.name}, augment {augment}, {workers} workers{', compiled' * compiled}"
            measure = partial(training_rate, workload, root, device, augment, workers, compiled)
            _measured(report, "training", kind, what, measure, _training_line)


def _worker_counts() -> list[int]:
    return [count for count in (2, 4, 8, 16) if count <= max(2, os.cpu_count() or 1)]


def _training_line(found: dict[str, Any]) -> str:
    plan = found["step_plan"]
    chosen = ", ".join([plan["dtype"], *(name for name in ("channels_last", "fused", "compiled") if plan[name])])
    memory = "" if found["device_gb"] is None else f", {found['device_gb']} GB"
    return f"{found['iterations_per_s']:.2f} iterations/s, waited {found['waited']:.1%}, {chosen}{memory}"


def measure_inference(report: Report, device: torch.device, workloads: tuple[Workload, ...], edge: int) -> bool:
    """Whether the device's scores are near the CPU's; says how fast whole volumes go."""
    for workload in workloads:
        what = f"inference {workload.name}, volume of {edge} cubed, all mirrors"
        measure = partial(inference_rate, workload, device, edge)
        _measured(report, "inference", "inference", what, measure, _inference_line)
    errors = [found["largest_error_share"] for found in report.found["inference"] if "largest_error_share" in found]
    return all(error < LARGEST_SCORE_ERROR for error in errors)


def _inference_line(found: dict[str, Any]) -> str:
    memory = "" if found["device_gb"] is None else f", {found['device_gb']} GB"
    return (
        f"{found['seconds']} s, {found['voxels_per_s'] / 1e6:.2f} million voxels/s{memory}, "
        f"scores within {found['largest_error_share']:.1e} of the CPU's largest"
    )


def measure_nnunet(
    report: Report, root: Path, device: torch.device, python: Path, workloads: tuple[Workload, ...]
) -> None:
    """nnU-Net's iterations a second on the same arrays and network, and our best over it."""
    script = Path(__file__).with_name("nnunet_rate.py")
    for workload in workloads:

        def measure(workload: Workload = workload) -> dict[str, Any]:
            request = nnunet_request(workload, root, workload.worker_steps)
            command = [str(python), str(script), str(request), str(device)]
            environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
            theirs: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            ours = [
                entry["iterations_per_s"]
                for entry in report.found["training"]
                if entry.get("workload") == workload.name
            ]
            ratio = max(ours) / theirs["iterations_per_s"] if ours else None
            return {"workload": workload.name, **theirs, "ratio": ratio}

        _measured(report, "nnunet", "nnunet", f"nnU-Net {workload.name}", measure, _nnunet_line)


def _nnunet_line(found: dict[str, Any]) -> str:
    ratio = found["ratio"]
    compared = "" if ratio is None else f"; msseg is {ratio:.2f} times as fast (goal {NNUNET_RATIO})"
    return f"{found['iterations_per_s']:.2f} iterations/s with {found['workers']} workers{compared}"


def _measured(
    report: Report,
    room: str,
    kind: str,
    what: str,
    measure: Callable[[], dict[str, Any]],
    line: Callable[[dict[str, Any]], str],
) -> None:
    """Measure, if there is time, note it and say it; a failure is noted in place of the figures."""
    if not report.has_time_for(kind, what):
        return
    entries = report.found.setdefault(room, [])
    try:
        found = measure()
    except Exception as error:  # One measurement that breaks must not lose the others.
        entries.append({"what": what, "error": f"{type(error).__name__}: {error}"})
        report.say(f"FAIL {what}: {type(error).__name__}: {error}")
        return
    entries.append(found)
    report.say(f"     {what}: {line(found)}")


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": str(device),
        "name": name,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "precision": str(autocast_dtype(device) or torch.float32),
    }
