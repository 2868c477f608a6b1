"""Builders of small fingerprints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from planning.fingerprint import CaseFingerprint, Fingerprint, IntensityStatistics

STATISTICS = IntensityStatistics(94.5, 70.5, 93.7, -707.0, 3165.0, -68.3, 285.9)


@pytest.fixture
def make_fingerprint() -> Callable[..., Fingerprint]:
    """A function from groups of (shape, spacing in mm, number of cases) to a fingerprint."""

    def build(
        groups: Sequence[tuple[Sequence[int], Sequence[float], int]],
        channels: Sequence[str] = ("MRI",),
        classes: int = 3,
        relative_size_after_crop: float = 1.0,
        voxels_per_class: tuple[int, ...] = (),
    ) -> Fingerprint:
        cases = [(tuple(shape), tuple(spacing)) for shape, spacing, count in groups for _ in range(count)]
        return Fingerprint(
            dataset_name="made",
            channels=tuple(channels),
            labels={"background": 0, **{f"class {index}": index for index in range(1, classes)}},
            cases=tuple(
                CaseFingerprint(f"case_{index:03}", shape, spacing, shape, voxels_per_class)
                for index, (shape, spacing) in enumerate(cases)
            ),
            intensities=(STATISTICS,) * len(channels),
            relative_size_after_crop=relative_size_after_crop,
        )

    return build


@pytest.fixture
def kits_like(make_fingerprint: Callable[..., Fingerprint]) -> Fingerprint:
    """KiTS19 in short: its count, spacing and median shape (136.5, 511, 511)."""
    spacing = (3.0, 0.781625, 0.781625)
    return make_fingerprint([((136, 511, 511), spacing, 105), ((137, 511, 511), spacing, 105)], channels=("CT",))
