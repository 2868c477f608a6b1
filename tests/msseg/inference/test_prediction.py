from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from msseg.errors import CheckpointError, ResourceError
from msseg.files import write_json
from msseg.inference.memory import case_bytes
from msseg.inference.prediction import CaseCollectors, Keep, has_one_foreground
from msseg.inference.predictor import PredictionOptions, Predictor, load_predictor
from msseg.inference.score_stream import ScoreStream
from msseg.inference.sliding_window import batch_limit
from msseg.instances.decision import Decision, decision_to_json

CPU = torch.device("cpu")


def noisy_image(shape=(9, 12, 14)) -> np.ndarray:
    """Noise with a rim of zeros, which the crop takes off."""
    image = np.zeros((1, *shape), np.float32)
    image[0, 1:-2, 2:-1, 3:-3] = np.random.default_rng(0).normal(1, 1, size=(shape[0] - 3, shape[1] - 3, shape[2] - 6))
    return image


def of_two(threshold_model):
    """The model of thresholds with its organ alone."""
    plan = dataclasses.replace(threshold_model.plan, labels={"background": 0, "organ": 3}, class_weights=(1.0, 1.0))
    networks = [lambda batch: threshold_model.networks[0](batch)[:, :2]]
    return dataclasses.replace(threshold_model, plan=plan, networks=networks)


@pytest.mark.parametrize("axis_order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (2.0, 0.6, 1.0)])
def test_the_largest_probability_is_the_label_and_outside_the_crop_all_is_background(
    threshold_model, axis_order, spacing_mm
):
    plan = dataclasses.replace(threshold_model.plan, axis_order=axis_order)
    predictor = Predictor(dataclasses.replace(threshold_model, plan=plan), CPU)
    image = noisy_image()
    prepared = predictor.prepare(image, spacing_mm)
    probabilities = predictor.probabilities(prepared)
    assert probabilities.shape == (3, *image.shape[1:]) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-6)
    outside = probabilities[:, image[0] == 0]
    np.testing.assert_array_equal(outside, np.broadcast_to([[1], [0], [0]], outside.shape))
    labels = predictor.label_map.to_values(probabilities.argmax(0))
    np.testing.assert_array_equal(labels, predictor.segment(prepared))


@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.5, 0.9])
def test_a_decision_is_a_threshold_on_the_foregrounds_probability(threshold_model, threshold):
    model, image = of_two(threshold_model), noisy_image()
    predictor = Predictor(model, CPU, decision=Decision(foreground=threshold))
    prepared = predictor.prepare(image, (1.0, 1.5, 1.0))
    expected = np.where(predictor.probabilities(prepared)[1] > threshold, 3, 0)
    np.testing.assert_array_equal(predictor.segment(prepared), expected)
    np.testing.assert_array_equal(predictor.label(predictor.score(prepared), prepared), expected)
    if threshold == 0.5:
        np.testing.assert_array_equal(Predictor(model, CPU).segment(prepared), expected)


def test_probabilities_and_shares_come_with_the_classes_in_one_go(threshold_model):
    predictor = Predictor(of_two(threshold_model), CPU)
    prepared = predictor.prepare(noisy_image(), (1.0, 1.0, 1.0))
    found = predictor.predict(prepared, keep=Keep(probabilities=True, shares=True))
    np.testing.assert_array_equal(found.classes, predictor.classes(prepared))
    np.testing.assert_array_equal(found.probabilities, predictor.probabilities(prepared))
    inside = tuple(slice(start, stop) for start, stop in prepared.crop_box)
    shares = np.clip(np.ceil(found.probabilities[1][inside] * 256) - 1, 0, 255)
    assert np.abs(found.shares - shares).max() <= 1 and np.mean(found.shares == shares) > 0.99
    assert found.nbytes == found.classes.nbytes + found.probabilities.nbytes + found.shares.nbytes
    assert Keep(True, True).bytes_for(2, prepared) == found.probabilities.nbytes + found.shares.nbytes


def test_probabilities_count_as_memory(threshold_model):
    exact = Predictor(threshold_model, CPU)
    prepared = exact.prepare(np.ones((1, 32, 32, 32), np.float32), (1.0, 1.0, 1.0))
    needs = case_bytes(3, prepared.image.shape[1:], (8, 8, 8), prepared.shape_after_crop, batch_limit(CPU, (8, 8, 8)))
    bounded = Predictor(threshold_model, CPU, PredictionOptions(max_bytes=needs))
    bounded.predict(prepared)
    with pytest.raises(ResourceError, match="GB"):
        bounded.predict(prepared, keep=Keep(probabilities=True))


