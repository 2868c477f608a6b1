"""Checks of the device paths in one command: python benchmarks/gpu_check.py [--device cuda] [--work FOLDER]

On small synthetic volumes: the network's logits on the device equal the CPU's, a short training in the device's
reduced precision learns and goes on where it stopped, and prediction on the device agrees with the CPU's. Prints a line
a check, with its time and the device memory it took; exits with 1 where one failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from msseg import PlanningOptions, TrainingOptions, evaluate, plan_and_preprocess, predict, train
from msseg.data.image import read_label
from msseg.data.synthetic import write_synthetic_dataset
from msseg.devices import autocast_dtype, resolve_device
from msseg.folders import find_task
from msseg.networks.build import build_network
from msseg.pipeline.planning import load_plan

TASK = "Dataset001_SyntheticKidneys"
MEMORY_BYTES = 2_000_000_000
LARGEST_LOGIT_ERROR = 1e-3
LEAST_EQUAL_VOXELS = 0.999


def same_logits(root: Path, device: torch.device) -> str:
    """The same network on both, in float32."""
    plan = load_plan(find_task(TASK, root))
    configuration = plan.configurations[plan.default_configuration]
    network = build_network(configuration, len(plan.channels), len(plan.labels)).eval()
    image = torch.randn(1, 1, *configuration.patch_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        on_cpu = network.main_output(image)
        on_device = network.to(device).main_output(image.to(device)).cpu()
    error = float((on_cpu - on_device).abs().max() / on_cpu.abs().max())
    assert error < LARGEST_LOGIT_ERROR, f"logits differ by {error:.2g} of the largest"
    return f"largest difference {error:.1e} of the largest logit"


def training_learns(root: Path, device: torch.device) -> str:
    """Four short epochs in the device's precision; the second two go on from the first two."""
    for epochs in (2, 4):
        options = TrainingOptions(recipe="budget", epochs=epochs)
        report = train(TASK, 0, root, options, str(device))
    assert report.validation is not None
    dice = report.validation.summary["kidney"].mean["dice"] or 0.0
    assert report.result.steps == 200, f"{report.result.steps} steps, expected 200"
    assert dice > 0.3, f"kidney Dice {dice:.2f} after 200 steps"
    return f"kidney Dice {dice:.2f} after 200 steps in {autocast_dtype(device) or torch.float32}"


def same_segmentation(root: Path, device: torch.device) -> str:
    """The test cases segmented on the device and on the CPU."""
    images = root / "raw" / TASK / "imagesTs"
    folders = {name: root / name for name in (str(device), "reference")}
    predict(images, folders[str(device)], root=root, device=str(device), overwrite=True)
    predict(images, folders["reference"], root=root, device="cpu", overwrite=True)
    equal = [
        float(np.mean(read_label(path)[0] == read_label(folders["reference"] / path.name)[0]))
        for path in sorted(folders[str(device)].glob("*.nii.gz"))
    ]
    assert min(equal) > LEAST_EQUAL_VOXELS, f"only {min(equal):.4%} of a case's voxels are equal"
    dice = evaluate(folders[str(device)], root / "raw" / TASK / "labelsTs").mean_foreground["dice"]
    return f"{min(equal):.4%} of the voxels equal the CPU's, mean Dice {dice:.2f}"


CHECKS: tuple[Callable[[Path, torch.device], str], ...] = (same_logits, training_learns, same_segmentation)


def run_check(check: Callable[[Path, torch.device], str], root: Path, device: torch.device) -> bool:
    """Whether the check passed; prints its line."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.monotonic()
    try:
        passed, said = True, check(root, device)
    except AssertionError as failure:
        passed, said = False, str(failure)
    memory = f", {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB" if device.type == "cuda" else ""
    print(
        f"{'ok  ' if passed else 'FAIL'} {check.__name__}: {said} ({time.monotonic() - start:.1f} s{memory})",
        flush=True,
    )
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--work", type=Path, help="folder to keep (default: a temporary one)")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.work or Path(temporary)
        if not (root / "raw" / TASK / "dataset.json").is_file():
            write_synthetic_dataset(root / "raw" / TASK, training=8, test=2)
        plan_and_preprocess(TASK, root, PlanningOptions(memory_bytes=MEMORY_BYTES))
        passed = [run_check(check, root, device) for check in CHECKS]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
