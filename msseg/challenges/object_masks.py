"""A folder of predicted masks as objects: instance masks as they are, semantic ones by connected components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from msseg.challenges.challenge import Masks
from msseg.data.image import read_label
from msseg.data.problems import FileError
from msseg.errors import DatasetError


def read_mask(path: Path, shape: tuple[int, int, int] | None = None) -> np.ndarray:
    """The mask (y, x) of one flat image; FileError for a volume, negative values, or another shape than (z, y, x)."""
    label, _ = read_label(path)
    if len(label) != 1:
        raise FileError(path, f"{len(label)} slices", "a flat image", "Predict the images one by one.")
    if shape is not None and label.shape != shape:
        found, expected = (f"{width} x {height} pixels" for _, height, width in (label.shape, shape))
        raise FileError(path, found, f"{expected} as its image has", "Predict the challenge's own images.")
    if label.size and label.min() < 0:
        raise FileError(path, f"the value {label.min()}", "object numbers from 0 on", "Export the mask again.")
    return label[0]


def meaning_of(files: Mapping[str, Path], masks: Masks) -> Masks:
    """Whether masks hold objects ("instances") or one value for all of them ("semantic"), where `masks` is "auto".

    They hold objects as soon as one of them has two values beside 0.
    """
    if masks != "auto":
        return masks
    return "instances" if any(_has_two_values(read_mask(path)) for path in files.values()) else "semantic"


def objects_of(
    files: Mapping[str, Path], masks: Masks, shapes: Mapping[str, tuple[int, int, int]]
) -> Iterator[tuple[str, np.ndarray]]:
    """Each mask's name and object numbers (y, x), in the order of `files`; `shapes` are the images', where known."""
    number = {"instances": lambda mask: mask, "semantic": _components}[masks]
    for name, path in files.items():
        yield name, number(read_mask(path, shapes.get(name)))


def refuse_missing(predictions: Path, found: Mapping[str, Path], wanted: Mapping[str, object]) -> None:
    """DatasetError where an image has no prediction, or a prediction no image."""
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing:
        raise DatasetError(
            f"{predictions}: no prediction for {_some(missing)}; expected one for every image. Predict them too."
        )
    if unknown:
        raise DatasetError(
            f"{predictions}: {_some(unknown)}, which the challenge's images do not have; expected their predictions "
            "alone. Move the others away."
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _has_two_values(mask_yx: np.ndarray) -> bool:
    foreground = mask_yx[mask_yx != 0]
    return bool(foreground.size) and bool(foreground.min() != foreground.max())


def _components(mask_yx: np.ndarray) -> np.ndarray:
    """Numbers of the components, in which pixels that touch at a corner hang together."""
    import cc3d

    return cc3d.connected_components((mask_yx != 0).astype(np.uint8), connectivity=8)
