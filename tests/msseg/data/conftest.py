"""Small data sets on disk for the tests of the data room."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label

GRID = Geometry(shape=(4, 5, 6), spacing_mm=(2.0, 1.0, 1.0))


def write_test_image(path: Path, seed: int = 0, channels: int = 1) -> Path:
    """An image of random numbers on the small grid."""
    write_image(path, np.random.default_rng(seed).random((channels, *GRID.shape), np.float32), GRID)
    return path


def write_test_label(path: Path, *values: int) -> Path:
    """A label map whose first voxels have these values, the rest 0."""
    label = np.zeros(GRID.shape, np.int16)
    label.ravel()[: len(values)] = values
    write_label(path, label, GRID)
    return path


@pytest.fixture
def image_at() -> Callable[..., Path]:
    return write_test_image


@pytest.fixture
def label_at() -> Callable[..., Path]:
    return write_test_label


@pytest.fixture
def decathlon(tmp_path: Path) -> Callable[..., Path]:
    """Writes a Decathlon folder of the named cases; entries of dataset.json can be replaced."""

    def write(names: tuple[str, ...] = ("a", "b"), **entries: Any) -> Path:
        folder = tmp_path / "Task99_Small"
        for seed, name in enumerate(names):
            write_test_image(folder / "imagesTr" / f"{name}.nii.gz", seed)
            write_test_label(folder / "labelsTr" / f"{name}.nii.gz", 1, 2)
        training = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
        description = {
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "front", "2": "back"},
            "numTraining": len(names),
            "training": training,
        }
        (folder / "dataset.json").write_text(json.dumps({**description, **entries}))
        return folder

    return write


@pytest.fixture
def nnunet(tmp_path: Path) -> Callable[..., Path]:
    """Writes an nnU-Net v2 folder of the named cases with two channels; entries of dataset.json can be replaced."""

    def write(names: tuple[str, ...] = ("a", "b"), **entries: Any) -> Path:
        folder = tmp_path / "Dataset099_Small"
        for seed, name in enumerate(names):
            for channel in range(2):
                write_test_image(folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz", 2 * seed + channel)
            write_test_label(folder / "labelsTr" / f"{name}.nii.gz", 1, 2)
        description = {
            "channel_names": {"0": "T1", "1": "T2"},
            "labels": {"background": 0, "front": 1, "back": 2},
            "numTraining": len(names),
            "file_ending": ".nii.gz",
        }
        (folder / "dataset.json").write_text(json.dumps({**description, **entries}))
        return folder

    return write
