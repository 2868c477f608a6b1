from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from msseg.checkpoint import Checkpoint, save_checkpoint
from msseg.errors import CheckpointError, DatasetError, ResourceError
from msseg.files import write_json
from msseg.inference.memory import case_bytes
from msseg.inference.placement import Placement
from msseg.inference.prediction import only_seen
from msseg.inference.predictor import PredictionOptions, Predictor, load_predictor
from msseg.networks.build import build_network
from msseg.postprocessing.rules import Rule, write_rules

CPU = torch.device("cpu")
ISLANDS = Rule("largest_component_of_each", (1, 2))


def classes(image: np.ndarray) -> np.ndarray:
    """What the model of thresholds answers, in the data set's values."""
    return np.select([image > 1.5, image > 0.5], [7, 3], 0)


def blocky_image(shape: tuple[int, ...]) -> np.ndarray:
    """An image of the values 0, 1 and 2 with a rim of zeros, which the crop takes off."""
    image = np.zeros((1, *shape), np.float32)
    image[0, 2:-1, 1:-3, 3:-2] = np.random.default_rng(0).integers(
        0, 3, size=(shape[0] - 3, shape[1] - 4, shape[2] - 5)
    )
    return image


@pytest.mark.parametrize("axis_order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_labels_lie_on_the_images_grid_in_the_data_sets_values(threshold_model, axis_order):
    plan = dataclasses.replace(threshold_model.plan, axis_order=axis_order)
    predictor = Predictor(dataclasses.replace(threshold_model, plan=plan), CPU)
    image = blocky_image((11, 14, 17))
    label = predictor.predict_array(image, (1.0, 1.0, 1.0))
    assert label.dtype == np.uint8 and label.shape == (11, 14, 17)
    np.testing.assert_array_equal(label, classes(image[0]))


def test_an_image_of_another_spacing_comes_back_on_its_own_grid(threshold_model):
    image = np.zeros((1, 6, 20, 24), np.float32)
    image[0, 1:-1, 4:-4, 4:-4] = 1
    label = Predictor(threshold_model, CPU).predict_array(image, (2.0, 0.5, 0.5))
    assert label.shape == image.shape[1:]
    assert np.mean(label == classes(image[0])) > 0.97
    assert set(np.unique(label)) == {0, 3}


def test_rules_of_the_model_are_applied(threshold_model):
    image = np.zeros((1, 8, 8, 8), np.float32)
    image[0, 1:4, 1:4, 1:4] = 1
    image[0, 6, 6, 6] = 1
    mended = Predictor(threshold_model, CPU, rules=(ISLANDS,)).predict_array(image, (1.0, 1.0, 1.0))
    assert mended[2, 2, 2] == 3 and mended[6, 6, 6] == 0
    assert Predictor(threshold_model, CPU).predict_array(image, (1.0, 1.0, 1.0))[6, 6, 6] == 3


@pytest.mark.parametrize("axis_order", [(0, 1, 2), (2, 0, 1)])
def test_sizes_of_rules_are_in_mm3_of_the_image(threshold_model, axis_order):
    plan = dataclasses.replace(threshold_model.plan, axis_order=axis_order)
    model = dataclasses.replace(threshold_model, plan=plan)
    image = np.zeros((1, 8, 8, 8), np.float32)
    image[0, 1:4, 1:4, 1:4] = image[0, 6, 6, 6] = 1.0
    rule = Rule("minimum_size_of_each", (1,), {"smallest_mm3": 0.5})
    whole = Predictor(model, CPU, rules=(rule,)).predict_array(image, (1.0, 1.0, 1.0))
    mended = Predictor(model, CPU, rules=(rule,)).predict_array(image, (0.5, 1.0, 0.5))
    assert whole[6, 6, 6] == 3 and mended[6, 6, 6] == 0 and mended[2, 2, 2] == 3


def test_the_rules_of_a_model_may_name_its_classes_and_no_others(tmp_path, threshold_model):
    network = build_network(threshold_model.configuration, 1, 3, torch.Generator().manual_seed(0))
    checkpoint = Checkpoint(network.state_dict(), threshold_model.plan, threshold_model.configuration.name)
    save_checkpoint(tmp_path / "fold_0" / "checkpoint_final.safetensors", checkpoint)
    write_named_rule(tmp_path, "tumour")
    assert load_predictor(tmp_path, CPU).rules == [Rule("largest_component_of_each", (2,))]
    write_named_rule(tmp_path, "spleen")
    with pytest.raises(CheckpointError, match=r"class 'spleen'; expected organ \(1\), tumour \(2\)"):
        load_predictor(tmp_path, CPU)


def write_named_rule(model_dir, name):
    row = {"rule": "largest_component_of_each", "classes": [name]}
    write_json(model_dir / "postprocessing.json", {"version": 1, "rules": [row]})


def test_a_wrong_number_of_channels_is_refused_with_the_expected_ones(threshold_model):
    with pytest.raises(DatasetError, match="2 channels; the model expects 1: MRI"):
        Predictor(threshold_model, CPU).predict_array(np.zeros((2, 4, 4, 4), np.float32), (1.0, 1.0, 1.0))


def test_an_image_without_channel_axis_or_with_infinity_is_refused(threshold_model):
    predictor = Predictor(threshold_model, CPU)
    with pytest.raises(DatasetError, match=r"shape \(4, 4, 4\)"):
        predictor.predict_array(np.zeros((4, 4, 4), np.float32), (1.0, 1.0, 1.0))
    with pytest.raises(DatasetError, match="not finite"):
        predictor.predict_array(np.full((1, 4, 4, 4), np.inf, np.float32), (1.0, 1.0, 1.0))


def test_scores_that_are_not_finite_are_an_error_and_no_background(threshold_model):
    broken = dataclasses.replace(threshold_model, networks=[lambda batch: batch.expand(-1, 3, -1, -1, -1) * torch.nan])
    with pytest.raises(CheckpointError, match="not finite"):
        Predictor(broken, CPU).predict_array(np.ones((1, 8, 8, 8), np.float32), (1.0, 1.0, 1.0))


def test_a_model_folder_gives_the_same_labels_as_its_networks_in_memory(tmp_path, threshold_model):
    plan, configuration = threshold_model.plan, threshold_model.configuration
    networks = [build_network(configuration, 1, 3, torch.Generator().manual_seed(fold)).eval() for fold in range(2)]
    for fold, network in enumerate(networks):
        checkpoint = Checkpoint(network.state_dict(), plan, configuration.name)
        save_checkpoint(tmp_path / f"fold_{fold}" / "checkpoint_final.safetensors", checkpoint)
    write_rules(tmp_path / "postprocessing.json", [ISLANDS])
    model = dataclasses.replace(threshold_model, networks=networks)
    image = np.random.default_rng(0).normal(size=(1, 9, 10, 11)).astype(np.float32)
    expected = Predictor(model, CPU, rules=(ISLANDS,)).predict_array(image, (1.0, 1.0, 1.0))
    loaded = load_predictor(tmp_path, CPU)
    assert len(loaded.model.networks) == 2 and list(loaded.rules) == [ISLANDS]
    np.testing.assert_array_equal(loaded.predict_array(image, (1.0, 1.0, 1.0)), expected)
    assert load_predictor(tmp_path, CPU, folds=["1"], postprocess=False).rules == ()


@pytest.mark.parametrize(("shape", "spacing_mm"), [((30, 12, 14), (0.5, 1.0, 1.0)), ((9, 40, 11), (4.0, 0.5, 1.0))])
@pytest.mark.parametrize("axis_order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_streamed_labels_are_those_of_whole_scores(threshold_model, shape, spacing_mm, axis_order):
    plan = dataclasses.replace(threshold_model.plan, axis_order=axis_order)
    predictor = Predictor(dataclasses.replace(threshold_model, plan=plan), CPU)
    image = np.random.default_rng(0).normal(1, 1, size=(1, *shape)).astype(np.float32)
    prepared = predictor.prepare(image, spacing_mm)
    expected = predictor.label(predictor.score(prepared), prepared)
    found = predictor.segment(prepared)
    assert found.shape == shape and len(np.unique(found)) == 3
    assert np.mean(found == expected) > 0.9995  # the rest are ties to the last bit


def test_a_limit_halves_the_scores_precision_or_is_refused_in_words(threshold_model):
    image = np.random.default_rng(0).normal(1, 1, size=(1, 32, 32, 32)).astype(np.float32)
    exact = Predictor(threshold_model, CPU)
    prepared = exact.prepare(image, (1.0, 1.0, 1.0))
    needs = partial(case_bytes, 3, prepared.image.shape[1:], (8, 8, 8), prepared.shape_after_crop, 256)
    halved = Predictor(threshold_model, CPU, PredictionOptions(max_bytes=needs(2)))
    assert np.mean(halved.segment(prepared) == exact.segment(prepared)) > 0.999
    with pytest.raises(ResourceError, match="half precision"):
        Predictor(threshold_model, CPU, PredictionOptions(max_bytes=needs(2) - 1)).segment(prepared)


def test_a_full_device_is_left_step_by_step_and_the_labels_are_the_same(threshold_model, monkeypatch):
    attempts = []
    predicted = Predictor._predicted

    def of_little_memory(self, window, prepared, placement, *rest):
        attempts.append((placement.device.type, placement.keep_on.type, placement.batch_size))
        if placement.device.type == "cuda":
            raise torch.cuda.OutOfMemoryError("full")
        return predicted(self, window, prepared, placement, *rest)

    monkeypatch.setattr(Predictor, "_predicted", of_little_memory)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    image = blocky_image((11, 14, 17))
    label = Predictor(threshold_model, torch.device("cuda")).predict_array(image, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(label, classes(image[0]))
    assert attempts[0][:2] == ("cuda", "cuda") and ("cuda", "cpu", 1) in attempts and attempts[-1][:2] == ("cpu", "cpu")


def test_memory_that_gives_out_in_the_midst_of_a_case_starts_it_anew(threshold_model, monkeypatch):
    calls = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        calls.append(len(batch))
        if len(calls) == 2:
            raise torch.cuda.OutOfMemoryError("full")
        return threshold_model.networks[0](batch)

    ways = [Placement(CPU, CPU, 4), Placement(CPU, CPU, 2)]
    monkeypatch.setattr("msseg.inference.predictor.placements", lambda *_: ways)
    predictor = Predictor(dataclasses.replace(threshold_model, networks=[network]), CPU)
    image = blocky_image((11, 14, 17))
    np.testing.assert_array_equal(predictor.predict_array(image, (1.0, 1.0, 1.0)), classes(image[0]))
    assert calls[:2] == [4, 4] and set(calls[2:]) == {2}


def test_classes_that_are_seen_nowhere_become_background():
    labels = np.array([[[0, 1, 2, 3]]], np.uint8)
    assert only_seen(labels, torch.tensor([True, False, True])).tolist() == [[[0, 1, 0, 3]]]
    assert only_seen(labels, torch.tensor([True, True, True])) is labels
    assert only_seen(labels, torch.tensor([False, False, False])).dtype == np.uint8


def test_what_memory_the_scores_may_take_is_not_recorded():
    assert PredictionOptions(max_bytes=5).as_record() == PredictionOptions().as_record()


def test_a_real_image_is_labelled_on_its_own_grid(test_data, threshold_model):
    from msseg.data.image import read_image

    folder = test_data / "Task04_Hippocampus" / "imagesTr"
    path = sorted(path for path in folder.glob("*.nii.gz") if not path.name.startswith("."))[0]
    image, geometry = read_image([path])
    configuration = dataclasses.replace(threshold_model.configuration, patch_size=(40, 56, 40))
    channel = dataclasses.replace(threshold_model.plan.channels[0], normalisation="zscore")
    plan = dataclasses.replace(threshold_model.plan, channels=(channel,))
    network = build_network(configuration, 1, 3).eval()
    model = dataclasses.replace(threshold_model, plan=plan, configuration=configuration, networks=[network])
    label = Predictor(model, CPU, PredictionOptions(mirror=False)).predict_array(image, geometry.spacing_mm)
    assert label.shape == geometry.shape and label.dtype == np.uint8
    assert set(np.unique(label)) <= {0, 3, 7} and len(np.unique(label)) > 1
