"""Volumes made on the spot: a body in air, filled with regions of many classes, each of its own brightness.

Nothing here is anatomy. It has what costs depend on: air around a body, foreground in about a third of the voxels,
regions of all sizes that touch each other, noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

AIR_HU = -1000
_COARSE_VOXELS = 48  # Regions are decided on a grid of at most so many voxels an axis, and enlarged.
_SEEDS_PER_CLASS = 2
_NOISE_HU = 15.0


def made_labels(shape: Sequence[int], num_classes: int, seed: int = 0) -> np.ndarray:
    """A label map (z, y, x), uint8, of `num_classes` classes, the background counted.

    Every class is there if the shape gives it room; half of what is drawn is background inside the body.
    """
    rng = np.random.default_rng((seed, num_classes))
    coarse = [min(length, _COARSE_VOXELS) for length in shape]
    position = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in coarse), indexing="ij"), -1)  # (z, y, x, 3)
    seeds = rng.uniform(-0.8, 0.8, (2 * _SEEDS_PER_CLASS * (num_classes - 1), 3))
    classes = np.zeros(len(seeds), np.uint8)
    classes[: len(seeds) // 2] = 1 + np.arange(len(seeds) // 2) % (num_classes - 1)
    nearest = cKDTree(seeds).query(position.reshape(-1, 3))[1]
    labels = classes[nearest].reshape(coarse) * _inside(position)
    return _enlarged(labels, shape)


def made_image(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """An image (z, y, x), int16, in HU, in which each class of the label map has its own brightness, and noise."""
    rng = np.random.default_rng((seed, labels.size))
    brightness = rng.uniform(-100, 300, int(labels.max()) + 1).astype(np.float32)
    image = brightness[labels]
    position = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in labels.shape), indexing="ij", sparse=True)
    image[sum(part**2 for part in position) > 1] = AIR_HU
    noise = rng.standard_normal(labels.shape, dtype=np.float32)
    image += _NOISE_HU * noise
    return np.rint(image).astype(np.int16)


def shifted(labels: np.ndarray, voxels: int = 1) -> np.ndarray:
    """The label map moved along every axis, as a prediction that is nearly right."""
    return np.ascontiguousarray(np.roll(labels, (voxels,) * labels.ndim, range(labels.ndim)))


def _inside(position: np.ndarray) -> np.ndarray:
    return (position**2).sum(-1) < 0.9


def _enlarged(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    for axis, length in enumerate(shape):
        labels = labels.take(np.arange(length) * labels.shape[axis] // length, axis)
    return np.ascontiguousarray(labels)
