"""The stages of the line as functions of one size, each measured in a process of its own: cost_stages.py SWEEP SIZES

Each stage is prepared outside the clock for one size of one thing (voxels, classes, cases, workers), the rest as in
`Size`, and run on one thread, so that seconds of processor time tell what it does and not what else the machine does.
Modules are loaded by the functions that need them: a worker loads this script anew.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from made_volumes import made_image, made_labels, shifted
from measure import TreePeak, cpu_seconds

_LEAST_SECONDS, _MOST_RUNS = 0.4, 5
_SPACING_MM = (2.0, 1.5, 1.5)
_TARGET_MM = (1.8, 1.8, 1.8)
_FEATURES, _PATCH = (8, 16, 32), (32, 32, 32)


@dataclass(frozen=True)
class Size:
    """One point of a sweep: what is swept stands for itself, the rest as here."""

    voxels: int = 1 << 20
    classes: int = 4
    cases: int = 1
    workers: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """A cube of about so many voxels."""
        return (round(self.voxels ** (1 / 3)),) * 3


@dataclass(frozen=True)
class Work:
    """What a stage runs, and the least that any program must do for it: floating-point operations, bytes moved."""

    run: Callable[[], object]
    flops: float = 0.0
    moved_bytes: float = 0.0
    stored_bytes: float = 0.0


def prepare_cases(size: Size, folder: Path) -> Work:
    """Files to the store: check, measure, plan, resample, write."""
    from msseg.pipeline.planning import PlanningOptions, plan_and_preprocess

    raw = folder / "raw"
    _write_dataset(raw, size)
    count = [0]

    def run() -> None:
        count[0] += 1
        root = folder / f"root_{count[0]}"
        options = PlanningOptions(network="plain_unet")
        plan_and_preprocess(raw, root=root, options=options, workers=size.workers)

    # int16 image and uint8 label in, float32 image and uint8 label out.
    read = sum(path.stat().st_size for path in raw.rglob("*.nii.gz"))
    return Work(run, moved_bytes=size.cases * size.voxels * 8, stored_bytes=read + size.cases * size.voxels * 5)


def examine_again(size: Size, folder: Path) -> Work:
    """The same command once more, with nothing to do: what a case costs that is there already."""
    work = prepare_cases(size, folder)
    work.run()
    from msseg.pipeline.planning import PlanningOptions, plan_and_preprocess

    options = PlanningOptions(network="plain_unet")
    files = sum(path.stat().st_size for path in (folder / "raw").rglob("*.nii.gz"))
    return Work(
        lambda: plan_and_preprocess(folder / "raw", folder / "root_1", options, workers=size.workers),
        stored_bytes=files,
    )


def training_step(size: Size, folder: Path) -> Work:
    """Forward, loss, backward and update on two patches that hold so many voxels together."""
    import torch

    from msseg.losses.supervision import SupervisedLoss
    from msseg.losses.table import build_loss
    from msseg.networks.build import build_network

    edge = max(8, round((size.voxels / 2) ** (1 / 3) / 4) * 4)
    configuration = _configuration((edge,) * 3)
    network = build_network(configuration, 1, size.classes)
    weights = tuple(1 / size.classes for _ in range(size.classes))
    loss = SupervisedLoss(build_loss("dice_ce", weights, False, {}), configuration.supervision_weights)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    image = torch.randn(2, 1, edge, edge, edge)
    target = torch.from_numpy(np.stack([made_labels((edge,) * 3, size.classes, seed) for seed in (0, 1)])).long()

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss(network(image), target).backward()
        optimiser.step()

    # Backward, by weights and by inputs, costs twice the forward pass.
    return Work(run, flops=3 * _forward_flops(network, image))


def make_batches(size: Size, folder: Path) -> Work:
    """Eight batches, read from a store of so many cases and augmented as a CPU trains on them."""
    import torch

    from msseg.data.store import write_case
    from msseg.preprocessing.locations import sample_locations
    from msseg.training.augmentation import augmentation_named
    from msseg.training.batches import BatchSource, read_batch
    from msseg.training.device_batches import finished
    from msseg.training.recipes import recipe_named

    label = made_labels(size.shape, size.classes)
    image, locations = made_image(label)[None].astype(np.float32), sample_locations(label)
    names = tuple(f"case_{index:04d}" for index in range(size.cases))
    for name in names:
        write_case(folder, name, image, label, locations, {}, "key")
    augmentation = augmentation_named(recipe_named("nnunet").augmentation)
    source = BatchSource(folder, names, _PATCH, 2, 0, augmentation=augmentation, mirror_axes=(0, 1, 2))
    device = torch.device("cpu")
    # The same eight at every size: what is drawn for a batch decides most of its time.
    return Work(
        lambda: [finished(read_batch(source, index), device) for index in range(8)],
        moved_bytes=8 * 2 * float(np.prod(_PATCH)) * 8,
    )


def sliding_window(size: Size, folder: Path) -> Work:
    """A prepared image to the scores of every class, without mirrors."""
    import torch

    from msseg.inference.sliding_window import predict_logits
    from msseg.networks.build import build_network

    configuration = _configuration(_PATCH)
    network = build_network(configuration, 1, size.classes).eval()
    image = np.random.default_rng(0).standard_normal((1, *size.shape), dtype=np.float32)
    tiles = (np.ceil((np.array(size.shape) - _PATCH) / (np.array(_PATCH) / 2)) + 1).prod()
    flops = tiles * _forward_flops(network, torch.zeros(1, 1, *_PATCH))
    device = torch.device("cpu")
    return Work(
        lambda: predict_logits([network], image, configuration, size.classes, device, mirror=False), flops=flops
    )


def predict_case(size: Size, folder: Path) -> Work:
    """A prepared image to labels on the image's own grid: window and export together."""
    import torch

    predictor = _predictor(size.classes)
    label = made_labels(size.shape, size.classes)
    prepared = predictor.prepare(made_image(label)[None].astype(np.float32), _SPACING_MM)
    tiles = (np.ceil((np.array(prepared.image.shape[1:]) - _PATCH) / (np.array(_PATCH) / 2)) + 1).prod()
    flops = tiles * _forward_flops(predictor.model.networks[0], torch.zeros(1, 1, *_PATCH))
    segment = getattr(predictor, "segment", None)
    run = (lambda: segment(prepared)) if segment else (lambda: predictor.label(predictor.score(prepared), prepared))
    return Work(run, flops=flops)


