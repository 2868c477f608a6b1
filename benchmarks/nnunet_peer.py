"""nnU-Net's side of the race; runs in the Python environment that nnU-Net is installed in.

python nnunet_peer.py layout RAW_OR_DECATHLON WORK [--cases N]     lay the data set out as nnU-Net wants it, by links
python nnunet_peer.py plan WORK DATASET GB                         plan anew for so much memory: nnUNetPlans_<GB>GB
python nnunet_peer.py train WORK DATASET ITERATIONS                train fold 0, print seconds and waiting a step
python nnunet_peer.py quality WORK DATASET ITERATIONS EPOCHS       train fold 0 that long, print minutes and Dice
python nnunet_peer.py tiny WORK DATASET CLASSES Z,Y,X              a model of two levels with random weights
python nnunet_peer.py export WORK DATASET CLASSES SHAPE SHAPE      its export of made scores, print seconds and memory
python nnunet_peer.py arrays WORK DATASET CASE OUT.npz             a preprocessed case, as image and label
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from measure import TreePeak
from nnunet_plans import CONFIGURATION, PLANS, PlainNetwork, plans_of

ROOMS = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}
_WARM_UP_STEPS = 2  # They fill caches, and wait for the augmentation workers to start.


def environment(work: Path) -> dict[str, str]:
    """The environment variables that nnU-Net requires."""
    return {**os.environ, **{name: str(work / room) for name, room in ROOMS.items()}}


def model_folder(work: Path, dataset: str, plans: str = PLANS) -> Path:
    """Where nnU-Net keeps what its default trainer has trained."""
    return work / "results" / dataset / f"nnUNetTrainer__{plans}__{CONFIGURATION}"


def dataset_name(source: Path) -> str:
    """The name that nnU-Net wants: Dataset, three digits, what it is of."""
    found = re.match(r"(?:Task|Dataset)0*(\d+)_(.+)", source.name)
    if found is None:
        raise SystemExit(f"{source}: expected a folder called TaskNN_NAME or DatasetNNN_NAME.")
    return f"Dataset{int(found[1]):03d}_{found[2]}"


def layout(source: Path, work: Path, cases: int | None = None) -> Path:
    """The nnU-Net v2 folder of a Decathlon or nnU-Net data set, or of its first cases, with links instead of copies."""
    folder = work / "raw" / dataset_name(source)
    described = json.loads((source / "dataset.json").read_text())
    read = _from_raw if "channel_names" in described else _from_decathlon
    links = dict(list(read(source, described))[:cases])
    for room in ("imagesTr", "labelsTr"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    for label, images in links.items():
        _link(label, folder / "labelsTr" / label.name)
        for channel, image in enumerate(images):
            name = label.name.removesuffix(".nii.gz")
            _link(image, folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(_description(described, len(links))))
    return folder


def _from_decathlon(source: Path, described: dict[str, Any]) -> Iterator[tuple[Path, list[Path]]]:
    for pair in described["training"]:
        yield source / pair["label"], [source / pair["image"]]


def _from_raw(source: Path, described: dict[str, Any]) -> Iterator[tuple[Path, list[Path]]]:
    for label in sorted((source / "labelsTr").glob(f"*{described['file_ending']}")):
        name = label.name.removesuffix(described["file_ending"])
        yield label, sorted((source / "imagesTr").glob(f"{name}_[0-9][0-9][0-9][0-9]{described['file_ending']}"))


def _description(described: dict[str, Any], count: int) -> dict[str, Any]:
    if "channel_names" in described:
        return {**described, "numTraining": count}
    return {
        "channel_names": described["modality"],
        "labels": {name: int(value) for value, name in described["labels"].items()},
        "numTraining": count,
        "file_ending": ".nii.gz",
    }


def _link(source: Path, place: Path) -> None:
    if not place.is_symlink():
        place.symlink_to(source.resolve())


def plan(work: Path, dataset: str, gigabytes: float) -> str:
    """The name of the plans that nnU-Net makes for so much memory; the fingerprint must be there."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments

    name = f"{PLANS}_{gigabytes:g}GB"
    number = int(dataset[len("Dataset") :].split("_")[0])
    plan_experiments([number], gpu_memory_target_in_gb=gigabytes, overwrite_plans_name=name)
    return name


