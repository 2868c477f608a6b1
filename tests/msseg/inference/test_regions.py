"""Regions through the predictor: painted by hand on arrays small enough to see, and by nnU-Net's rule on noise."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from msseg.checkpoint import Model
from msseg.data.geometry import Geometry
from msseg.errors import CheckpointError, DatasetError, MssegError
from msseg.files import write_json
from msseg.inference.answers import answering, log_odds_of_mean
from msseg.inference.averaging import classes_of, read_mean
from msseg.inference.collectors import LargestClass, Painted, RegionProbabilities
from msseg.inference.prediction import Keep, has_one_foreground, takes_threshold
from msseg.inference.predictor import PredictionOptions, Predictor, load_predictor
from msseg.inference.probability_files import read_stored, write_probabilities
from msseg.inference.score_stream import ScoreStream
from msseg.instances.decision import Decision, decision_to_json
from msseg.networks.build import build_network
from msseg.pipeline.prediction import OutputWish
from planning.regions import Region

CPU = torch.device("cpu")
# Oedema (2) around a core (1) that holds an enhancing part (3), painted from outside in.
WHOLE, CORE, ENHANCING = Region("whole", (1, 2, 3), 2), Region("core", (1, 3), 1), Region("enhancing", (3,), 3)
REGIONS = (WHOLE, CORE, ENHANCING)
LABELS = {"background": 0, "necrotic": 1, "oedema": 2, "enhancing": 4}
GRID = Geometry((1, 1, 4), (1.0, 1.0, 1.0))


def in_steps(scores: torch.Tensor, collectors, new_shape, axis: int) -> None:
    stream = ScoreStream(collectors, tuple(scores.shape[1:]), new_shape, 1, axis=axis)
    for rows in scores.movedim(1 + axis, 1).split(2, dim=1):
        stream.push(rows)
    assert stream.is_done


def test_regions_are_painted_one_over_the_other_where_their_score_is_above_0():
    #      nothing, a tie, whole, core and whole, core without whole, all, enhancing alone, all but core
    whole, core = [-1, 0, 2, 1, -3, 1, -1, 4], [-1, 0, -2, 1, 0.5, 2, -1, -1]
    enhancing = [-1, 0, -1, -0.1, -2, 0.1, 3, 9]
    scores = torch.tensor([whole, core, enhancing], dtype=torch.float32)[:, None, None]
    painted = Painted(REGIONS, (1, 1, 8))
    in_steps(scores, [painted], (1, 1, 8), 0)
    assert painted.labels().ravel().tolist() == [0, 0, 2, 1, 1, 3, 3, 3]
    other_order = Painted((ENHANCING, CORE, WHOLE), (1, 1, 8))
    in_steps(scores.flip(0), [other_order], (1, 1, 8), 0)
    assert other_order.labels().ravel().tolist() == [0, 0, 2, 2, 1, 2, 3, 2]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("new_shape", [(5, 7, 9), (9, 4, 13)])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_interpolated_scores_are_painted_by_nnunets_rule(axis, new_shape, threshold):
    scores = torch.randn((3, 5, 7, 9), generator=torch.Generator().manual_seed(axis)) * 3
    room = np.zeros((3, *new_shape), np.float32)
    painted = Painted(REGIONS, new_shape, axis, threshold)
    in_steps(scores, [painted, RegionProbabilities(room, axis)], new_shape, axis)
    between = torch.nn.functional.interpolate(scores[None].double(), size=new_shape, mode="trilinear")[0]
    expected = between.sigmoid().numpy()
    np.testing.assert_allclose(room, expected, atol=2e-6)
    label = np.zeros(new_shape, np.uint8)
    for probability, region in zip(expected, REGIONS, strict=True):
        label[probability > threshold] = region.painted
    is_sure = (np.abs(expected - threshold) > 1e-6).all(0)
    np.testing.assert_array_equal(painted.labels()[is_sure], label[is_sure])
    np.testing.assert_array_equal(classes_of(room, None, threshold, REGIONS)[is_sure], label[is_sure])


def test_labels_beyond_a_byte_are_painted_in_two():
    far = Painted((Region("far", (1, 300), 300),), (1, 1, 2))
    in_steps(torch.tensor([[[[1.0, -1.0]]]]), [far], (1, 1, 2), 0)
    assert far.labels().dtype == np.uint16 and far.labels().ravel().tolist() == [300, 0]


def test_branches_are_averaged_in_the_sigmoid_of_each_region():
    def logits(*probabilities: float) -> torch.Tensor:
        return torch.tensor([[math.log(p / (1 - p)) for p in probabilities]])

    found = log_odds_of_mean([logits(0.9, 0.2), logits(0.4, 0.1)])
    torch.testing.assert_close(found.sigmoid(), torch.tensor([[0.65, 0.15]]))
    assert log_odds_of_mean([torch.tensor([[3.0, 5.0]])]).tolist() == [[3.0, 5.0]]
    certain = log_odds_of_mean([torch.tensor([[1e4, -1e4]])] * 2)
    assert certain.tolist() == [[1e4, -1e4]]


def test_a_network_of_several_branches_answers_for_regions_by_their_mean_sigmoid(make_configuration):
    nested = make_configuration(
        (8, 8),
        network="unet2p",
        features=(2, 4, 8),
        strides=((2, 2),) * 2,
        kernel_sizes=((3, 3),) * 3,
        encoder_convolutions=(1,) * 3,
        decoder_convolutions=(1,) * 2,
        supervision_weights=(0.5, 0.5),
    )
    network = build_network(nested, 1, 3, torch.Generator().manual_seed(0)).eval()
    batch = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        outputs = network(batch).logits
        expected = (outputs[0].sigmoid() + outputs[1].sigmoid()) / 2
        torch.testing.assert_close(answering(network, regions=True)(batch).logits.sigmoid(), expected)
        torch.testing.assert_close(answering(network, "fast", regions=True)(batch).logits, outputs[0])
        assert not torch.allclose(answering(network)(batch).logits.softmax(1), expected)


def by_brightness(batch: torch.Tensor) -> torch.Tensor:
    """A network of no weights: whole above 0.5, core above 1.5, enhancing above 2.5."""
    value = batch[:, :1]
    return torch.cat([4 * (value - 0.5), 4 * (value - 1.5), 4 * (value - 2.5)], dim=1)


@pytest.fixture
def model(make_plan, threshold_model) -> Model:
    plan = dataclasses.replace(threshold_model.plan, labels=LABELS, class_weights=(1.0,) * 4, regions=REGIONS)
    return Model(plan, threshold_model.configuration, [by_brightness], folds=("0",))


@pytest.mark.parametrize("axis_order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (2.0, 0.6, 1.0)])
def test_probabilities_and_labels_of_a_case_agree_and_are_nothing_outside_the_crop(model, axis_order, spacing_mm):
    predictor = Predictor(dataclasses.replace(model, plan=dataclasses.replace(model.plan, axis_order=axis_order)), CPU)
    image = np.zeros((1, 9, 12, 14), np.float32)
    image[0, 1:-2, 2:-1, 3:-3] = np.random.default_rng(0).normal(1.5, 1, size=(6, 9, 8))
    prepared = predictor.prepare(image, spacing_mm)
    probabilities = predictor.probabilities(prepared)
    assert probabilities.shape == (3, *image.shape[1:]) and not probabilities[:, image[0] == 0].any()
    assert (probabilities.sum(0) > 1.5).any(), "regions overlap"
    is_sure = (np.abs(probabilities - 0.5) > 1e-6).all(0)
    expected = predictor.label_map.to_values(classes_of(probabilities, regions=REGIONS))
    np.testing.assert_array_equal(predictor.segment(prepared)[is_sure], expected[is_sure])
    np.testing.assert_array_equal(predictor.label(predictor.score(prepared), prepared), predictor.segment(prepared))
    assert set(np.unique(expected)) == {0, 1, 2, 4}
    assert Keep(probabilities=True).bytes_for(model.plan.outputs, prepared) == probabilities.nbytes


def test_folds_and_mirrors_are_averaged_in_the_scores_as_those_of_classes(model):
    folds = [by_brightness, lambda batch: by_brightness(batch) + 1]
    predictor = Predictor(dataclasses.replace(model, networks=folds), CPU, PredictionOptions(mirror=True))
    prepared = predictor.prepare(np.random.default_rng(0).random((1, 8, 8, 8)).astype(np.float32), (1.0, 1.0, 1.0))
    wanted = by_brightness(torch.from_numpy(prepared.image)[None])[0] + 0.5
    torch.testing.assert_close(predictor.score(prepared), wanted, atol=1e-5, rtol=0)


def test_a_mirror_from_side_to_side_swaps_the_regions_not_the_classes(model):
    """Classes: a tumour (1), left (2) and right (3); regions: right, both sides with the tumour, left: as scored."""
    regions = (Region("right", (3,), 3), Region("all", (1, 2, 3), 1), Region("left", (2,), 2))

    def by_side(batch: torch.Tensor) -> torch.Tensor:
        """Left of the tile's middle all is left, beyond it right, and the whole is one."""
        left = torch.zeros(batch.shape[-1])
        left[: batch.shape[-1] // 2] = 1
        shown = batch[:, :1]
        return torch.cat([shown * (1 - left), shown, shown * left], dim=1) - 0.25

    plan = dataclasses.replace(model.plan, regions=regions, label_pairs=((2, 3),), lateral_axis=2)
    sided = Predictor(dataclasses.replace(model, plan=plan, networks=[by_side]), CPU)
    prepared = sided.prepare(np.random.default_rng(0).random((1, 8, 8, 8)).astype(np.float32), (1.0, 1.0, 1.0))
    once = dataclasses.replace(sided, options=PredictionOptions(mirror=False))
    torch.testing.assert_close(sided.score(prepared), once.score(prepared), atol=1e-6, rtol=0)
    np.testing.assert_array_equal(sided.segment(prepared), once.segment(prepared))
    unpaired = dataclasses.replace(model, plan=dataclasses.replace(plan, label_pairs=()), networks=[by_side])
    confused = Predictor(unpaired, CPU).score(prepared)
    torch.testing.assert_close(confused[0], confused[2], atol=1e-6, rtol=0)


def test_a_threshold_is_for_one_foreground_or_for_regions_and_objects_are_not(model, threshold_model):
    assert takes_threshold(model.plan) and not has_one_foreground(model.plan)
    image = np.full((1, 1, 1, 4), 0.0, np.float32)
    image.ravel()[:] = [0.3, 0.7, 1.4, 2.9]
    wish = OutputWish(threshold=0.2)
    predictor = wish.applied_to(Predictor(model, CPU))
    assert predictor.decision == Decision(foreground=0.2)
    assert predictor.predict_array(image, None).ravel().tolist() == [2, 2, 1, 4], "above 0.5 - ln(4) / 4 and so on"
    assert Predictor(model, CPU).predict_array(image, None).ravel().tolist() == [0, 2, 2, 4]
    with pytest.raises(MssegError, match="a threshold of a model of 2 labels; expected one of a single label, or of"):
        wish.applied_to(Predictor(threshold_model, CPU))
    with pytest.raises(MssegError, match="objects of a model of 3 labels; expected one of a single label"):
        OutputWish(instances=True).applied_to(Predictor(model, CPU))


def test_a_region_of_the_one_label_is_no_foreground_of_two_classes(model):
    plan = dataclasses.replace(
        model.plan, labels={"background": 0, "a": 1}, class_weights=(1.0, 1.0), regions=(Region("a", (1,), 1),)
    )
    assert not has_one_foreground(plan) and plan.outputs == 1
    alone = Predictor(dataclasses.replace(model, plan=plan, networks=[lambda batch: batch - 1]), CPU)
    assert alone.predict_array(np.array([[[[0.5, 1.5]]]], np.float32), None).ravel().tolist() == [0, 1]


def test_a_decision_beside_a_model_of_regions_is_refused(tmp_path, model, monkeypatch):
    write_json(tmp_path / "decision.json", decision_to_json(Decision(foreground=0.3, metric="dice", value=0.9)))
    monkeypatch.setattr("msseg.inference.predictor.load_model", lambda *_: model)
    with pytest.raises(CheckpointError, match="one foreground"):
        load_predictor(tmp_path, CPU)


@pytest.fixture
def write(tmp_path):
    def written(name, rows, bits=16, regions=REGIONS):
        values = np.array(rows, np.float32)[:, None, None]
        write_probabilities(tmp_path / name, values, GRID, LABELS, bits, regions=regions)
        return tmp_path / name

    return written


FIRST = [[0.9, 0.2, 0.8, 0.1], [0.6, 0.2, 0.1, 0.9], [0.2, 0.2, 0.3, 0.8]]
SECOND = [[0.7, 0.3, 0.6, 0.1], [0.3, 0.9, 0.2, 0.7], [0.7, 0.1, 0.9, 0.9]]


def test_files_say_which_regions_their_probabilities_are_of(write):
    path = write("a.npz", FIRST)
    stored = read_stored(path)
    assert stored.regions == REGIONS and stored.labels == LABELS
    with np.load(path, allow_pickle=False) as archive:
        header = str(archive["header"])
    assert '"version": 2' in header and '"regions": [{"name": "whole", "classes": [1, 2, 3], "painted": 2}' in header


def test_the_mean_of_models_is_painted_after_it_is_taken(write):
    mean = read_mean([write("a.npz", FIRST), write("b.npz", SECOND)])
    np.testing.assert_allclose(mean.probabilities()[:, 0, 0], (np.array(FIRST) + np.array(SECOND)) / 2, atol=2e-5)
    # Means: whole .8 .25 .7 .1, core .45 .55 .15 .8, enhancing .45 .15 .6 .85.
    assert mean.classes()[0, 0].tolist() == [2, 1, 3, 3]
    assert mean.classes(0.75)[0, 0].tolist() == [2, 0, 0, 3]


def test_doubtful_are_voxels_of_which_rounding_could_turn_a_region(write):
    near = 0.5 + 0.4 / 255
    rows = [[0.9, near, 0.5 + 2 / 255, 0.1], [0.9, 0.9, 0.9, 0.1], [0.1, 0.1, 0.1, near]]
    mean = read_mean([write("a.npz", rows, bits=8)])
    assert mean.doubtful() == 2
    assert mean.doubtful(0.1) == 4


def test_models_of_regions_and_of_classes_are_not_averaged(write):
    classes = write("b.npz", [[0.25] * 4] * 4, regions=())
    with pytest.raises(DatasetError, match="regions"):
        read_mean([write("a.npz", FIRST), classes])


def test_probabilities_of_another_number_than_the_regions_are_refused(write):
    with pytest.raises(ValueError, match="regions whole, core, enhancing for 4"):
        write("a.npz", [[0.25] * 4] * 4)


def test_one_class_is_collected_as_before_where_there_are_no_regions(threshold_model):
    predictor = Predictor(threshold_model, CPU)
    prepared = predictor.prepare(np.random.default_rng(0).random((1, 4, 8, 8)).astype(np.float32) * 2, None)
    scores, largest = predictor.score(prepared), LargestClass(3, (4, 8, 8))
    in_steps(scores, [largest], (4, 8, 8), 0)
    np.testing.assert_array_equal(predictor.classes(prepared), largest.labels())