def export_labels(size: Size, folder: Path) -> Work:
    """Scores on the prepared grid to labels on the image's own, half as many voxels again."""
    import torch

    from msseg.inference.export import resampled_labels

    logits = torch.randn(size.classes, *size.shape)
    new_shape = tuple(round(1.145 * length) for length in size.shape)
    moved = logits.numel() * 4 + float(np.prod(new_shape)) * size.classes * 4
    return Work(lambda: resampled_labels(logits, new_shape, 1), moved_bytes=moved)


def evaluate(size: Size, folder: Path) -> Work:
    """A segmentation that is nearly right against its reference, all metrics."""
    from msseg.evaluation.case import measure_case

    reference = made_labels(size.shape, size.classes)
    prediction, labels = shifted(reference), {f"class_{value}": value for value in range(1, size.classes)}
    return Work(
        lambda: measure_case("case", prediction, reference, _SPACING_MM, labels), moved_bytes=2 * reference.nbytes
    )


def evaluate_files(size: Size, folder: Path) -> Work:
    """Folders of segmentations and references."""
    from msseg.data.geometry import Geometry
    from msseg.data.image import write_label
    from msseg.evaluation.evaluate import evaluate_folder

    for index in range(size.cases):
        reference = made_labels(size.shape, size.classes, index)
        geometry = Geometry(size.shape, _SPACING_MM)
        write_label(folder / "references" / f"case_{index:03d}.nii.gz", reference, geometry)
        write_label(folder / "predictions" / f"case_{index:03d}.nii.gz", shifted(reference), geometry)
    labels = {f"class_{value}": value for value in range(1, size.classes)}
    return Work(
        lambda: evaluate_folder(folder / "predictions", folder / "references", labels, workers=size.workers),
        moved_bytes=2 * size.cases * size.voxels,
        stored_bytes=sum(path.stat().st_size for path in folder.rglob("*.nii.gz")),
    )


def postprocess(size: Size, folder: Path) -> Work:
    """The table of one case, from which rules are chosen, for every class."""
    from msseg.postprocessing.tables import case_table

    reference = made_labels(size.shape, size.classes)
    prediction = shifted(reference)
    return Work(lambda: case_table(prediction, reference, size.classes), moved_bytes=2 * reference.nbytes)


STAGES: dict[str, Callable[[Size, Path], Work]] = {
    "prepare": prepare_cases,
    "prepare again": examine_again,
    "batches": make_batches,
    "training step": training_step,
    "sliding window": sliding_window,
    "predict": predict_case,
    "export": export_labels,
    "evaluate": evaluate,
    "evaluate files": evaluate_files,
    "postprocess": postprocess,
}


