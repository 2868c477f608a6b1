"""A small data set folder that can be planned, and a model that can predict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.checkpoint import Checkpoint, save_checkpoint
from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.files import write_json
from msseg.networks.build import build_network
from planning.plan import Configuration, Plan

GRID = Geometry(shape=(12, 16, 16), spacing_mm=(2.0, 1.0, 1.0))


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """A folder with spaces in its path: five noisy volumes `box_0` … `box_4`, each with a bright box."""
    folder = tmp_path / "my data" / "Task05_Boxes"
    rng = np.random.default_rng(0)
    label = np.zeros(GRID.shape, np.uint8)
    label[3:8, 4:10, 5:12] = 1
    for number in range(5):
        write_image(folder / f"imagesTr/box_{number}_0000.nii", rng.normal(label, 0.1)[None].astype(np.float32), GRID)
        write_label(folder / f"labelsTr/box_{number}.nii", label, GRID)
    description = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "box": 1}, "file_ending": ".nii"}
    write_json(folder / "dataset.json", description)
    return folder


@pytest.fixture
def model_dir(tmp_path: Path, make_plan: Callable[..., Plan], make_configuration: Callable[..., Configuration]) -> Path:
    """A model folder of one untrained fold, for patches of 8 × 8 × 8."""
    configuration = make_configuration()
    network = build_network(configuration, 1, 2, torch.Generator().manual_seed(0))
    checkpoint = Checkpoint(network.state_dict(), make_plan(configuration), configuration.name)
    save_checkpoint(tmp_path / "model/fold_0/checkpoint_final.safetensors", checkpoint)
    return tmp_path / "model"
