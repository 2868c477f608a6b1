"""Pictures in the layouts that the challenges publish, small enough to see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

Save = Callable[[Path, np.ndarray], Path]


def _save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="rgb" if array.shape[-1] == 3 else "minisblack")
    else:
        Image.fromarray(array).save(path)
    return path


@pytest.fixture(scope="session")
def save() -> Save:
    """Writes a picture or a stack, its type as the array has it."""
    return _save


@pytest.fixture(scope="session")
def load() -> Callable[[Path], np.ndarray]:
    """Reads a picture's values as stored."""
    return lambda path: tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))


@pytest.fixture
def bowl(tmp_path) -> Path:
    """Two training images of the Data Science Bowl, one grey and one in colour, both RGBA, and a test image.

    Image `one` is 4 × 6 with two masks that lie over each other at one pixel, `two` 5 × 5 and all one object.
    """
    folder = tmp_path / "bowl"
    rng = np.random.default_rng(0)
    images = {"one": np.repeat(rng.integers(0, 255, (4, 6, 1)), 3, axis=2), "two": rng.integers(0, 255, (5, 5, 3))}
    for name, image in images.items():
        opaque = np.full((*image.shape[:2], 1), 255)
        rgba = np.concatenate([image, opaque], axis=2).astype(np.uint8)
        _save(folder / f"stage1_train/{name}/images/{name}.png", rgba)
    for number, box in enumerate([np.s_[0:2, 0:3], np.s_[1:4, 2:5]]):
        mask = np.zeros((4, 6), np.uint8)
        mask[box] = 255
        _save(folder / f"stage1_train/one/masks/m{number}.png", mask)
    _save(folder / "stage1_train/two/masks/all.png", np.full((5, 5), 255, np.uint8))
    _save(folder / "stage1_test/three/images/three.png", rng.integers(0, 255, (3, 7, 3)).astype(np.uint8))
    return folder


@pytest.fixture
def stacks(tmp_path) -> Path:
    """ISBI 2012 with three training pages and two test pages of 4 × 5 pixels."""
    folder = tmp_path / "isbi"
    rng = np.random.default_rng(1)
    _save(folder / "train-volume.tif", rng.integers(0, 255, (3, 4, 5)).astype(np.uint8))
    _save(folder / "train-labels.tif", (rng.integers(0, 2, (3, 4, 5)) * 255).astype(np.uint8))
    _save(folder / "test-volume.tif", rng.integers(0, 255, (2, 4, 5)).astype(np.uint8))
    return folder
