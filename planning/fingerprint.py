"""The fingerprint: what the planner knows of a data set, as plain numbers.

Axes are (z, y, x) as stored in the files, before any transposition.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IntensityStatistics:
    """Foreground intensities of one channel, every case weighing the same."""

    mean: float
    std: float
    median: float
    minimum: float
    maximum: float
    percentile_00_5: float
    percentile_99_5: float


@dataclass(frozen=True)
class CaseFingerprint:
    """One training case; the per-class tuples start with class 1 (the background is not an object)."""

    name: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    cropped_shape: tuple[int, ...]
    voxels_per_class: tuple[int, ...] = ()
    components_per_class: tuple[int, ...] = ()
    object_sizes_mm3: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Fingerprint:
    """A data set as measured; `labels` maps names to the values in the files, background first."""

    dataset_name: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    cases: tuple[CaseFingerprint, ...]
    intensities: tuple[IntensityStatistics, ...]
    relative_size_after_crop: float
