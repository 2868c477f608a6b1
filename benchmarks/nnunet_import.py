"""Does a taken-over nnU-Net model segment as nnU-Net does? Short trainings by nnU-Net, then both predict.

    python nnunet_import.py data VOLUMES WORK               two raw data sets: a CT of 61 organs, a heart MR
    NNUNET_PYTHON nnunet_import.py train WORK MODEL         train a model of MODELS shortly, with nnU-Net's own trainer
    NNUNET_PYTHON nnunet_import.py pair WORK [--spacing 3 1 1]    an untrained cascade of two folds each, and images
    python nnunet_import.py compare MODEL_DIR IMAGES OUT --nnunet NNUNET_PYTHON [--folds 0] [--float32]

`data` and `compare` run in this project's environment, `train` and `pair` in the one that nnU-Net is installed in,
whose python `compare` takes. `compare` imports the model and predicts with all mirrors by both; of a cascade nnU-Net
predicts with the 3d_lowres beside it first. It prints the share of equal voxels of each case, and exits with 1 where a
case has less than 99.9 %. nnU-Net adds scores up in half precision; `--float32` lets it do so in single precision, as
ours does, which tells near ties from mistakes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

LEAST_EQUAL = 0.999
ROOMS = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}

_FIRST, _SECOND = "3d_lowres", "3d_cascade_fullres"
_PAIR_CLASSES = 4

_CT_SPACINGS_MM = ((3.0, 3.0, 3.0), (2.4, 2.4, 7.5), (3.5, 3.3, 4.2))
_HEART_SPACINGS_MM = ((1.5625, 1.5625, 10.0), (1.25, 1.25, 8.0), (1.8, 1.8, 10.0))
_HEART_CASES = 12
_SMALL = {"n_conv_per_stage": [2, 2, 2, 2], "n_conv_per_stage_decoder": [2, 2, 2], "n_stages": 4}
_FLAT = [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [1, 2, 2]]
_FIVE = {"n_stages": 5, "features_per_stage": [12, 24, 48, 96, 96], "n_conv_per_stage": [2] * 5}

# Data set, plans, configuration, fold, iterations, and what is changed in nnU-Net's plan to train in minutes on a CPU.
MODELS: dict[str, tuple[str, str, str, str, int, dict[str, Any], dict[str, Any]]] = {
    "hippocampus": ("Dataset004_Hippocampus", "nnUNetPlans", "3d_fullres", "0", 80, {"batch_size": 2}, {}),
    "hippocampus_resenc": (
        "Dataset004_Hippocampus", "nnUNetResEncUNetMPlans", "3d_fullres", "0", 30, {"batch_size": 2},
        {"features_per_stage": [16, 32, 64, 128]},
    ),
    "ct": (
        "Dataset062_CT61", "nnUNetPlans", "3d_fullres", "all", 50, {"batch_size": 2, "patch_size": [32, 48, 48]},
        {**_SMALL, "features_per_stage": [12, 24, 48, 96], "kernel_sizes": [[3] * 3] * 4,
         "strides": [[1] * 3, [2] * 3, [2] * 3, [2] * 3]},
    ),
    "heart": (
        "Dataset027_Heart", "nnUNetPlans", "3d_fullres", "0", 50, {"batch_size": 2, "patch_size": [8, 96, 96]},
        {**_FIVE, "n_conv_per_stage_decoder": [1, 2, 2, 2], "strides": _FLAT,
         "kernel_sizes": [[1, 3, 3], [1, 3, 3], [3] * 3, [3] * 3, [3] * 3]},
    ),
    "heart_2d": (
        "Dataset027_Heart", "nnUNetPlans", "2d", "0", 50, {"batch_size": 4, "patch_size": [160, 160]},
        {**_FIVE, "n_conv_per_stage_decoder": [2] * 4, "kernel_sizes": [[3, 3]] * 5,
         "strides": [[1, 1], [2, 2], [2, 2], [2, 2], [2, 2]]},
    ),
}  # fmt: skip


def data(volumes: Path, work: Path) -> None:
    """Write the raw sets, each of several spacings, so that images are resampled both ways, z apart and not."""
    import nibabel as nib
    import numpy as np
    from scipy import ndimage

    torso = volumes / "CT_MR_multiorgan"
    image = np.asarray(nib.load(torso / "ct_torso_image.nii.gz").dataobj).astype(np.float32)
    label = np.rint(np.asarray(nib.load(torso / "ct_torso_label.nii.gz").dataobj)).astype(np.int64)
    label = np.searchsorted(np.unique(label), label).astype(np.uint8)
    rng = np.random.default_rng(0)
    for number, spacing in enumerate(_CT_SPACINGS_MM):
        zoom = [3 / mm for mm in spacing]
        values = ndimage.zoom(image, zoom, order=1)
        noisy = np.rint(values + rng.normal(0, 10, values.shape)).astype(np.int16)
        _write_pair(work, "Dataset062_CT61", f"ct_{number:03d}", spacing, noisy, ndimage.zoom(label, zoom, order=0))
    _write_description(work, "Dataset062_CT61", "CT", [f"s{value}" for value in range(1, int(label.max()) + 1)])
    heart = volumes / "ACDC_cardiac"
    for number, path in enumerate(sorted((heart / "imagesTr").iterdir())[:_HEART_CASES]):
        pair = [np.asarray(nib.load(heart / room / path.name).dataobj) for room in ("imagesTr", "labelsTr")]
        spacing = _HEART_SPACINGS_MM[number % len(_HEART_SPACINGS_MM)]
        _write_pair(work, "Dataset027_Heart", path.name.removesuffix(".nii.gz"), spacing, *pair)
    _write_description(work, "Dataset027_Heart", "MRI", ["RV", "MYO", "LV"])


def _write_pair(work: Path, dataset: str, name: str, spacing_mm: tuple[float, ...], image: Any, label: Any) -> None:
    import nibabel as nib
    import numpy as np

    affine = np.diag([*spacing_mm, 1.0])
    for room, file_name, values in (("imagesTr", f"{name}_0000", image), ("labelsTr", name, label)):
        folder = work / "raw" / dataset / room
        folder.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, affine), folder / f"{file_name}.nii.gz")


def _write_description(work: Path, dataset: str, channel: str, classes: list[str]) -> None:
    folder = work / "raw" / dataset
    described = {
        "channel_names": {"0": channel},
        "labels": {"background": 0, **{name: value for value, name in enumerate(classes, 1)}},
        "numTraining": len(list((folder / "imagesTr").iterdir())),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(described))


def train(work: Path, model: str) -> None:
    """Train one model of the table by nnU-Net's trainer, with AdamW, so that labels appear after few iterations."""
    dataset, plans_name, configuration, fold, iterations, changes, arch = MODELS[model]
    os.environ.update({name: str(work / room) for name, room in ROOMS.items()}, nnUNet_n_proc_DA="0")
    import torch
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = work / "preprocessed" / dataset
    plans = {**json.loads((folder / f"{plans_name}.json").read_text()), "continue_training": False}
    fields = plans["configurations"][configuration]
    fields.update(changes)
    fields["architecture"]["arch_kwargs"].update(arch)
    described = json.loads((folder / "dataset.json").read_text())
    number = fold if fold == "all" else int(fold)
    trainer = nnUNetTrainer(plans, configuration, number, described, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, iterations, 1

    def adam() -> tuple[Any, Any]:
        optimiser = torch.optim.AdamW(trainer.network.parameters(), 2e-3)
        return optimiser, PolyLRScheduler(optimiser, 2e-3, 2)

    trainer.configure_optimizers = adam
    trainer.run_training()


def pair(work: Path, spacing_mm: list[float]) -> None:
    """Write the folders of an untrained cascade of small networks, and images on and off its grid."""
    import torch
    from nnunet_peer import PLANS, tiny_description, tiny_plans

    described, plans = tiny_description(_PAIR_CLASSES), tiny_plans("Dataset001_Tiny", spacing_mm)
    full = plans["configurations"]["3d_fullres"]
    full["patch_size"] = [16, 32, 32]
    coarse = [factor * mm for factor, mm in zip((1.5, 2.2, 2.2), spacing_mm, strict=True)]
    plans["configurations"][_FIRST] = {**full, "spacing": coarse, "next_stage": _SECOND}
    plans["configurations"][_SECOND] = {"inherits_from": "3d_fullres", "previous_stage": _FIRST}
    torch.manual_seed(0)
    for name in (_FIRST, _SECOND):
        folder = work / f"nnUNetTrainer__{PLANS}__{name}"
        for fold in range(2):
            (folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
            torch.save(_untrained(plans, described, name, fold), folder / f"fold_{fold}" / "checkpoint_final.pth")
        for kind, value in (("dataset", described), ("plans", plans)):
            (folder / f"{kind}.json").write_text(json.dumps(value))
    _pair_images(work / "images", spacing_mm)


def _untrained(plans: dict[str, Any], described: dict[str, Any], name: str, fold: int) -> dict[str, Any]:
    """What nnU-Net's trainer would save of a network that has learned nothing."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    configuration = manager.get_configuration(name)
    channels = determine_num_input_channels(manager, configuration, described)
    network = nnUNetTrainer.build_network_architecture(
        manager, configuration, channels, _PAIR_CLASSES, enable_deep_supervision=False
    )
    return {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"plans": plans, "configuration": name, "fold": fold, "dataset_json": described},
        "inference_allowed_mirroring_axes": (0, 1, 2),
        "current_epoch": 0,
    }


def _pair_images(folder: Path, spacing_mm: list[float]) -> None:
    """Three noisy images (x, y, z), one of them on the networks' grid and one with an empty rim, which is cropped."""
    import nibabel as nib
    import numpy as np
    from scipy import ndimage

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    grids = [((40, 44, 20), (1.0, 1.0, 3.0)), ((34, 36, 24), (1.3, 1.1, 2.5)), ((60, 50, 18), tuple(spacing_mm[::-1]))]
    for number, (shape, spacing) in enumerate(grids):
        values = ndimage.gaussian_filter(rng.normal(size=shape), 3) * 2000 + rng.normal(size=shape) * 20
        if number == 1:
            values[:4], values[:, :, -3:] = 0, 0
        image = nib.Nifti1Image(values.astype(np.float32), np.diag([*spacing, 1]))
        nib.save(image, folder / f"case_{number}_0000.nii.gz")


def predict(model_dir: Path, images: Path, out: Path, folds: list[str], float32: bool) -> None:
    """Segment a folder by nnU-Net's predictor with its defaults, as `nnUNetv2_predict -npp 0 -nps 0 -device cpu`."""
    import torch
    from nnunetv2.inference import predict_from_raw_data as inference

    if float32:
        _sum_in_float32(inference)
    before = None
    if model_dir.name.endswith(f"__{_SECOND}"):
        before = out.with_name(f"{out.name}_{_FIRST}")
        first = model_dir.with_name(model_dir.name.replace(_SECOND, _FIRST))
        predict(first, images, before, folds, float32=False)  # the sums are in float32 already where they are to be
    predictor = inference.nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model_dir), folds)
    out.mkdir(parents=True)
    seen = None if before is None else str(before)
    predictor.predict_from_files_sequential(str(images), str(out), folder_with_segs_from_prev_stage=seen)


