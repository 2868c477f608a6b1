"""What a cascade's second network sees of the first's prediction: planes of 0 and 1, after the image's channels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msseg.errors import DatasetError


def class_planes(classes_zyx: np.ndarray, planes: Sequence[Sequence[int]]) -> np.ndarray:
    """Planes (p, z, y, x) float32, 1 where a voxel is of one of the plane's classes; `planes` are a `Plan`'s.

    An index that no plane names, such as the background's 0 or the padding's -1, is 0 in all of them.
    """
    result = np.zeros((len(planes), *classes_zyx.shape), np.float32)
    for plane, classes in zip(result, planes, strict=True):
        plane[np.isin(classes_zyx, classes)] = 1
    return result


def with_planes(image_czyx: np.ndarray, classes_zyx: np.ndarray, planes: Sequence[Sequence[int]]) -> np.ndarray:
    """The image (c, z, y, x) with the planes of the class map (z, y, x) as its last channels, float32."""
    return np.concatenate([np.asarray(image_czyx, np.float32), class_planes(classes_zyx, planes)])


def previous_labels(folder: Path, name: str) -> np.ndarray:
    """What the first network predicted of a stored case: class indices (z, y, x) uint8, mapped into memory.

    Raises DatasetError where it is not there.
    """
    path = Path(folder) / f"{name}.npy"
    try:
        labels: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as problem:
        raise DatasetError(
            f"{path}: no prediction of the first stage there ({problem}). Run msseg_train again; it makes what is "
            "missing."
        ) from None
    return labels
