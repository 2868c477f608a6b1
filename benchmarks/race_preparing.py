"""Races of preprocessing: many small volumes, and few large ones of many classes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from big_ct import CASES, made_torso, read_torso, write_big_ct
from contest import Figure, Race, Stage, usual
from nnunet_peer import CONFIGURATION, dataset_name, layout

SMALL, LARGE = "Task04_Hippocampus", "Dataset061_BigCT"
_TORSO = Path("volumes") / "CT_MR_multiorgan"
_QUICK_CASES, _QUICK_COARSER = 20, 3.0
_PROCESSES = 2


def small_dataset(race: Race) -> str:
    """The name of the data set of small volumes, laid out."""
    layout(race.data / SMALL, race.peer, _QUICK_CASES if race.quick else None)
    return dataset_name(race.data / SMALL)


def large_dataset(race: Race) -> str:
    """The name of the data set of large volumes, made if it is not there: from the torso in the data, or a made one."""
    folder = race.raw(LARGE)
    if not (folder / "dataset.json").exists():
        image, label = (race.data / _TORSO / f"ct_torso_{part}.nii.gz" for part in ("image", "label"))
        torso = read_torso(image, label) if image.exists() else made_torso()
        write_big_ct(torso, folder, 2 if race.quick else CASES, _QUICK_COARSER if race.quick else 1.0)
    return LARGE


def preprocess_small(race: Race) -> list[Figure]:
    """Plan and preprocess all the small volumes from nothing, with each one's own number of processes."""
    return _preprocess(race, small_dataset(race), [])


def preprocess_large(race: Race) -> list[Figure]:
    """The same of four large CT volumes, nnU-Net with two processes, which is what this memory allows it."""
    processes = ["-np", str(_PROCESSES), "-npfp", str(_PROCESSES)]
    figures = _preprocess(race, LARGE, processes)
    return [*figures, *_differences(race, LARGE, "ct_001")]


def _preprocess(race: Race, dataset: str, options: list[str]) -> list[Figure]:
    shutil.rmtree(race.root / "preprocessed" / dataset, ignore_errors=True)
    arguments = ["--root", str(race.root), "--network", "plain_unet", "--quiet"]
    ours = race.ours("plan_and_preprocess", str(race.raw(dataset)), *arguments)
    shutil.rmtree(race.peer / "preprocessed" / dataset, ignore_errors=True)
    number = str(int(dataset[len("Dataset") :].split("_")[0]))
    theirs = race.theirs("nnUNetv2_plan_and_preprocess", "-d", number, "-c", CONFIGURATION, *options)
    return usual(ours, theirs)


def _differences(race: Race, dataset: str, case: str) -> list[Figure]:
    """How far our prepared arrays of a case are from nnU-Net's, in standard deviations of its image.

    nnU-Net draws the foreground voxels that its normalisation rests on, we take all of them: the images differ by a
    factor and an offset for that.
    """
    from msseg.data.store import open_case

    place = race.work / "their_arrays.npz"
    race.peer_script("arrays", str(race.peer), dataset, case, str(place))
    store = next((race.root / "preprocessed" / dataset).glob(f"cases_*/{case}.*")).parent
    ours = open_case(store, case)
    with np.load(place) as theirs:
        image, label = theirs["image"], np.maximum(theirs["label"], 0)
    place.unlink()
    if ours.image.shape != image.shape or ours.label is None:
        raise SystemExit(f"{case}: our grid is {ours.image.shape}, nnU-Net's {image.shape}; they cannot be compared.")
    apart = ours.image - image
    return [
        Figure("images apart, root mean square", "std", float(np.sqrt(np.mean(apart**2)) / image.std())),
        Figure("images apart, at most", "std", float(np.abs(apart).max() / image.std())),
        Figure("labels equal", "of voxels", float(np.mean(ours.label == label))),
    ]


STAGES = {
    "preprocess": Stage(lambda race: None, preprocess_small),
    "preprocess-large": Stage(lambda race: large_dataset(race) and None, preprocess_large),
}