def _sum_in_float32(inference: Any) -> None:
    """Make nnU-Net's sliding window add up scores and weights in float32, where its code says half."""
    import torch

    in_half = inference.compute_gaussian

    def gaussian(*arguments: Any, **options: Any) -> torch.Tensor:
        return in_half(*arguments, **{**options, "dtype": torch.float32})

    gaussian.cache_clear = in_half.cache_clear
    inference.compute_gaussian, torch.half = gaussian, torch.float32


def compare(
    model_dir: Path, images: Path, out: Path, nnunet: Path, folds: list[str], float32: bool = False
) -> dict[str, dict[str, float]]:
    """For each case the share of equal voxels, of all and of those that either calls foreground."""
    ours = out / "model"
    _ours("import_nnunet", model_dir, "-o", ours, "--folds", *folds)
    for place in ("theirs", f"theirs_{_FIRST}", "ours"):
        shutil.rmtree(out / place, ignore_errors=True)
    theirs = [nnunet, __file__, "predict", model_dir, images, out / "theirs", *folds, *["--float32"] * float32]
    environment = {**os.environ, **dict.fromkeys(ROOMS, os.devnull)}
    subprocess.run(list(map(str, theirs)), check=True, env=environment, stdout=subprocess.DEVNULL)
    _ours("predict", "-i", images, "-o", out / "ours", "-m", ours, "--device", "cpu", "--no-postprocessing")
    return {path.name: _agreement(path, out / "ours" / path.name) for path in sorted((out / "theirs").glob("*.nii.gz"))}


