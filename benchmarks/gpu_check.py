"""Checks of the device paths in one command: python benchmarks/gpu_check.py [--device cuda] [--work FOLDER]

On small synthetic volumes: the network's logits on the device equal the CPU's, a short training in the device's
reduced precision learns and goes on where it stopped, and prediction on the device agrees with the CPU's; every network
of the school gives the CPU's logits and takes a training step within the memory that was predicted. Prints a line
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
from msseg.losses import SupervisedLoss, build_loss
from msseg.networks.build import build_network
from msseg.pipeline.planning import load_plan
from planning.networks import NETWORKS
from planning.overview import reference_configuration, with_network
from planning.plan import Configuration
from planning.training_memory import step_memory

TASK = "Dataset001_SyntheticKidneys"
MEMORY_BYTES = 2_000_000_000
LARGEST_LOGIT_ERROR = 1e-3
LEAST_EQUAL_VOXELS = 0.999
LARGEST_MEMORY_ERROR = 0.1


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


def every_network(_root: Path, device: torch.device) -> str:
    """Each network of the table in 2D and 3D: the CPU's logits, and on CUDA the predicted memory of a training step."""
    worst = 0.0
    for dimensions in (2, 3):
        for row in NETWORKS.values():
            configuration = with_network(reference_configuration(dimensions), row)
            if row.points == "none":  # which points are chosen may differ by rounding
                _assert_same_logits(configuration, device)
            if device.type == "cuda":
                predicted = step_memory(configuration, 1, 2).peak
                off = abs(_step_bytes(configuration, device) / predicted - 1)
                assert off < LARGEST_MEMORY_ERROR, f"{row.name}, {dimensions}D: memory {off:.0%} off the prediction"
                worst = max(worst, off)
    return f"{len(NETWORKS)} networks in 2D and 3D, memory at most {worst:.1%} off the prediction"


def _assert_same_logits(configuration: Configuration, device: torch.device) -> None:
    network = build_network(configuration, 1, 2).eval()
    edges = [edge // 2 for edge in configuration.patch_size]
    image = torch.randn(1, 1, *edges, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        on_cpu = network.main_output(image)
        on_device = network.to(device).main_output(image.to(device)).cpu()
    error = float((on_cpu - on_device).abs().max() / on_cpu.abs().max())
    assert error < LARGEST_LOGIT_ERROR, f"{configuration.network}: logits differ by {error:.2g} of the largest"


def _step_bytes(configuration: Configuration, device: torch.device) -> int:
    """Bytes of living tensors at the peak of the second training step."""
    network = build_network(configuration, 1, 2).to(device).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    loss = SupervisedLoss(
        build_loss("exp_log_dice_ce", (0.5, 0.5), True),
        configuration.supervision_weights,
        level_targets=configuration.row.level_targets,
    )
    shape = (configuration.batch_size, *configuration.patch_size)
    image, target = torch.randn(shape[0], 1, *shape[1:], device=device), torch.zeros(shape, device=device).long()
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats(device)
        optimiser.zero_grad(set_to_none=True)
        loss(network(image), target).backward()
        optimiser.step()
    return torch.cuda.max_memory_allocated(device)


CHECKS: tuple[Callable[[Path, torch.device], str], ...] = (
    same_logits,
    training_learns,
    same_segmentation,
    every_network,
)


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
