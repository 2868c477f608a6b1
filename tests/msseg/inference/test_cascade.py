"""The second network of a cascade: what it is shown of the first, tile by tile, and the predictor of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from msseg.checkpoint import Checkpoint, save_checkpoint
from msseg.errors import CheckpointError
from msseg.inference.passes import Passes
from msseg.inference.predictor import PredictionOptions, Predictor, load_predictor
from msseg.inference.previous import Previous
from msseg.inference.sliding_window import make_window, predict_logits
from msseg.networks.build import build_network
from msseg.planes import with_planes
from msseg.preprocessing.resample import resample_label
from msseg.previous_model import PreviousModel
from planning.label_pairs import sides_of
from planning.regions import Region

CPU = torch.device("cpu")
# Left and right kidney, and something in the middle.
LABELS = {"background": 0, "kidney_left": 1, "kidney_right": 2, "spine": 5}
PLANES = ((1,), (2,), (3,))


def copies_planes(batch):
    """A network of no weights whose score of a class is its plane; of background ½."""
    planes = batch[:, 1:]
    return torch.cat([torch.full_like(planes[:, :1], 0.5), planes], dim=1)


def ignores_planes(network):
    return lambda batch: network(batch[:, :1])


class Convolution(torch.nn.Module):
    """A network that tells every direction apart, in image and planes."""

    def __init__(self, channels):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv3d(channels, 4, 3, padding=1)

    def forward(self, batch):
        return self.layer(batch)


def some_classes(shape, seed=0, highest=3):
    return np.random.default_rng(seed).integers(0, highest + 1, shape).astype(np.uint8)


def some_image(shape, seed=1):
    return np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)


@pytest.fixture
def paired_plan(make_plan, make_configuration):
    """A plan whose columns run from side to side, with its 3D configuration."""
    return make_plan(
        make_configuration(),
        labels=LABELS,
        class_weights=(1.0,) * 4,
        label_pairs=((1, 2),),
        lateral_axis=2,
        default_configuration="3d",
    )


def test_planes_by_tile_are_those_of_the_whole_image_even_where_it_is_padded(make_configuration):
    network, configuration = Convolution(4), make_configuration(mirror_axes=())
    image, classes = some_image((6, 13, 10)), some_classes((6, 13, 10))
    by_tile = predict_logits([network], image, configuration, 4, CPU, previous=Previous(classes, PLANES))
    at_once = predict_logits([network], with_planes(image, classes, PLANES), configuration, 4, CPU)
    torch.testing.assert_close(by_tile, at_once, rtol=0, atol=0)


def test_what_lies_around_an_image_is_mirrored_in_the_planes_too(make_configuration):
    network, configuration = Convolution(4), make_configuration(mirror_axes=(), image_padding="mirror")
    image, classes = some_image((6, 5, 10)), some_classes((6, 5, 10))
    by_tile = predict_logits([network], image, configuration, 4, CPU, previous=Previous(classes, PLANES))
    at_once = predict_logits([network], with_planes(image, classes, PLANES), configuration, 4, CPU)
    torch.testing.assert_close(by_tile, at_once, rtol=0, atol=0)


def test_a_mirrored_view_is_shown_left_as_right(paired_plan):
    configuration = paired_plan.configurations["3d"]
    sides = sides_of(paired_plan, configuration)
    image, classes = some_image((8, 8, 8)), some_classes((8, 8, 8))
    network = Convolution(4)
    configuration = replace(configuration, mirror_axes=(2,))
    previous = Previous(classes, PLANES, sides)
    found = predict_logits([network], image, configuration, 4, CPU, sides=sides, previous=previous)
    swap = np.array([0, 2, 1, 3])
    turned = with_planes(image[..., ::-1].copy(), swap[classes[..., ::-1]], PLANES)
    with torch.inference_mode():
        plain = network(torch.from_numpy(with_planes(image, classes, PLANES))[None])[0]
        other = network(torch.from_numpy(turned)[None])[0].flip(-1)[[0, 2, 1, 3]]
    torch.testing.assert_close(found, (plain + other) / 2)


@pytest.mark.parametrize("mirror_axes", [(), (0, 1, 2)])
def test_a_network_that_copies_its_planes_gives_back_the_class_map(paired_plan, mirror_axes):
    configuration = replace(paired_plan.configurations["3d"], mirror_axes=mirror_axes)
    sides = sides_of(paired_plan, configuration)
    classes = some_classes((9, 12, 11))
    logits = predict_logits(
        [copies_planes],
        some_image((9, 12, 11)),
        configuration,
        4,
        CPU,
        sides=sides,
        previous=Previous(classes, PLANES, sides),
    )
    np.testing.assert_array_equal(logits.argmax(0).numpy(), classes)


def test_noise_leaves_the_planes_as_they_are(make_configuration):
    classes = some_classes((8, 8, 8))
    logits = predict_logits(
        [copies_planes],
        np.zeros((1, 8, 8, 8), np.float32),
        make_configuration(mirror_axes=()),
        4,
        CPU,
        noise_repeats=3,
        noise_std=9.0,
        previous=Previous(classes, PLANES),
    )
    torch.testing.assert_close(logits[1:], torch.stack([torch.from_numpy(classes == one).float() for one in (1, 2, 3)]))


def test_a_tile_counts_as_constant_only_where_image_and_classes_are(paired_plan):
    configuration = replace(paired_plan.configurations["3d"], mirror_axes=(2,))
    sides = sides_of(paired_plan, configuration)
    classes = np.zeros((8, 8, 40), np.uint8)
    classes[..., 8:16] = 3  # alike from both sides
    classes[..., 16:24] = 1  # shown as right in a mirrored view
    classes[0, 0, 25] = 3
    window = make_window(
        np.zeros((1, 8, 8, 40), np.float32),
        configuration,
        4,
        Passes([copies_planes]),
        step=1.0,
        sides=sides,
        previous=Previous(classes, PLANES, sides),
    )
    assert {corner[2] for corner in window.constants} == {0, 8, 32}
    assert len(set(window.constants.values())) == 2


def cascade_of(model, plan, second, first, spacing_mm, mirror_axes=(0, 1, 2)):
    """The predictor of networks at 1 mm that see what others find at another spacing."""
    low = replace(plan.configurations["3d"], name="3d_lowres", spacing_mm=spacing_mm, mirror_axes=mirror_axes)
    planes = len(plan.planes)
    full = replace(plan.configurations["3d"], name="3d_cascade", previous_stage="3d_lowres", previous_classes=planes)
    plan = replace(plan, configurations={"3d_lowres": low, "3d_cascade": full}, default_configuration="3d_cascade")
    before = Predictor(replace(model, plan=plan, configuration=low, networks=first), CPU)
    whole = replace(model, plan=plan, configuration=replace(full, mirror_axes=mirror_axes), networks=second)
    return Predictor(whole, CPU, previous=before)


def test_a_cascade_that_ignores_the_planes_predicts_as_the_network_alone(threshold_model):
    cascade = cascade_of(
        threshold_model, threshold_model.plan, [ignores_planes(threshold_model.networks[0])], threshold_model.networks,
        (2.0, 2.0, 2.0),
    )  # fmt: skip
    image = np.random.default_rng(0).uniform(0, 2, (1, 14, 12, 19)).astype(np.float32)
    alone = Predictor(threshold_model, CPU)
    for options in (PredictionOptions(), PredictionOptions(mirror=False, step=1.0)):
        found = cascade.with_options(options).predict_array(image, (1.0, 1.0, 1.0))
        np.testing.assert_array_equal(found, alone.with_options(options).predict_array(image, (1.0, 1.0, 1.0)))


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0)])
def test_a_cascade_that_copies_the_planes_gives_the_first_networks_segmentation(threshold_model, spacing_mm):
    cascade = cascade_of(threshold_model, threshold_model.plan, [copies_planes], threshold_model.networks, spacing_mm)
    image = np.zeros((1, 16, 16, 20), np.float32)
    image[0, 2:12, 3:11, 4:15] = 1.0
    image[0, 4:9, 5:9, 6:12] = 2.0
    found = cascade.predict_array(image, (1.0, 1.0, 1.0))
    assert cascade.previous is not None
    np.testing.assert_array_equal(found, cascade.previous.predict_array(image, (1.0, 1.0, 1.0)))
    assert set(np.unique(found)) == {0, 3, 7}


def test_the_first_segmentation_is_brought_to_the_second_grid_as_labels_are(threshold_model):
    cascade = cascade_of(threshold_model, threshold_model.plan, [copies_planes], threshold_model.networks, (2.0,) * 3)
    image = np.random.default_rng(3).uniform(0, 2, (1, 9, 12, 11)).astype(np.float32)
    prepared = cascade.prepare(image, (2.0, 0.5, 0.5))
    assert prepared.previous is not None and cascade.previous is not None
    assert prepared.previous.image.shape == (1, 9, 3, 3) and prepared.image.shape == (1, 18, 6, 6)
    classes = cascade.previous.classes(prepared.previous)
    expected = resample_label(classes, (18, 6, 6), 1, 0)  # slices four times as thick as wide are taken apart
    np.testing.assert_array_equal(cascade.score(prepared).argmax(0).numpy(), expected)


def test_regions_have_a_plane_each(threshold_model):
    regions = (Region("whole", (1, 2), 1), Region("core", (2,), 2))
    plan = replace(threshold_model.plan, regions=regions)

    def of_regions(batch):
        return torch.cat([batch[:, :1] - 0.5, batch[:, :1] - 1.5], dim=1)

    def copies(batch):
        return batch[:, 1:] - 0.5

    cascade = cascade_of(threshold_model, plan, [copies], [of_regions], (1.0,) * 3)
    image = np.zeros((1, 8, 8, 8), np.float32)
    image[0, 1:7, 1:7, 1:7] = 1.0
    image[0, 3:5, 3:5, 3:5] = 2.0
    scores = cascade.score(cascade.prepare(image, (1.0,) * 3))
    assert scores[:, 1, 1, 1].tolist() == [0.5, -0.5] and scores[:, 2, 2, 2].tolist() == [0.5, 0.5]
    np.testing.assert_array_equal(cascade.predict_array(image, (1.0,) * 3), np.choose(image[0].astype(int), [0, 3, 7]))


def test_a_second_network_without_the_first_says_so(threshold_model):
    cascade = cascade_of(threshold_model, threshold_model.plan, [copies_planes], threshold_model.networks, (2.0,) * 3)
    with pytest.raises(CheckpointError, match="3d_cascade: sees 3d_lowres too, which is not loaded"):
        replace(cascade, previous=None).predict_array(np.ones((1, 8, 8, 8), np.float32), (1.0,) * 3)


@pytest.fixture
def folders(tmp_path, make_plan, make_configuration):
    """Folders of a cascade of two folds each, with random weights."""
    low = make_configuration(name="3d_lowres", spacing_mm=(2.0,) * 3)
    full = make_configuration(name="3d_cascade", previous_stage="3d_lowres", previous_classes=1)
    plan = make_plan(low, configurations={"3d_lowres": low, "3d_cascade": full})
    first, second = tmp_path / "models" / "3d_lowres", tmp_path / "models" / "3d_cascade"
    for model, configuration in ((first, low), (second, full)):
        for fold in range(2):
            network = build_network(configuration, 1, 2, torch.Generator().manual_seed(fold))
            metadata = {"identity": {"validation_cases": [f"case_{fold}"]}}
            previous = PreviousModel.of(second, first, ["0", "1"]) if model == second else None
            checkpoint = Checkpoint(network.state_dict(), plan, configuration.name, metadata, previous=previous)
            save_checkpoint(model / f"fold_{fold}" / "checkpoint_final.safetensors", checkpoint)
    return first, second


def test_a_folder_brings_its_first_model_with_all_folds(folders):
    first, second = folders
    predictor = load_predictor(second, CPU, ["1"])
    assert predictor.model.folds == ("1",)
    assert predictor.previous is not None and predictor.previous.model.folds == ("0", "1")
    image = some_image((16, 16, 16))
    alone = load_predictor(first, CPU).predict_array(image, (1.0,) * 3)
    np.testing.assert_array_equal(predictor.previous.predict_array(image, (1.0,) * 3), alone)


def test_out_of_fold_the_first_model_answers_with_the_same_fold(folders):
    predictor = load_predictor(folders[1], CPU, ["1"], out_of_fold=True)
    assert predictor.previous is not None and predictor.previous.model.folds == ("1",)


def test_a_first_model_that_knows_a_case_that_the_second_left_out_is_refused(folders):
    first, second = folders
    (first / "fold_0").rename(first / "fold_x")
    (first / "fold_1").rename(first / "fold_0")
    with pytest.raises(CheckpointError, match=r"3d_lowres: fold 0 was trained on cases that fold 0 of .*3d_cascade"):
        load_predictor(second, CPU, ["0"], out_of_fold=True)


def test_what_there_is_to_know_of_the_first_model_is_said_of_both(folders):
    first, second = folders
    path = first / "fold_0" / "checkpoint_final.safetensors"
    path.rename(path.with_name("checkpoint_latest.safetensors"))
    found = "the model before it: fold 0: training is not finished; its latest weights are used"
    assert load_predictor(second, CPU).notes == (found,)


def test_both_models_can_be_moved_together(folders, tmp_path):
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    assert load_predictor(tmp_path / "elsewhere" / "3d_cascade", CPU).previous is not None


def test_a_first_model_inside_the_folder_comes_before_the_one_beside_it(folders):
    first, second = folders
    first.rename(second / "previous_stage")
    assert load_predictor(second, CPU).previous is not None


def test_a_first_model_that_is_gone_is_named_with_its_place(folders, tmp_path):
    first, second = folders
    first.rename(tmp_path / "lost")
    with pytest.raises(CheckpointError, match=r"whose first model is gone; expected it in .*models/3d_lowres"):
        load_predictor(second, CPU)


def test_a_second_network_of_no_known_first_one_is_refused(folders, tmp_path):
    from msseg.checkpoint import load_checkpoint

    whole = load_checkpoint(folders[1] / "fold_0" / "checkpoint_final.safetensors")
    save_checkpoint(tmp_path / "m" / "fold_0" / "checkpoint_final.safetensors", replace(whole, previous=None))
    with pytest.raises(CheckpointError, match="does not say which model its cascade begins with"):
        load_predictor(tmp_path / "m", CPU)


def test_a_first_model_of_other_labels_is_refused(folders):
    from msseg.checkpoint import load_checkpoint

    path = folders[0] / "fold_0" / "checkpoint_final.safetensors"
    for fold in range(2):
        path = folders[0] / f"fold_{fold}" / "checkpoint_final.safetensors"
        one = load_checkpoint(path)
        save_checkpoint(path, replace(one, plan=replace(one.plan, labels={"background": 0, "other": 1})))
    with pytest.raises(CheckpointError, match="other labels or channels than"):
        load_predictor(folders[1], CPU)