def test_levels_are_one_foreground_and_their_mask_has_the_objects_value(threshold_model):
    levels = {"background": 0, "border": 1, "rim": 2, "core": 3}
    plan = SimpleNamespace(labels=levels, instances=SimpleNamespace(name="nucleus", value=255), regions=())
    prepared = SimpleNamespace(
        shape_after_crop=(1, 1, 4), shape_before_crop=(1, 1, 4), crop_box=((0, 1), (0, 1), (0, 4)), axis_order=(0, 1, 2)
    )
    probabilities = np.array([[0.4, 0.45, 0.55, 0.9], [0.2, 0.3, 0.15, 0], [0.2, 0.2, 0.15, 0.1], [0.2, 0.05, 0.15, 0]])
    scores = torch.from_numpy(np.log(probabilities + 1e-9)[:, None, None].astype(np.float32))
    for threshold, expected in ((None, [1, 1, 0, 0]), (0.3, [1, 1, 1, 0]), (0.57, [1, 0, 0, 0])):
        kept = CaseCollectors(plan, prepared, 0, threshold, Keep())
        ScoreStream(kept.collectors, (1, 1, 4), (1, 1, 4), 1).push(scores)
        assert kept.prediction().classes.ravel().tolist() == expected
    assert has_one_foreground(plan)
    mask = Predictor(dataclasses.replace(threshold_model, plan=plan), CPU).label_map.to_values(np.array([0, 1]))
    assert mask.tolist() == [0, 255] and mask.dtype == np.uint8


def test_classes_that_guidance_has_not_seen_give_their_probability_to_the_background(threshold_model):
    prepared = Predictor(threshold_model, CPU).prepare(np.ones((1, 1, 1, 3), np.float32), (1.0, 1.0, 1.0))
    probabilities = np.array([[0.3, 0.2, 0.1], [0.2, 0.5, 0.4], [0.5, 0.3, 0.5]], np.float32)
    kept = CaseCollectors(threshold_model.plan, prepared, 0, None, Keep(probabilities=True))
    ScoreStream(kept.collectors, (1, 1, 3), (1, 1, 3), 1).push(torch.from_numpy(np.log(probabilities))[:, None, None])
    found = kept.prediction(torch.tensor([True, False]))
    assert found.classes.ravel().tolist() == [0, 1, 0] == found.probabilities.argmax(0).ravel().tolist()
    np.testing.assert_allclose(found.probabilities[:, 0, 0, 1], [0.3 / 0.8, 0.5 / 0.8, 0], rtol=1e-5)
    np.testing.assert_allclose(found.probabilities.sum(0), 1, rtol=1e-6)


def test_a_foreground_seen_nowhere_is_no_foreground(threshold_model):
    model = of_two(threshold_model)
    prepared = Predictor(model, CPU).prepare(np.ones((1, 1, 1, 2), np.float32), (1.0, 1.0, 1.0))
    kept = CaseCollectors(model.plan, prepared, 0, 0.4, Keep(shares=True))
    ScoreStream(kept.collectors, (1, 1, 2), (1, 1, 2), 1).push(torch.tensor([[0.0, 0.0], [3.0, 4.0]])[:, None, None])
    assert kept.prediction(torch.tensor([True])).classes.all()
    found = kept.prediction(torch.tensor([False]))
    assert not found.classes.any() and not found.shares.any()


def test_the_models_decision_is_read_unless_it_is_not_wanted(tmp_path, threshold_model, monkeypatch):
    decision = Decision(foreground=0.3, metric="dice", value=0.9)
    write_json(tmp_path / "decision.json", decision_to_json(decision))
    monkeypatch.setattr("msseg.inference.predictor.load_model", lambda *_: of_two(threshold_model))
    assert load_predictor(tmp_path, CPU).decision == decision
    assert load_predictor(tmp_path, CPU, decide=False).decision is None
    monkeypatch.setattr("msseg.inference.predictor.load_model", lambda *_: threshold_model)
    with pytest.raises(CheckpointError, match="one foreground, but the model has 2 labels"):
        load_predictor(tmp_path, CPU)