def train(
    work: Path, dataset: str, iterations: int, epochs: int = 1, plans: str = PLANS, validate: bool = False
) -> dict[str, Any]:
    """Train fold 0 on the CPU; median seconds of a step, and the share of them that was waiting for the batch."""
    folder = work / "preprocessed" / dataset
    trainer = _trainer(json.loads((folder / f"{plans}.json").read_text()), folder)
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = epochs, iterations, 2
    seconds: list[float] = []
    waited: list[float] = []
    step, last = trainer.train_step, [time.monotonic()]

    def timed_step(batch: dict[str, Any]) -> dict[str, Any]:
        waited.append(time.monotonic() - last[0])
        result = step(batch)
        now = time.monotonic()
        seconds.append(now - last[0])
        last[0] = now
        return result

    trainer.train_step = timed_step
    trainer.run_training()
    if validate:
        trainer.perform_actual_validation(False)
    kept = slice(min(_WARM_UP_STEPS, len(seconds) - 1), None)
    return {
        "seconds_per_iteration": median(seconds[kept]),
        "waiting_share": sum(waited[kept]) / sum(seconds[kept]),
        "iterations": len(seconds),
        "minutes": sum(seconds) / 60,
    }


def _trainer(plans: dict[str, Any], folder: Path) -> Any:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    dataset = json.loads((folder / "dataset.json").read_text())
    return nnUNetTrainer({**plans, "continue_training": False}, CONFIGURATION, 0, dataset, torch.device("cpu"))


def quality(work: Path, dataset: str, iterations: int, epochs: int) -> dict[str, Any]:
    """Minutes of training and the validation Dice of fold 0."""
    trained = train(work, dataset, iterations, epochs, validate=True)
    summary = json.loads((model_folder(work, dataset) / "fold_0" / "validation" / "summary.json").read_text())
    return {"minutes": trained["minutes"], "dice": summary["foreground_mean"]["Dice"]}


def tiny(work: Path, dataset: str, num_classes: int, spacing_mm: list[float]) -> Path:
    """The folder of a model whose network is so small that what comes after it decides the time of a prediction."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    folder = model_folder(work, dataset)
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    described, planned = tiny_description(num_classes), tiny_plans(dataset, spacing_mm)
    manager = PlansManager(planned)
    torch.manual_seed(0)
    network = nnUNetTrainer.build_network_architecture(
        manager, manager.get_configuration(CONFIGURATION), 1, num_classes, enable_deep_supervision=False
    )
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"plans": planned, "configuration": CONFIGURATION, "fold": 0, "dataset_json": described},
        "inference_allowed_mirroring_axes": (0, 1, 2),
        "current_epoch": 0,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    for name, value in (("dataset", described), ("plans", planned)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def tiny_description(num_classes: int) -> dict[str, Any]:
    """A dataset.json of so many classes, the background counted."""
    labels = {"background": 0, **{f"structure_{value}": value for value in range(1, num_classes)}}
    return {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}


def tiny_plans(dataset: str, spacing_mm: list[float]) -> dict[str, Any]:
    """nnU-Net's plans for a CT at this spacing, with a network of two levels on patches of 64 × 128 × 128."""
    network = PlainNetwork(
        features=(4, 8), kernels=((1, 3, 3), (3, 3, 3)), strides=((1, 1, 1), (1, 2, 2)), encoder=(1, 1), decoder=(1,)
    )
    intensities = {
        "max": 3000.0, "mean": 50.0, "median": 50.0, "min": -1024.0,
        "percentile_00_5": -500.0, "percentile_99_5": 500.0, "std": 200.0,
    }  # fmt: skip
    return plans_of(dataset, network, (64, 128, 128), 2, spacing_mm, (150, 400, 500), intensities, "SimpleITKIO")


