from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch

from msseg.checkpoint import Checkpoint, save_checkpoint
from msseg.commands.predict import main
from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_image
from msseg.errors import MssegError
from msseg.files import write_json
from msseg.inference.predictor import PredictionOptions
from msseg.inference.probability_files import read_probabilities
from msseg.instances.decision import Decision, decision_to_json
from msseg.networks.build import build_network
from msseg.pipeline.prediction import RECORD, OutputWish, predict

GRID = Geometry((8, 8, 8), (1.0, 1.0, 1.0))


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


def test_rules_of_a_file_take_the_place_of_the_models_and_are_recorded(model_dir, images, tmp_path):
    row = {"rule": "minimum_size_of_each", "classes": ["one"], "parameters": {"smallest_mm3": 1e9}}
    (tmp_path / "mine.json").write_text(json.dumps({"version": 1, "rules": [row]}))
    options = PredictionOptions(mirror=False, branches="fast")
    for name, wish in (("bare", OutputWish()), ("mended", OutputWish(rules_file=tmp_path / "mine.json"))):
        predict(images, tmp_path / name, model_dir, options=options, outputs=wish)
    bare, mended = (read_label(tmp_path / name / "a.nii.gz")[0] for name in ("bare", "mended"))
    assert bare.any() and not mended.any()
    (recorded,) = json.loads((tmp_path / "mended" / RECORD).read_text())["postprocess"]
    assert recorded["classes"] == [1] and recorded["parameters"] == {"smallest_mm3": 1e9}


def test_outputs_kept_from_other_options_are_warned_of(model_dir, images, tmp_path, caplog):
    fast, accurate = (PredictionOptions(mirror=False, branches=mode) for mode in ("fast", "accurate"))
    with caplog.at_level(logging.WARNING, "msseg"):
        for options, overwrite in ((fast, False), (fast, False), (accurate, True)):
            predict(images, tmp_path / "out", model_dir, options=options, overwrite=overwrite)
        assert caplog.records == []
        predict(images, tmp_path / "out", model_dir, options=fast)
    assert "other options" in caplog.text


def test_probabilities_threshold_and_objects_are_recorded(model_dir, images, tmp_path):
    write_json(model_dir / "decision.json", decision_to_json(Decision(0.4, 0.6, 5, "dsb2018", 0.7)))
    options, out = PredictionOptions(mirror=False), tmp_path / "out"

    def record(name: str, wish: OutputWish) -> dict:
        assert predict(images, out / name, model_dir, options=options, outputs=wish).is_complete
        return json.loads((out / name / RECORD).read_text())

    assert record("plain", OutputWish())["decision"] == {"foreground": 0.4}
    assert record("bare", OutputWish(decide=False))["decision"] is None
    assert record("own", OutputWish(threshold=0.2))["decision"] == {"foreground": 0.2}
    objects = record("objects", OutputWish(instances=True))
    assert objects["decision"] == {"foreground": 0.4, "seed": 0.6, "smallest_px": 5} and objects["writes"] == "objects"
    assert record("kept", OutputWish(probability_bits=8))["probability_bits"] == 8
    probability = read_probabilities(out / "kept/a.probabilities.npz").probabilities[1]
    for name, threshold in (("plain", 0.4), ("bare", 0.5), ("own", 0.2)):
        sure = np.abs(probability - threshold) > 0.002
        np.testing.assert_array_equal(read_label(out / name / "a.nii.gz")[0][sure] == 7, probability[sure] > threshold)


def test_objects_and_thresholds_are_for_models_of_one_label(tmp_path, make_plan, make_configuration, images):
    configuration = make_configuration()
    plan = make_plan(configuration, labels={"background": 0, "one": 1, "two": 2}, class_weights=(1.0, 1.0, 1.0))
    network = build_network(configuration, 1, 3, torch.Generator().manual_seed(0))
    model = tmp_path / "two"
    save_checkpoint(
        model / "fold_0/checkpoint_final.safetensors", Checkpoint(network.state_dict(), plan, configuration.name)
    )
    for wish in (OutputWish(instances=True), OutputWish(threshold=0.3)):
        with pytest.raises(MssegError, match="of a model of 2 labels"):
            predict(images, tmp_path / "out", model, outputs=wish)
    assert not (tmp_path / "out").exists()


def test_the_command_asks_for_probabilities_of_16_bits_by_default(model_dir, images, tmp_path, capsys):
    arguments = ["-i", str(images), "-o", str(tmp_path / "out"), "-m", str(model_dir), "--no-mirroring"]
    assert main([*arguments, "--save-probabilities", "--threshold", "0.3", "--device", "cpu"]) == 0
    assert read_probabilities(tmp_path / "out/a.probabilities.npz").bits == 16
    with pytest.raises(SystemExit):
        main([*arguments, "--threshold", "0.3", "--no-decision"])
    assert "not allowed with" in capsys.readouterr().err
