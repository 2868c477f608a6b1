"""Races of prediction: the same weights on both sides, and scores of many classes brought back to the image."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
from contest import Figure, Race, Stage, usual
from measure import Measurement
from nnunet_peer import CONFIGURATION, model_folder
from race_preparing import LARGE, large_dataset, small_dataset

_CASES, _QUICK_CASES = 20, 2
_ITERATIONS, _QUICK_ITERATIONS = 40, 2
_LARGE_CASE = "ct_002"  # 469 × 388 × 224 voxels, the largest in memory once resampled
_PLAN_SPACING_MM = (2.25, 0.71, 0.71)  # what nnU-Net plans for the large volumes: their medians
_BOTH_CLASSES, _OURS_CLASSES = (6, 12), 61


def train_once(race: Race) -> None:
    """nnU-Net's model of the small volumes after a short training, and the same taken over by us."""
    dataset = small_dataset(race)
    if not (race.peer / "preprocessed" / dataset / "nnUNetPlans.json").exists():
        race.theirs("nnUNetv2_plan_and_preprocess", "-d", _number(dataset), "-c", CONFIGURATION)
    folder = model_folder(race.peer, dataset)
    if not (folder / "fold_0" / "checkpoint_final.pth").exists():
        iterations = _QUICK_ITERATIONS if race.quick else _ITERATIONS
        race.peer_script("train", str(race.peer), dataset, str(iterations))
    _take_over(race, folder)
    _link_images(race, dataset)


def predict_same_model(race: Race) -> list[Figure]:
    """The same cases with the same weights and all mirrors, from process start."""
    dataset = small_dataset(race)
    ours, theirs = _predict(race, dataset, [], [])
    shares = _equal_shares(race)
    return [
        *usual(ours, theirs),
        Figure("equal voxels, least of the cases", "", min(shares)),
        Figure("equal voxels, mean over the cases", "", float(np.mean(shares))),
    ]


def make_tiny_models(race: Race) -> None:
    """Models of two narrow levels with random weights for each number of classes, and the large image to predict."""
    large_dataset(race)
    images = race.raw(LARGE) / "imagesTr"
    for num_classes in (*_BOTH_CLASSES, _OURS_CLASSES):
        dataset = _tiny_dataset(num_classes)
        spacing_mm = [3 * mm if race.quick else mm for mm in _PLAN_SPACING_MM]
        if not (model_folder(race.peer, dataset) / "plans.json").exists():
            written = ",".join(str(mm) for mm in spacing_mm)
            race.peer_script("tiny", str(race.peer), dataset, str(num_classes), written)
        _take_over(race, model_folder(race.peer, dataset))
        # nnU-Net looks the data set of a model up among its raw ones.
        race.raw(dataset).mkdir(parents=True, exist_ok=True)
        described = model_folder(race.peer, dataset) / "dataset.json"
        shutil.copy(described, race.raw(dataset) / "dataset.json")
        folder = _images(race, dataset)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{'ct_001' if race.quick else _LARGE_CASE}_0000.nii.gz"
        _link(images / name, folder / name)


def predict_classes(race: Race) -> list[Figure]:
    """A large image with a tiny network, one view a tile: what the scores of many classes cost on the way back.

    nnU-Net is not asked for 61 classes: it would need some 28 GB.
    """
    figures = []
    options = ["--no-mirroring", "--step", "1"], ["--disable_tta", "-step_size", "1"]
    for num_classes in _BOTH_CLASSES:
        ours, theirs = _predict(race, _tiny_dataset(num_classes), *options)
        figures += usual(ours, theirs, of=f"{num_classes} classes")
        figures.append(Figure(f"{num_classes} classes: equal voxels", "", min(_equal_shares(race))))
    alone = _predict_ours(race, _tiny_dataset(_OURS_CLASSES), options[0])
    most = figures[-4:]
    against = f"{_OURS_CLASSES} classes, against nnU-Net's {_BOTH_CLASSES[-1]}"
    return [
        *figures,
        Figure(f"{against}: wall time", "s", alone.wall_s, most[0].theirs),
        Figure(f"{against}: processor time", "s", alone.cpu_s, most[1].theirs),
        Figure(f"{against}: peak memory", "GB", alone.peak_bytes / 1e9, most[2].theirs),
    ]


def _predict(race: Race, dataset: str, ours: list[str], theirs: list[str]) -> tuple[Measurement, Measurement]:
    mine = _predict_ours(race, dataset, ours)
    shutil.rmtree(race.work / "theirs", ignore_errors=True)
    folders = ["-i", str(_images(race, dataset)), "-o", str(race.work / "theirs")]
    model = ["-d", _number(dataset), "-c", CONFIGURATION, "-f", "0", "-device", "cpu"]
    return mine, race.theirs("nnUNetv2_predict", *folders, *model, *theirs)


def _predict_ours(race: Race, dataset: str, options: list[str]) -> Measurement:
    shutil.rmtree(race.work / "ours", ignore_errors=True)
    folders = ["-i", str(_images(race, dataset)), "-o", str(race.work / "ours")]
    model = ["-m", str(_our_model(race, dataset)), "--device", "cpu", "--quiet"]
    return race.ours("predict", *folders, *model, *options)


def _equal_shares(race: Race) -> list[float]:
    """The share of equal voxels of each case."""
    theirs = sorted((race.work / "theirs").glob("*.nii.gz"))
    return [float(np.mean(_labels(path) == _labels(race.work / "ours" / path.name))) for path in theirs]


def _labels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def _take_over(race: Race, folder: Path) -> None:
    ours = _our_model(race, folder.parent.name)
    if not ours.exists():
        race.ours("import_nnunet", str(folder), "-o", str(ours))


def _our_model(race: Race, dataset: str) -> Path:
    return race.root / "imported" / dataset


def _images(race: Race, dataset: str) -> Path:
    return race.work / "images" / dataset


def _link_images(race: Race, dataset: str) -> None:
    folder = _images(race, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((race.raw(dataset) / "imagesTr").iterdir())[: _QUICK_CASES if race.quick else _CASES]:
        _link(path, folder / path.name)


def _link(source: Path, place: Path) -> None:
    if not place.exists():
        place.symlink_to(source.resolve())


def _tiny_dataset(num_classes: int) -> str:
    return f"Dataset{100 + num_classes:03d}_Tiny"


def _number(dataset: str) -> str:
    return str(int(dataset[len("Dataset") :].split("_")[0]))


STAGES = {
    "predict-same-model": Stage(train_once, predict_same_model),
    "predict-classes": Stage(make_tiny_models, predict_classes),
}
