"""The checks of gpu_check.py: what a device computes against what the CPU does and what was predicted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from msseg.devices import autocast_dtype
from msseg.losses.supervision import SupervisedLoss
from msseg.losses.table import build_loss
from msseg.networks.build import build_network
from msseg.training.log import read_log
from planning.networks import NETWORKS
from planning.overview import reference_configuration, with_network
from planning.plan import Configuration
from planning.training_memory import step_memory

TASK = "Dataset001_SyntheticKidneys"
MEMORY_BYTES = 2_000_000_000
LARGEST_LOGIT_ERROR = 1e-3
LEAST_EQUAL_VOXELS = 0.999
LARGEST_MEMORY_ERROR = 0.1
LARGEST_LOSS_DIFFERENCE = 0.02
_SHORT = ["--recipe", "budget", "--epochs", "2", "--set", "steps_per_epoch=10", "--set", "batch_size=2"]
_SHORT += ["--quiet", "--network-option"]


def same_logits(root: Path, device: torch.device) -> str:
    """The same network on both, in float32."""
    from msseg.folders import find_task
    from msseg.pipeline.planning import load_plan

    plan = load_plan(find_task(TASK, root))
    configuration = plan.configurations[plan.default_configuration]
    network = build_network(configuration, len(plan.channels), plan.outputs).eval()
    image = torch.randn(1, 1, *configuration.patch_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        on_cpu = network.main_output(image)
        on_device = network.to(device).main_output(image.to(device)).cpu()
    error = float((on_cpu - on_device).abs().max() / on_cpu.abs().max())
    assert error < LARGEST_LOGIT_ERROR, f"logits differ by {error:.2g} of the largest"
    return f"largest difference {error:.1e} of the largest logit"


def training_learns(root: Path, device: torch.device) -> str:
    """Four short epochs in the device's precision; the second two go on from the first two."""
    from msseg import TrainingOptions, train

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
    from msseg import evaluate, predict
    from msseg.data.image import read_label

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


def several_processes(root: Path, device: torch.device) -> str:
    """Fold 1 by torchrun on two devices, or on the one there is, and by this process alone: the losses of both.

    With instance norm and, on two, with batch norm, whose figures are of the whole batch.
    """
    count = min(2, torch.cuda.device_count()) if device.type == "cuda" else 2
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    off = []
    for norm in ("instance", "batch")[:count]:
        asked = [TASK, "1", "--root", str(root), "--device", device.type, "--restart", *_SHORT, f"norm={norm}"]
        together, alone = (_losses(root, [*start, *asked]) for start in (launcher, [sys.executable]))
        assert len(together) == len(alone) == 2, f"{len(together)} and {len(alone)} epochs, expected 2"
        off.append(max(abs(one - other) for one, other in zip(together, alone, strict=True)))
    assert max(off) < LARGEST_LOSS_DIFFERENCE, f"losses differ by {max(off):.2g}"
    return f"{count} processes, losses at most {max(off):.1e} off those of one"


def _losses(root: Path, command: list[str]) -> list[float]:
    """The loss of each epoch that msseg_train, started so, logs."""
    place = command.index(TASK)
    done = subprocess.run(
        [*command[:place], "-m", "msseg.commands.train", *command[place:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-1000:]
    log = max((root / "models" / TASK).glob("*/fold_1/log.jsonl"), key=lambda path: path.stat().st_mtime)
    return [entry["loss"] for entry in read_log(log) if entry["event"] == "epoch"]


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


Check = Callable[[Path, torch.device], str]

# The first four need a data set that was planned and preprocessed.
CHECKS: tuple[Check, ...] = (same_logits, training_learns, same_segmentation, several_processes, every_network)
OF_THE_LINE = CHECKS[:4]


def prepare_line(root: Path) -> None:
    """Plan and preprocess a synthetic data set below `root`, for the checks of the whole line."""
    from msseg import PlanningOptions, plan_and_preprocess
    from msseg.data.synthetic import write_synthetic_dataset

    if not (root / "raw" / TASK / "dataset.json").is_file():
        write_synthetic_dataset(root / "raw" / TASK, training=8, test=2)
    plan_and_preprocess(TASK, root, PlanningOptions(memory_bytes=MEMORY_BYTES))
