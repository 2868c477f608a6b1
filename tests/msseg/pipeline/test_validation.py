from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from msseg.checkpoint import Checkpoint, save_checkpoint
from msseg.data.geometry import Geometry
from msseg.data.image import write_label
from msseg.data.labels import LabelMap
from msseg.errors import DatasetError
from msseg.evaluation.pairs import Pair
from msseg.inference.predictor import PredictionOptions
from msseg.pipeline import validation
from msseg.pipeline.validation import CANDIDATES, choose_postprocessing, keep_outputs_of
from msseg.postprocessing.rules import read_rules

LABELS = LabelMap((0, 7, 9))
ISLAND = [7, 7, 7, 0, 7]
ONE_PIECE = [7, 7, 7, 0, 0]
TWO_PIECES = [7, 7, 0, 7, 7]


def pair(folder, name, prediction, reference) -> Pair:
    paths = [folder / kind / f"{name}.nii.gz" for kind in ("predicted", "wanted")]
    for path, voxels in zip(paths, (prediction, reference), strict=True):
        label = np.array(voxels, np.uint8)[None, None]
        write_label(path, label, Geometry(label.shape, (1.0, 1.0, 1.0)))
    return Pair(name, *paths)


def rules_of(model):
    return [(rule.rule, rule.classes) for rule in read_rules(model / "postprocessing.json")]


def test_rules_are_chosen_on_the_cases_of_all_folds(tmp_path):
    first, second = tmp_path / "fold_0", tmp_path / "fold_1"
    choose_postprocessing(first, [pair(tmp_path, "a", ISLAND, ONE_PIECE)], LABELS, workers=1)
    assert rules_of(tmp_path) == [("largest_component_together", (1, 2))]
    torn = [pair(tmp_path, name, TWO_PIECES, TWO_PIECES) for name in ("b", "c")]
    choose_postprocessing(second, torn, LABELS, workers=1)
    assert rules_of(tmp_path) == []
    assert sorted(json.loads((second / CANDIDATES).read_text())["tables"]) == ["b", "c"]


def test_a_fold_of_other_labels_has_no_say(tmp_path):
    choose_postprocessing(tmp_path / "fold_0", [pair(tmp_path, "a", ISLAND, ONE_PIECE)], LabelMap((0, 7)), workers=1)
    choose_postprocessing(tmp_path / "fold_1", [pair(tmp_path, "b", ONE_PIECE, ONE_PIECE)], LABELS, workers=1)
    assert rules_of(tmp_path) == []


def test_a_segmentation_of_undeclared_values_is_an_error(tmp_path):
    with pytest.raises(DatasetError):
        choose_postprocessing(tmp_path / "fold_0", [pair(tmp_path, "a", [3], [7])], LABELS, workers=1)


@pytest.mark.parametrize(
    ("weights", "options"), [(2.0, PredictionOptions()), (1.0, PredictionOptions(branches="fast"))]
)
def test_segmentations_of_other_weights_or_options_are_not_kept(
    tmp_path, weights, options, make_plan, make_configuration
):
    checkpoint, output = tmp_path / "fold_0" / "final", tmp_path / "validation"
    plan = make_plan(make_configuration())
    save_checkpoint(checkpoint, Checkpoint({"w": torch.tensor([1.0])}, plan, "3d"))
    keep_outputs_of(checkpoint, output, PredictionOptions())
    (output / "a.nii.gz").write_bytes(b"segmentation")
    keep_outputs_of(checkpoint, output, PredictionOptions())
    assert (output / "a.nii.gz").exists()
    save_checkpoint(checkpoint, Checkpoint({"w": torch.tensor([weights])}, plan, "3d"))
    keep_outputs_of(checkpoint, output, options)
    assert not (output / "a.nii.gz").exists()


@pytest.mark.parametrize(("budget_s", "expected_s"), [(None, 100.0), (2000.0, 100.0), (1100.0, 69.0), (1020.0, -11.0)])
def test_presets_are_measured_in_a_tenth_of_the_training_and_within_its_budget(monkeypatch, budget_s, expected_s):
    monkeypatch.setattr(validation.time, "monotonic", lambda: 130.0)
    job = SimpleNamespace(budget_s=budget_s)  # trained 1000 s, then validated 30 s; one second is kept for the end
    assert validation._spare_s(job, 1000.0, start=100.0) == expected_s
