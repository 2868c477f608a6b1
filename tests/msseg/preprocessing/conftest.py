"""A plan by hand and a data set of small boxes for the preprocessing tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from planning.plan import ChannelPlan, Configuration, Plan

PlanMaker = Callable[..., Plan]


@pytest.fixture
def make_plan(make_plan: PlanMaker, make_configuration: Callable[..., Configuration]) -> PlanMaker:
    """Makes the shared plan for boxes with a core, by the few values that preprocessing reads."""

    def make(
        spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0),
        normalisation: str = "zscore",
        inside_nonzero_mask: bool = False,
        axis_order: tuple[int, ...] = (0, 1, 2),
        channels: int = 1,
        **statistics: float,
    ) -> Plan:
        limits = {"lower": -100.0, "upper": 100.0, "mean": 0.0, "std": 50.0, **statistics}
        configuration = make_configuration(dimensions=len(spacing_mm), spacing_mm=spacing_mm)
        return make_plan(
            configuration,
            dataset_name="Boxes",
            channels=tuple(
                ChannelPlan(f"channel {i}", normalisation, inside_nonzero_mask, **limits) for i in range(channels)
            ),
            labels={"background": 0, "box": 1, "core": 2},
            axis_order=axis_order,
            class_weights=(1.0, 1.0, 1.0),
        )

    return make


@pytest.fixture
def box_folder(tmp_path: Path) -> Path:
    """An nnU-Net folder of five cases: a box of class 1 with a core of class 2 (stored as 7) in noise."""
    folder = tmp_path / "raw" / "Dataset901_Boxes"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for index in range(5):
        write_box_case(folder, f"case_{index}", seed=index)
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "box": 1, "core": 7},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def write_box_case(folder: Path, name: str, seed: int) -> None:
    label = np.zeros((12, 10, 8), np.uint8)
    label[3:9, 3:8, 2:6] = 1
    label[4:6, 4:6, 3:5] = 7
    image = np.random.default_rng(seed).normal(100, 5, label.shape) + 50 * label
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), affine), folder / "imagesTr" / f"{name}_0000.nii.gz")
    nibabel.save(nibabel.Nifti1Image(label, affine), folder / "labelsTr" / f"{name}.nii.gz")


@pytest.fixture
def rewrite_box_case(box_folder: Path) -> Callable[[str, int], None]:
    """Writes a case of `box_folder` again with other noise."""
    return lambda name, seed: write_box_case(box_folder, name, seed)
