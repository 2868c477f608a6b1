"""What gpu_check.py measures: iterations a second of training, the share of waiting, and whole volumes a second.

The data are made up and written straight into a store, so that neither image files nor a plan's preprocessing is
needed. The plans are nnU-Net's own for such data, with its network.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from msseg.data.store import write_case
from msseg.inference.sliding_window import predict_logits
from msseg.networks.build import build_network
from msseg.training.job import TrainingJob
from msseg.training.log import LOG, read_log
from msseg.training.loop import train_fold
from msseg.training.recipes import recipe_named
from planning.networks import NETWORKS
from planning.plan import ChannelPlan, Configuration, Plan
from planning.splits import Split

_SEED = 0


@dataclass(frozen=True)
class Workload:
    """A plan, the data it is for, and how many steps are timed: `epochs` of `steps`, the first for warming up."""

    name: str
    patch: int | tuple[int, int, int]
    batch: int
    features: tuple[int, ...]
    volume: tuple[int, int, int]
    cases: int
    steps: int
    worker_steps: int
    epochs: int = 3


# nnU-Net 2.8.1's 3d_fullres for the hippocampus of the Decathlon, and what it plans for most CT at 8 GB.
WORKLOADS = (
    Workload("hippocampus", (40, 56, 40), 9, (32, 64, 128, 256), (36, 50, 35), 20, steps=60, worker_steps=30),
    Workload("128 cubed", (128, 128, 128), 2, (32, 64, 128, 256, 320, 320), (160, 200, 200), 4, 20, worker_steps=5),
)
QUICK = (Workload("tiny", (16, 16, 16), 2, (4, 8, 8), (18, 20, 18), 3, steps=3, worker_steps=3),)


def configuration_of(workload: Workload) -> Configuration:
    """nnU-Net's plain U-Net on the workload's patch: kernels of 3, strides of 2 on every axis."""
    levels = len(workload.features)
    encoder, decoder = NETWORKS["plain_unet"].depths(levels)
    raw = [0.5**level for level in range(levels - 2)] or [1.0]
    return Configuration(
        name="3d",
        dimensions=3,
        spacing_mm=(1.0, 1.0, 1.0),
        median_shape=workload.volume,
        patch_size=tuple(workload.patch),  # type: ignore[arg-type]
        batch_size=workload.batch,
        network="plain_unet",
        features=workload.features,
        strides=((2, 2, 2),) * (levels - 1),
        kernel_sizes=((3, 3, 3),) * levels,
        encoder_convolutions=encoder,
        decoder_convolutions=decoder,
        supervision_weights=tuple(weight / sum(raw) for weight in raw),
        batch_dice=False,
        dummy_2d=False,
        image_order=3,
        label_order=1,
        score_order=1,
        mirror_axes=(0, 1, 2),
    )


def plan_of(configuration: Configuration) -> Plan:
    """A plan of one channel and two foreground classes around the configuration."""
    return Plan(
        dataset_name="made up",
        channels=(ChannelPlan("MRI", "zscore", False, lower=0.0, upper=1.0, mean=0.0, std=1.0),),
        labels={"background": 0, "ball": 1, "core": 2},
        axis_order=(0, 1, 2),
        class_weights=(0.2, 0.4, 0.4),
        configurations={configuration.name: configuration},
        default_configuration=configuration.name,
        memory_bytes=8 * 10**9,
    )


def write_store(workload: Workload, folder: Path) -> tuple[str, ...]:
    """The names of cases, balls with a core in noise, now in the store `folder`."""
    generator = np.random.default_rng(_SEED)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, edge) for edge in workload.volume), indexing="ij"))
    names = []
    for number in range(workload.cases):
        centre = generator.uniform(-0.3, 0.3, 3).reshape(3, 1, 1, 1)
        distance = np.sqrt(((grid - centre) ** 2).sum(axis=0))
        label = (distance < 0.5).astype(np.uint8) + (distance < 0.25)
        image = (label + generator.standard_normal(workload.volume)).astype(np.float32)[None]
        locations = {value: np.argwhere(label == value)[::7].astype(np.int32) for value in (1, 2)}
        names.append(f"case_{number}")
        write_case(folder, names[-1], image, label, locations, {"spacing_mm": [1.0, 1.0, 1.0]}, key="made up")
    return tuple(names)


def training_rate(
    workload: Workload, root: Path, device: torch.device, augment: str, workers: int, compiled: bool
) -> dict[str, Any]:
    """Iterations a second, the share of the time that batches were waited for, and what the probe chose."""
    store = root / workload.name / "cases_3d"
    names = tuple(sorted(path.stem for path in store.glob("*.safetensors"))) or write_store(workload, store)
    steps = workload.steps if augment == "device" else workload.worker_steps
    recipe = replace(recipe_named("nnunet"), steps_per_epoch=steps, validation_batches=0, whole_volume_every=10**6)
    configuration = configuration_of(workload)
    job = TrainingJob(
        store=store,
        plan=plan_of(configuration),
        configuration_name="3d",
        split=Split(names, ()),
        fold="all",
        recipe=recipe,
        folder=root / workload.name / f"{augment}_{workers}_{compiled}",
        device=device,
        workers=workers,
        epochs=workload.epochs,
        restart=True,
        augment=augment,
        compiled=compiled,
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    train_fold(job, report=lambda _line: None)
    return {
        "workload": workload.name,
        "augment": augment,
        "workers": workers,
        **_rates(read_log(job.folder / LOG), steps),
        "device_gb": _peak_gb(device),
    }


def _rates(log: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    epochs = [entry for entry in log if entry["event"] == "epoch"]
    start = next(entry for entry in log if entry["event"] == "start")
    seconds = [later["elapsed_s"] - earlier["elapsed_s"] for earlier, later in itertools.pairwise(epochs)]
    waited = sum(entry["waited_s"] for entry in epochs[1:])
    return {
        "iterations_per_s": round(steps / max(median(seconds), 1e-6), 3),
        "waited": round(waited / max(sum(seconds), 1e-6), 4),
        "step_plan": start["step_plan"],
        "probe_s": start["step_probe"].get("seconds", {}),
    }


def _peak_gb(device: torch.device) -> float | None:
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 2) if device.type == "cuda" else None


def inference_rate(workload: Workload, device: torch.device, edge: int) -> dict[str, Any]:
    """Seconds of a whole volume with all mirrors on the device, voxels a second, and how far from the CPU's scores.

    The CPU scores a volume of one patch and a half an axis, as it would take minutes for the whole.
    """
    configuration = configuration_of(workload)
    network = build_network(configuration, 1, 3).eval()
    small = tuple(min(edge, patch * 3 // 2) for patch in configuration.patch_size)
    generator = np.random.default_rng(_SEED)
    image = generator.standard_normal((1, *small)).astype(np.float32)
    on_cpu = predict_logits([network], image, configuration, 3, torch.device("cpu"), mirror=False)
    network = network.to(device)
    on_device = predict_logits([network], image, configuration, 3, device, mirror=False).float().cpu()
    error = float((on_cpu - on_device).abs().max() / on_cpu.abs().max())
    volume = generator.standard_normal((1, edge, edge, edge)).astype(np.float32)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = [_seconds(lambda: predict_logits([network], volume, configuration, 3, device), device) for _ in range(2)]
    return {
        "workload": workload.name,
        "volume": [edge] * 3,
        "seconds": round(seconds[-1], 3),
        "first_seconds": round(seconds[0], 3),
        "voxels_per_s": round(edge**3 / seconds[-1]),
        "largest_error_share": error,
        "device_gb": _peak_gb(device),
    }


def _seconds(run: Callable[[], torch.Tensor], device: torch.device) -> float:
    start = time.monotonic()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - start


def nnunet_request(workload: Workload, root: Path, steps: int) -> Path:
    """The file that tells nnunet_rate.py what to train: the store's arrays and the workload's network."""
    store = root / workload.name / "cases_3d"
    if not store.is_dir():
        write_store(workload, store)
    configuration = configuration_of(workload)
    request = {
        "store": str(store),
        "patch_size": list(configuration.patch_size),
        "batch_size": configuration.batch_size,
        "features": list(configuration.features),
        "encoder": list(configuration.encoder_convolutions),
        "decoder": list(configuration.decoder_convolutions),
        "steps": steps,
        "epochs": workload.epochs,
    }
    path = root / workload.name / "nnunet_request.json"
    path.write_text(json.dumps(request), encoding="utf-8")
    return path