def _configuration(patch: tuple[int, ...]) -> Any:
    from planning.plan import Configuration

    levels = len(_FEATURES)
    return Configuration(
        name="3d",
        dimensions=3,
        spacing_mm=_TARGET_MM,
        median_shape=patch,
        patch_size=patch,
        batch_size=2,
        network="plain_unet",
        features=_FEATURES,
        strides=((2, 2, 2),) * (levels - 1),
        kernel_sizes=((3, 3, 3),) * levels,
        encoder_convolutions=(2,) * levels,
        decoder_convolutions=(2,) * (levels - 1),
        supervision_weights=(2 / 3, 1 / 3),
        batch_dice=False,
        dummy_2d=False,
        image_order=3,
        label_order=1,
        score_order=1,
        mirror_axes=(),
    )


def _predictor(num_classes: int) -> Any:
    import torch

    from msseg.checkpoint import Model
    from msseg.inference.predictor import Predictor
    from msseg.networks.build import build_network
    from planning.plan import ChannelPlan, Plan

    configuration = _configuration(_PATCH)
    plan = Plan(
        dataset_name="made",
        channels=(ChannelPlan("CT", "ct", False, lower=-500.0, upper=500.0, mean=50.0, std=200.0),),
        labels={f"class_{value}": value for value in range(num_classes)},
        axis_order=(0, 1, 2),
        class_weights=(1 / num_classes,) * num_classes,
        configurations={configuration.name: configuration},
        default_configuration=configuration.name,
        memory_bytes=1 << 30,
    )
    network = build_network(configuration, 1, num_classes).eval()
    return Predictor(Model(plan, configuration, [network], ("0",)), torch.device("cpu"))


def _forward_flops(network: Any, image: Any) -> float:
    """Operations of one pass, a multiplication and an addition counted apart, of convolutions as they are written."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    return float(counter.get_total_flops())


def _write_dataset(folder: Path, size: Size) -> None:
    from msseg.data.geometry import Geometry
    from msseg.data.image import write_image, write_label
    from msseg.files import write_json

    for index in range(size.cases):
        label = made_labels(size.shape, size.classes, index)
        # Of three cases two have to be resampled to the spacing of the third.
        spacing_mm = tuple((1, 0.9, 1.1)[index % 3] * mm for mm in _SPACING_MM)
        geometry = Geometry(size.shape, spacing_mm)
        write_image(folder / "imagesTr" / f"case_{index:03d}_0000.nii.gz", made_image(label, index)[None], geometry)
        write_label(folder / "labelsTr" / f"case_{index:03d}.nii.gz", label, geometry)
    labels = {"background": 0, **{f"class_{value}": value for value in range(1, size.classes)}}
    described = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": size.cases, "file_ending": ".nii.gz"}
    write_json(folder / "dataset.json", described)


def measured(stage: str, size: Size) -> dict[str, float]:
    """Medians of wall and processor seconds of a stage at one size, its peak of memory above what was there, floors."""
    with tempfile.TemporaryDirectory() as folder:
        work = STAGES[stage](size, Path(folder))
        _give_memory_back()
        walls: list[float] = []
        processors: list[float] = []
        peaks: list[int] = []
        while not walls or (sum(walls) < _LEAST_SECONDS and len(walls) < _MOST_RUNS):
            with TreePeak() as peak:
                wall, processor = time.perf_counter(), cpu_seconds()
                work.run()
                walls.append(time.perf_counter() - wall)
                processors.append(cpu_seconds() - processor)
            peaks.append(peak.gained_bytes)
    # Of the first run: the later ones find memory that the allocator has kept.
    return {
        "wall_s": float(np.median(walls)),
        "cpu_s": float(np.median(processors)),
        "peak_bytes": float(max(peaks[0], 1)),
        "flops": work.flops,
        "moved_bytes": work.moved_bytes,
        "stored_bytes": work.stored_bytes,
    }


def _give_memory_back() -> None:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def main(stage: str, swept: str, values: str, fixed: str = "{}") -> None:
    """One JSON line a point; the first size goes once more before them, as it loads modules and fills caches."""
    rest, sizes = Size(**json.loads(fixed)), json.loads(values)
    measured(stage, replace(rest, **{swept: sizes[0]}))
    for value in sizes:
        point = measured(stage, replace(rest, **{swept: value}))
        print(json.dumps({"stage": stage, "swept": swept, "size": value, **point}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
