from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from msseg.checkpoint import Model
from msseg.inference.answers import (
    Answer,
    answering,
    log_mean_probability,
    main_output,
    mean_presence,
    rule_out,
    seen,
)
from msseg.inference.predictor import PredictionOptions, Predictor
from msseg.inference.sliding_window import batch_limit, predict_logits
from msseg.networks.build import build_network
from msseg.networks.grid_network import GridNetwork
from planning.plan import Configuration

CPU = torch.device("cpu")


class Guided:
    """A network of two branches and one guide: a tile has the organ where its largest value reaches a threshold.

    The main branch answers `value - 0.5`, the other 0 everywhere.
    """

    branches = ("main", "other")
    guides = ("one",)

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.asked: list[tuple[str, ...]] = []

    def branch_outputs(self, batch: torch.Tensor, nodes: tuple[str, ...]) -> SimpleNamespace:
        self.asked.append(tuple(nodes))
        zero = torch.zeros_like(batch)
        logits = {"main": torch.cat((zero, batch - 0.5), 1), "other": torch.cat((zero, zero), 1)}
        certainty = 10 * (batch.flatten(1).amax(1) - self.threshold)
        presence = torch.stack((torch.zeros_like(certainty), certainty), dim=-1)[:, None]
        return SimpleNamespace(logits=[logits[node] for node in nodes], presence=[presence])

    def main_output(self, batch: torch.Tensor) -> torch.Tensor:
        return self.branch_outputs(batch, ("main",)).logits[0]


@pytest.fixture
def branched(make_configuration: Callable[..., Configuration]) -> Callable[..., Configuration]:
    """Makes a UNet# of three levels on 8 × 8 or 8 × 8 × 8, unguided unless options say so."""

    def make(dimensions: int = 2, **options: str) -> Configuration:
        return make_configuration(
            (8,) * dimensions,
            network="unet_sharp",
            features=(4, 8, 16),
            strides=((2,) * dimensions,) * 2,
            kernel_sizes=((3,) * dimensions,) * 3,
            supervision_weights=(0.25,) * 4,
            network_options=options,
        )

    return make


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_branches_are_averaged_in_probability():
    sure, unsure = torch.tensor([[0.0, logit(0.9)]]), torch.tensor([[1.0, 1.0 + logit(0.4)]])
    found = log_mean_probability([sure, unsure])
    torch.testing.assert_close(found.softmax(1), torch.tensor([[0.35, 0.65]]))
    torch.testing.assert_close(found.exp(), torch.tensor([[0.35, 0.65]]))


def test_branches_that_are_certain_stay_finite():
    found = log_mean_probability([torch.tensor([[0.0, 1e4]]), torch.tensor([[0.0, 1e4]])])
    assert found.tolist() == [[-1e4, 0.0]]


def test_a_single_branch_keeps_its_logits():
    assert log_mean_probability([torch.tensor([[3.0, 5.0]])]).tolist() == [[3.0, 5.0]]


def test_accurate_is_the_mean_softmax_of_the_full_resolution_branches_and_fast_the_main_one(branched):
    network = build_network(branched(), 1, 3, torch.Generator().manual_seed(0)).eval()
    batch = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        outputs = network(batch).logits
        expected = (outputs[0].softmax(1) + outputs[1].softmax(1)) / 2
        torch.testing.assert_close(answering(network)(batch).logits.exp(), expected)
        torch.testing.assert_close(answering(network, "fast")(batch).logits, outputs[0])


def test_fast_and_unguided_compute_the_main_output_alone(branched, monkeypatch):
    network = build_network(branched(guidance="branches"), 1, 2).eval()

    def refuse(self, batch, nodes):
        raise AssertionError("asks several branches")

    monkeypatch.setattr(GridNetwork, "branch_outputs", refuse)
    assert answering(network, "fast", guidance=False)(torch.zeros(1, 1, 8, 8)).presence is None


