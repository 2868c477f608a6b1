"""Seconds that single steps take on one case, from sizes alone; one thread."""

from __future__ import annotations

import math
from dataclasses import dataclass

from planning.costs.machine import CaseRates

_IMAGE_BYTES, _LABEL_BYTES = 4, 1  # of a prepared voxel: float32, and classes up to 255
_LOCATION_BYTES = 12
_MOST_LOCATIONS, _LOCATION_SHARE = 10_000, 0.01
# All boxes around labels together, and all of their surfaces, against the image: measured on hippocampus, ACDC and a
# CT with 61 classes, within a factor of two.
_BOX_SHARE = 0.17
_SURFACE_SHARE = 0.8


@dataclass(frozen=True)
class CaseSize:
    """One case as its headers tell it: voxels of the image's grid, and bytes in the files and once they are inflated.

    `new_shape` is the grid that it is prepared on, `work_bytes` the most memory that preparing it takes beyond what
    its process takes anyway. Label bytes are 0 where it has none.
    """

    name: str
    shape: tuple[int, ...]
    channels: int
    image_file_bytes: int
    image_bytes: int
    label_file_bytes: int
    label_bytes: int
    new_shape: tuple[int, ...]
    work_bytes: int
    compressed: bool = True

    @property
    def voxels(self) -> int:
        return math.prod(self.shape)

    @property
    def new_voxels(self) -> int:
        return math.prod(self.new_shape)

    @property
    def is_resampled(self) -> bool:
        return sorted(self.shape) != sorted(self.new_shape)


def read_s(file_bytes: int, inflated_bytes: int, compressed: bool, rates: CaseRates) -> float:
    """A file read, and inflated where it is compressed."""
    seconds = file_bytes / rates.read_bytes_per_s
    if compressed:
        seconds += file_bytes / rates.gunzip_from_bytes_per_s + inflated_bytes / rates.gunzip_to_bytes_per_s
    return seconds


def case_read_s(case: CaseSize, rates: CaseRates) -> float:
    """Image and label read."""
    return read_s(
        case.image_file_bytes + case.label_file_bytes, case.image_bytes + case.label_bytes, case.compressed, rates
    )


def examine_s(case: CaseSize, rates: CaseRates) -> float:
    """Checked and measured, once it is read."""
    seconds = case.channels * case.voxels / rates.examine_voxels_per_s
    return seconds + (case.voxels / rates.components_voxels_per_s if case.label_bytes else 0.0)


def prepare_s(case: CaseSize, rates: CaseRates) -> float:
    """Normalised, resampled, and its classes located."""
    seconds = case.channels * case.voxels / rates.normalise_voxels_per_s
    if case.is_resampled:
        larger = max(case.voxels, case.new_voxels)
        seconds += case.channels * larger / rates.resample_voxels_per_s
        seconds += larger / rates.label_vote_voxels_per_s if case.label_bytes else 0.0
    return seconds + (case.new_voxels / rates.locate_voxels_per_s if case.label_bytes else 0.0)


def store_bytes(case: CaseSize, num_classes: int) -> int:
    """Bytes of the prepared case on disk; how much of it each class takes is not known, so its list is as if equal."""
    a_class = case.new_voxels / (2 * num_classes)
    listed = (num_classes - 1) * min(a_class, max(_MOST_LOCATIONS, _LOCATION_SHARE * a_class))
    label = _LABEL_BYTES * case.new_voxels + _LOCATION_BYTES * listed if case.label_bytes else 0
    return round(_IMAGE_BYTES * case.channels * case.new_voxels + label)


def evaluate_s(voxels: int, labels: int, rates: CaseRates) -> float:
    """Overlaps and surface distances of all labels of a case, once both files are read."""
    spread = math.sqrt(labels)
    box, surface = _BOX_SHARE * spread * voxels, _SURFACE_SHARE * spread * voxels ** (2 / 3)
    seconds = voxels / rates.overlap_voxels_per_s + box / rates.box_voxels_per_s
    return seconds + surface / rates.surface_voxels_per_s
