from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch

from msseg.checkpoint import Checkpoint, save_checkpoint
from msseg.data.geometry import Geometry
from msseg.data.image import write_image
from msseg.inference.predictor import PredictionOptions
from msseg.networks.build import build_network
from msseg.pipeline.prediction import RECORD, predict

GRID = Geometry((8, 8, 8), (1.0, 1.0, 1.0))


@pytest.fixture
def model_dir(tmp_path, make_plan, make_configuration):
    """A model folder of one untrained fold."""
    configuration = make_configuration()
    network = build_network(configuration, 1, 2, torch.Generator().manual_seed(0))
    checkpoint = Checkpoint(network.state_dict(), make_plan(configuration), configuration.name)
    save_checkpoint(tmp_path / "model/fold_0/checkpoint_final.safetensors", checkpoint)
    return tmp_path / "model"


@pytest.fixture
def images(tmp_path):
    """A folder with one image."""
    image = np.random.default_rng(0).normal(size=(1, *GRID.shape)).astype(np.float32)
    write_image(tmp_path / "images/a_0000.nii.gz", image, GRID)
    return tmp_path / "images"


def test_what_predicted_is_recorded_beside_the_segmentations(model_dir, images, tmp_path):
    predict(images, tmp_path / "out", model_dir, options=PredictionOptions(mirror=False, branches="fast"))
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert record["model"] == str(model_dir) and record["folds"] == ["0"] and record["postprocess"] is True
    assert record["options"]["branches"] == "fast" and record["options"]["guidance"] is True


def test_outputs_kept_from_other_options_are_warned_of(model_dir, images, tmp_path, caplog):
    fast, accurate = (PredictionOptions(mirror=False, branches=mode) for mode in ("fast", "accurate"))
    with caplog.at_level(logging.WARNING, "msseg"):
        for options, overwrite in ((fast, False), (fast, False), (accurate, True)):
            predict(images, tmp_path / "out", model_dir, options=options, overwrite=overwrite)
        assert caplog.records == []
        predict(images, tmp_path / "out", model_dir, options=fast)
    assert "other options" in caplog.text
