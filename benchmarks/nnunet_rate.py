"""nnU-Net's iterations a second on arrays of ours, in its own environment: python nnunet_rate.py REQUEST DEVICE

REQUEST is what `gpu_speed.nnunet_request` wrote: a store, the network, the patch and the batch. nnU-Net trains on the
same arrays as its preprocessed data, with its own loader, augmentation, loss and optimiser; the last line printed is
JSON. Needs no network access. NNUNET's number of workers is its own default, unless nnUNet_n_proc_DA says otherwise.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from nnunet_plans import CONFIGURATION, PLANS, PlainNetwork, plans_of

_DATASET = "Dataset999_MadeUp"
_KINDS = {"F32": np.float32, "U8": np.uint8, "I16": np.int16, "I32": np.int32}


def main(request_path: str, device: str) -> None:
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for variable, room in (("raw", "raw"), ("preprocessed", "preprocessed"), ("results", "results")):
            os.environ[f"nnUNet_{variable}"] = str(work / room)
        folder = work / "preprocessed" / _DATASET
        write_data(Path(request["store"]), folder, request["patch_size"])
        print(json.dumps(rate(folder, request, device)))


def write_data(store: Path, folder: Path, patch_size: list[int]) -> None:
    """The store's cases as nnU-Net keeps preprocessed ones, in one fold that trains on all of them."""
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    cases = folder / f"{PLANS}_{CONFIGURATION}"
    cases.mkdir(parents=True)
    names = sorted(path.stem for path in store.glob("*.safetensors"))
    for name in names:
        arrays = read_case(store / f"{name}.safetensors")
        image, label = arrays["image"], arrays["label"][None].astype(np.int16)
        places = {
            int(key.partition(".")[2]): np.concatenate([np.zeros((len(value), 1), int), value], axis=1)
            for key, value in arrays.items()
            if key.startswith("locations.")
        }
        blocks, chunks = comp_blosc2_params(image.shape, tuple(patch_size), image.itemsize)
        nnUNetDatasetBlosc2.save_case(
            image, label, {"class_locations": places}, str(cases / name), chunks, blocks, chunks, blocks
        )
    (folder / "dataset_fingerprint.json").write_text("{}")
    (folder / "splits_final.json").write_text(json.dumps([{"train": names, "val": names}]))


def read_case(path: Path) -> dict[str, np.ndarray]:
    """The arrays of one prepared case by name."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = (8 + length + offset for offset in entry["data_offsets"])
            values = np.frombuffer(content[first:last], _KINDS[entry["dtype"]])
            arrays[name] = values.reshape(entry["shape"]).copy()
    return arrays


def rate(folder: Path, request: dict[str, Any], device: str) -> dict[str, Any]:
    """Iterations a second after the first epoch, and the share of the time that batches were waited for."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

    trainer = nnUNetTrainer(requested_plans(request), CONFIGURATION, 0, description(folder), torch.device(device))
    steps = request["steps"]
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = (
        request["epochs"],
        steps,
        1,
    )
    trainer.disable_checkpointing = True
    ends: list[float] = []
    waits: list[float] = []
    step = trainer.train_step

    def timed_step(batch: dict[str, Any]) -> dict[str, Any]:
        start = time.monotonic()
        # The first step of an epoch comes after validation, not after a step.
        waits.append(start - ends[-1] if len(ends) % steps else math.nan)
        result = step(batch)
        ends.append(time.monotonic())
        return result

    trainer.train_step = timed_step
    trainer.run_training()
    kept = [number for number in range(steps, len(ends)) if number % steps]
    seconds = [ends[number] - ends[number - 1] for number in kept]
    return {
        "iterations_per_s": round(1 / median(seconds), 3),
        "waited": round(sum(waits[number] for number in kept) / sum(seconds), 4),
        "workers": get_allowed_n_proc_DA(),
    }


def description(folder: Path) -> dict[str, Any]:
    """A dataset.json of one channel and two classes."""
    value = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "ball": 1, "core": 2},
        "numTraining": len(list(folder.glob("*/*.pkl"))),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(value))
    return value


def requested_plans(request: dict[str, Any]) -> dict[str, Any]:
    """nnU-Net's plans with the requested network, patch and batch, at 1 mm."""
    levels, patch = len(request["features"]), request["patch_size"]
    network = PlainNetwork(
        features=request["features"],
        kernels=((3, 3, 3),) * levels,
        strides=((1, 1, 1), *((2, 2, 2),) * (levels - 1)),
        encoder=request["encoder"],
        decoder=request["decoder"],
    )
    return plans_of(_DATASET, network, patch, request["batch_size"], (1.0, 1.0, 1.0), patch)


if __name__ == "__main__":
    main(*sys.argv[1:])
