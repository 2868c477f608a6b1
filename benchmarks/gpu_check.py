"""Checks and speeds of a device in one command: python benchmarks/gpu_check.py [--device cuda] [--report FILE]

Says first which packages are missing, what for, and how to carry them; what needs them is left out. Then, on small
synthetic volumes: the network's logits on the device equal the CPU's, a short training in the device's reduced
precision learns and goes on where it stopped, prediction on the device agrees with the CPU's, and two processes on two
GPUs (one where there is one) train as one does; every network of the school gives the CPU's logits and takes a training
step within the memory that was predicted. Then speeds: iterations a second at nnU-Net's own plans with augmentation on
the device and by 2 to 16 workers, the share of waiting, what the step's probe chose, whole volumes a second, and
nnU-Net's own rate where `--nnunet PYTHON` names an environment of it. No network access is needed, nor that msseg is
installed. What the minutes of `--minutes` do not hold is left out, and said. Prints a line each; `--report` writes all
as JSON; exits with 1 where a check failed. `--quick` does it tiny.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from wheels import described, is_missing, missing_packages

REPOSITORY = Path(__file__).resolve().parent.parent


def find_msseg() -> None:
    """Let msseg be imported here and by worker processes also where it is not installed."""
    if is_missing("msseg"):
        sys.path.insert(0, str(REPOSITORY))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--work", type=Path, help="folder to keep (default: a temporary one)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write everything found as JSON")
    parser.add_argument("--nnunet", type=Path, metavar="PYTHON", help="python of an environment with nnU-Net, to race")
    parser.add_argument("--minutes", type=float, default=7.5, help="what does not fit is left out (default: 7.5)")
    parser.add_argument("--quick", action="store_true", help="tiny networks and volumes, to try the command itself")
    arguments = parser.parse_args(argv)
    end = time.monotonic() + 60 * arguments.minutes
    missing = missing_packages()
    print("\n".join(described(missing)), flush=True)
    find_msseg()
    return run(arguments, end, missing)


def run(arguments: argparse.Namespace, end: float, missing: list[str]) -> int:
    """Everything, after what may be missing is said: the exit code."""
    from gpu_report import Report, machine, measure_inference, measure_nnunet, measure_training, run_checks
    from gpu_speed import QUICK, WORKLOADS

    from msseg.devices import resolve_device

    device, report = resolve_device(arguments.device), Report(end)
    report.found |= {"machine": machine(device), "missing": missing}
    report.say(" ".join(f"{key} {value}" for key, value in report.found["machine"].items()))
    workloads = QUICK if arguments.quick else WORKLOADS
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.work or Path(temporary)
        passed = run_checks(report, root, device, arguments.quick)
        near = measure_inference(report, device, workloads, 24 if arguments.quick else 256)
        measure_training(report, root, device, workloads)
        if arguments.nnunet:
            measure_nnunet(report, root, device, arguments.nnunet, workloads)
    if arguments.report:
        arguments.report.write_text(json.dumps(report.found, indent=2) + "\n", encoding="utf-8")
    return 0 if passed and near else 1


if __name__ == "__main__":
    sys.exit(main())