def test_a_network_of_one_branch_is_asked_for_its_main_output(make_configuration):
    network = build_network(make_configuration(), 1, 2).eval()
    network.branch_outputs = None
    assert answering(network)(torch.zeros(1, 1, 8, 8, 8)).presence is None


def test_a_network_that_knows_its_main_output_is_asked_for_that():
    class Supervised(torch.nn.Module):
        def forward(self, batch):
            raise AssertionError("computes every head")

        def main_output(self, batch):
            return batch + 1

    assert main_output(Supervised())(torch.zeros(1)).item() == 1


def test_another_mode_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'slow', expected one of accurate, fast"):
        answering(Guided(0), "slow")


def test_presence_is_the_mean_over_the_guides_of_the_second_answers_probability():
    guides = [torch.tensor([[[0.0, logit(p)], [1.0, 1.0 + logit(q)]]]) for p, q in ((0.9, 0.2), (0.5, 0.4))]
    torch.testing.assert_close(mean_presence(guides), torch.tensor([[0.7, 0.3]]))


def test_a_class_is_seen_where_one_tile_sees_it():
    tiles = torch.tensor([[0.1, 0.4, 0.5], [0.9, 0.4, 0.0]])
    assert seen(tiles).tolist() == [True, False, True]


def test_voxels_of_a_class_that_is_ruled_out_become_background_and_others_keep_theirs():
    scores = torch.tensor([[0.0, 0.0, 5.0, 1.0], [9.0, 2.0, 1.0, 0.0], [3.0, 3.0, 1.0, 0.0]])
    assert scores.argmax(0).tolist() == [1, 2, 0, 0]
    rule_out(scores, torch.tensor([False, True]))
    assert scores.argmax(0).tolist() == [0, 2, 0, 0]
    assert torch.isfinite(scores).all()
    assert scores.softmax(0)[1].tolist() == [0.0] * 4


def test_nothing_changes_where_every_class_is_seen_and_all_is_background_where_none_is():
    scores = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0))
    kept = scores.clone()
    rule_out(scores, torch.tensor([True, True]))
    assert torch.equal(scores, kept)
    rule_out(scores, torch.tensor([False, False]))
    assert not scores.argmax(0).any()


def test_answers_add_up_and_unguided_ones_say_nothing_of_presence():
    one, two = Answer(torch.tensor(1.0), torch.tensor(0.25)), Answer(torch.tensor(2.0))
    assert (one + two) == (3.0, 0.25) and (two + one) == (3.0, 0.25)
    assert (two + two).presence is None


def test_one_tile_that_sees_a_class_keeps_it_in_the_whole_image(make_configuration):
    image = np.full((1, 2, 2, 8), 0.6, np.float32)  # every voxel is taken for the organ
    image[..., 0] = 1.0
    setup = make_configuration((2, 2, 4), mirror_axes=(2,))
    logits = predict_logits([Guided(0.9)], image, setup, 2, CPU)
    assert logits.argmax(0).all()
    assert not predict_logits([Guided(1.1)], image, setup, 2, CPU).argmax(0).any()
    assert predict_logits([Guided(1.1)], image, setup, 2, CPU, guidance=False).argmax(0).all()


def test_slices_of_a_volume_are_tiles_of_one_case(make_configuration):
    image = np.full((1, 3, 4, 4), 0.6, np.float32)
    image[0, 1, 2, 2] = 1.0
    setup = make_configuration((4, 4), mirror_axes=())
    assert predict_logits([Guided(0.9)], image, setup, 2, CPU).argmax(0).all()


@pytest.mark.parametrize(("thresholds", "kept"), [((0.4, 0.7), True), ((0.5, 0.8), False), ((0.5, 0.8, None), False)])
def test_folds_decide_together_by_their_mean_probability(make_configuration, thresholds, kept):
    """At 0.6: sigmoid(2) and sigmoid(-1) have mean 0.57, sigmoid(1) and sigmoid(-2) 0.43; unguided ones have no say."""
    image = np.full((1, 4, 4, 4), 0.6, np.float32)
    networks = [Guided(each) if each is not None else Guided(0.0).main_output for each in thresholds]
    logits = predict_logits(networks, image, make_configuration((4, 4, 4), mirror_axes=()), 2, CPU)
    assert bool(logits.argmax(0).any()) is kept