def export(
    dataset: str, num_classes: int, prepared: list[int], whole: list[int], spacing_mm: list[float]
) -> dict[str, float]:
    """Seconds and memory that nnU-Net's own function takes from made scores (k, *prepared) to labels of shape `whole`.

    `spacing_mm` is the prepared grid's; the image's follows from the shapes. `gained_gb` is beyond the scores.
    """
    import torch
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(tiny_plans(dataset, spacing_mm))
    configuration = manager.get_configuration(CONFIGURATION)
    properties = {
        "spacing": [mm * old / new for mm, old, new in zip(spacing_mm, prepared, whole, strict=True)],
        "shape_before_cropping": tuple(whole),
        "shape_after_cropping_and_before_resampling": tuple(whole),
        "bbox_used_for_cropping": [[0, length] for length in whole],
    }
    labels = manager.get_label_manager(tiny_description(num_classes))
    scores = torch.randn(num_classes, *prepared, generator=torch.Generator().manual_seed(0))
    with TreePeak() as peak:
        start = time.monotonic()
        convert_predicted_logits_to_segmentation_with_correct_shape(scores, manager, configuration, labels, properties)
        seconds = time.monotonic() - start
    return {
        "seconds": seconds,
        "scores_gb": 4e-9 * num_classes * math.prod(prepared),
        "gained_gb": peak.gained_bytes / 1e9,
    }


def arrays(work: Path, dataset: str, case: str, out: Path) -> Path:
    """The file that now holds a case that nnU-Net preprocessed: image (c, z, y, x), label (z, y, x)."""
    import numpy as np
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    folder = work / "preprocessed" / dataset / f"{PLANS}_{CONFIGURATION}"
    image, label, _, _ = infer_dataset_class(str(folder))(str(folder), [case]).load_case(case)
    np.savez(out, image=np.asarray(image[:], np.float32), label=np.asarray(label[:], np.int16)[0])
    return out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(name: str, *positional: tuple[str, Any]) -> argparse.ArgumentParser:
        added = verbs.add_parser(name)
        for argument, kind in positional:
            added.add_argument(argument, type=kind)
        return added

    verb("layout", ("source", Path), ("work", Path)).add_argument("--cases", type=int)
    verb("plan", ("work", Path), ("dataset", str), ("gigabytes", float))
    training = verb("train", ("work", Path), ("dataset", str), ("iterations", int))
    training.add_argument("--plans", default=PLANS)
    verb("quality", ("work", Path), ("dataset", str), ("iterations", int), ("epochs", int))
    verb("tiny", ("work", Path), ("dataset", str), ("num_classes", int), ("spacing_mm", _numbers))
    exporting = verb("export", ("work", Path), ("dataset", str), ("num_classes", int), ("prepared", _whole_numbers))
    exporting.add_argument("whole", type=_whole_numbers)
    exporting.add_argument("--spacing-mm", type=_numbers, default=[2.25, 0.71, 0.71])
    verb("arrays", ("work", Path), ("dataset", str), ("case", str), ("out", Path))
    return parser


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _whole_numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    """Print one line of JSON."""
    asked = _parser().parse_args()
    os.environ.update(environment(asked.work))
    print(json.dumps(_VERBS[asked.verb](asked)))


_VERBS = {
    "layout": lambda a: {"folder": str(layout(a.source, a.work, a.cases))},
    "plan": lambda a: {"plans": plan(a.work, a.dataset, a.gigabytes)},
    "train": lambda a: train(a.work, a.dataset, a.iterations, plans=a.plans),
    "quality": lambda a: quality(a.work, a.dataset, a.iterations, a.epochs),
    "tiny": lambda a: {"model": str(tiny(a.work, a.dataset, a.num_classes, a.spacing_mm))},
    "export": lambda a: export(a.dataset, a.num_classes, a.prepared, a.whole, a.spacing_mm),
    "arrays": lambda a: {"written": str(arrays(a.work, a.dataset, a.case, a.out))},
}


if __name__ == "__main__":
    main()
