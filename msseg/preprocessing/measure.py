"""What the planner wants to know of one case: shapes, foreground intensities, objects of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np

from msseg.preprocessing.crop import nonzero_box
from msseg.preprocessing.locations import class_voxels, slabs
from planning.fingerprint import CaseFingerprint, IntensitySketch, sketch_intensities

_MOST_INTENSITIES = 1 << 20  # a sketch of every k-th of so many voxels has its 0.5th percentile from 5000 of them
_MOST_OBJECTS = 100
_NEIGHBOURS: Final = 26
_SMALLEST_DEVIATION: Final = 1e-6


@dataclass(frozen=True)
class MeasuredCase:
    """One case's part of the fingerprint; `sketches` are of its foreground intensities, one a channel."""

    fingerprint: CaseFingerprint
    sketches: tuple[IntensitySketch, ...]


def measure_case(
    name: str, image_czyx: np.ndarray, label_zyx: np.ndarray, spacing_mm: Sequence[float], num_classes: int
) -> MeasuredCase:
    """The measurements of a case whose label holds class indices; everything but the shape is of the nonzero box.

    What the label ignores (-1) is neither foreground nor background.
    Memory beyond the input is one 32-bit volume of the box that holds the foreground.
    """
    box = nonzero_box(image_czyx)
    label = label_zyx[box]
    sizes = object_sizes(label, num_classes)
    all_channels = (slice(None), *box)
    voxel_mm3 = float(np.prod(spacing_mm))
    fingerprint = CaseFingerprint(
        name=name,
        shape=tuple(label_zyx.shape),
        spacing_mm=tuple(float(mm) for mm in spacing_mm),
        cropped_shape=tuple(label.shape),
        voxels_per_class=tuple(int(objects.sum()) for objects in sizes),
        components_per_class=tuple(len(objects) for objects in sizes),
        object_sizes_mm3=tuple(tuple((objects[:_MOST_OBJECTS] * voxel_mm3).tolist()) for objects in sizes),
        contrast=foreground_contrast(image_czyx[all_channels], label) if 1 in label.shape else None,
        annotated_voxels=_annotated_voxels(label),
    )
    step = -(-sum(fingerprint.voxels_per_class) // _MOST_INTENSITIES) or 1
    sketches = (sketch_intensities(foreground_intensities(channel[box], label, step)) for channel in image_czyx)
    return MeasuredCase(fingerprint, tuple(sketches))


def _annotated_voxels(label: np.ndarray) -> int | None:
    """The voxels that are not ignored; None where none is."""
    known = label.size if label.dtype.kind == "u" else int(np.count_nonzero(label >= 0))
    return None if known == label.size else known


def foreground_intensities(channel: np.ndarray, label: np.ndarray, step: int) -> np.ndarray:
    """The intensities where the label is above 0, every `step`-th of them in C order."""
    parts, seen = [], 0
    start = 0
    for _, label_slab in slabs(label):
        stop = start + len(label_slab)
        inside = channel[start:stop][label_slab > 0]
        parts.append(inside[-seen % step :: step])
        seen += len(inside)
        start = stop
    return np.concatenate(parts) if parts else np.empty(0, channel.dtype)


def foreground_contrast(image_czyx: np.ndarray, label: np.ndarray) -> float | None:
    """How far the mean of the foreground lies above the background's, in deviations of the image, mean over channels.

    None where one of the two is missing.
    """
    inside, outside = label > 0, label == 0
    if not outside.any() or not inside.any():
        return None
    steps = [
        (channel[inside].mean(dtype=np.float64) - channel[outside].mean(dtype=np.float64))
        / max(float(channel.std(dtype=np.float64)), _SMALLEST_DEVIATION)
        for channel in image_czyx
    ]
    return float(np.mean(steps))


def object_sizes(label: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """Per class from 1 on, the voxels of each of its connected components (26 neighbours), largest first."""
    box = _foreground_box(label)
    if box is None:
        return [np.zeros(0, np.int64) for _ in range(1, num_classes)]
    cropped = np.ascontiguousarray(label[box] if label.dtype.kind == "u" else np.maximum(label[box], 0))
    components, count = cc3d.connected_components(cropped, connectivity=_NEIGHBOURS, return_N=True)
    sizes, classes = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for part, part_classes in zip(slabs(components), slabs(cropped), strict=True):
        values = part[1].reshape(-1)
        starts = np.flatnonzero(np.diff(values, prepend=values[:1] + 1))  # runs of equal voxels: few, against voxels
        lengths = np.diff(starts, append=values.size)
        sizes += np.bincount(values[starts], weights=lengths, minlength=count + 1).astype(np.int64)
        classes[values[starts]] = part_classes[1].reshape(-1)[starts]
    return [np.sort(sizes[1:][classes[1:] == index])[::-1] for index in range(1, num_classes)]


def _foreground_box(label: np.ndarray) -> tuple[slice, ...] | None:
    if len(class_voxels(label)) < 2:
        return None
    return nonzero_box(label[None] if label.dtype.kind == "u" else label[None] > 0)