def test_views_decide_together(make_configuration):
    class OfOneSide(Guided):
        """Sees the organ by the first voxel alone: in one of two mirrored views."""

        def branch_outputs(self, batch, nodes):
            first = batch[..., 0].flatten(1).amax(1)
            outputs = super().branch_outputs(batch, nodes)
            certainty = torch.where(first > self.threshold, self.surest, -2.0)
            outputs.presence = [torch.stack((torch.zeros_like(certainty), certainty), dim=-1)[:, None]]
            return outputs

    image = np.full((1, 2, 2, 4), 0.6, np.float32)
    image[..., 0] = 1.0
    for surest, kept in (
        (3.0, True),
        (1.0, False),
    ):  # sigmoid(-2) is 0.12; with 0.95 the mean is over 1/2, with 0.73 under
        network = OfOneSide(0.9)
        network.surest = surest
        logits = predict_logits([network], image, make_configuration((2, 2, 4), mirror_axes=(2,)), 2, CPU)
        assert bool(logits.argmax(0).any()) is kept


def test_logits_and_presence_come_from_one_pass_a_batch(make_configuration):
    network = Guided(0.9)
    image = np.zeros((1, 64, 64, 64), np.float32)
    passes = []
    setup = make_configuration((64, 64, 64), mirror_axes=(0,))
    predict_logits([network], image, setup, 2, CPU, on_batch=lambda done, total: passes.append(done))
    assert network.asked == [("main", "other")] * len(passes)
    network.asked.clear()
    predict_logits([network], image, setup, 2, CPU, branches="fast")
    assert set(network.asked) == {("main",)}


def test_the_result_does_not_depend_on_how_tiles_share_batches(make_configuration, monkeypatch):
    image = np.random.default_rng(0).normal(size=(1, 8, 4, 9)).astype(np.float32)
    results, batches = [], set()
    setup = make_configuration((4, 4, 4), mirror_axes=(0, 2))
    for voxels in (1, 200, 1 << 20):
        monkeypatch.setattr("msseg.inference.memory.CPU_VOXELS_AT_ONCE", voxels)
        batches.add(batch_limit(CPU, (4, 4, 4)))
        results.append(predict_logits([Guided(1.5), Guided(2.0)], image, setup, 2, CPU).numpy())
    assert len(batches) == 3
    np.testing.assert_allclose(results[1], results[0], atol=1e-5)
    np.testing.assert_allclose(results[2], results[0], atol=1e-5)


@pytest.mark.parametrize("guidance", ["branches", "bottleneck"])
@pytest.mark.parametrize("bias", [-50.0, 50.0])
def test_a_guided_model_predicts_through_the_whole_line(threshold_model: Model, branched, guidance, bias):
    """Guides that are sure: all is background where they see nothing, and as without them where they see all."""
    configuration = branched(3, guidance=guidance)
    network = build_network(configuration, 1, 3, torch.Generator().manual_seed(0)).eval()
    for guide in network.guides.values():
        last = guide.convolution if guidance == "bottleneck" else guide.layers[-1]
        torch.nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([0.0, bias, 0.0, bias]))
    model = dataclasses.replace(threshold_model, configuration=configuration, networks=[network])
    image = np.random.default_rng(0).normal(1, 1, size=(1, 9, 10, 11)).astype(np.float32)
    found = Predictor(model, CPU).predict_array(image, (1.0, 1.0, 1.0))
    unguided = Predictor(model, CPU, PredictionOptions(guidance=False)).predict_array(image, (1.0, 1.0, 1.0))
    assert found.dtype == np.uint8 and found.shape == (9, 10, 11) and unguided.any()
    np.testing.assert_array_equal(found, unguided if bias > 0 else np.zeros_like(unguided))