def _ours(command: str, *arguments: object) -> None:
    """Run one of our commands as it is in this checkout, installed or not."""
    code = f"import sys; from msseg.commands.{command} import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)


def _agreement(theirs: Path, ours: Path) -> dict[str, float]:
    import nibabel as nib
    import numpy as np

    a, b = (np.asarray(nib.load(path).dataobj) for path in (theirs, ours))
    foreground = (a > 0) | (b > 0)
    return {
        "equal": float((a == b).mean()),
        "equal_in_foreground": float((a == b)[foreground].mean()) if foreground.any() else 1.0,
        "different_voxels": int((a != b).sum()),
        "foreground_voxels": int(foreground.sum()),
        "classes": len(np.unique(a)) - 1,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    make = verbs.add_parser("data")
    make.add_argument("volumes", type=Path)
    make.add_argument("work", type=Path)
    teach = verbs.add_parser("train")
    teach.add_argument("work", type=Path)
    teach.add_argument("model", choices=MODELS)
    untrained = verbs.add_parser("pair")
    untrained.add_argument("work", type=Path)
    untrained.add_argument("--spacing", nargs=3, type=float, default=[3.0, 1.0, 1.0], metavar="MM", help="z, y, x")
    check = verbs.add_parser("compare")
    for name in ("model_dir", "images", "out"):
        check.add_argument(name, type=Path)
    check.add_argument("--nnunet", type=Path, required=True, help="python of an environment with nnunetv2")
    check.add_argument("--folds", nargs="+", default=["0"])
    check.add_argument("--json", type=Path, help="where the figures are written as well")
    peer = verbs.add_parser("predict", help="nnU-Net's side of compare")
    for name in ("model_dir", "images", "out"):
        peer.add_argument(name, type=Path)
    peer.add_argument("folds", nargs="+")
    for parser_of in (check, peer):
        parser_of.add_argument("--float32", action="store_true", help="nnU-Net adds scores up in single precision")
    return VERBS[(arguments := parser.parse_args()).verb](arguments)


def _data(arguments: argparse.Namespace) -> int:
    data(arguments.volumes, arguments.work)
    return 0


def _train(arguments: argparse.Namespace) -> int:
    train(arguments.work.resolve(), arguments.model)
    return 0


def _pair(arguments: argparse.Namespace) -> int:
    pair(arguments.work, arguments.spacing)
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    predict(arguments.model_dir, arguments.images, arguments.out, arguments.folds, arguments.float32)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    places = arguments.model_dir, arguments.images, arguments.out, arguments.nnunet
    found = compare(*places, arguments.folds, arguments.float32)
    for name, one in found.items():
        print(f"{name}: {one['equal']:.5%} equal, {one['equal_in_foreground']:.4%} of the foreground, {one}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))
    return int(not found or min(one["equal"] for one in found.values()) < LEAST_EQUAL)


VERBS = {"data": _data, "train": _train, "pair": _pair, "predict": _predict, "compare": _compare}

if __name__ == "__main__":
    sys.exit(main())
