"""A miniature nnU-Net model in, a model folder out: the same logits, whole or not at all."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msseg.checkpoint import load_checkpoint, load_model
from msseg.commands.import_nnunet import main
from msseg.errors import CheckpointError
from msseg.inference.predictor import PredictionOptions, load_predictor
from msseg.pipeline.import_nnunet import import_nnunet, take_over

_BESIDE = Path(__file__).parents[1] / "nnunet" / "conftest.py"


@pytest.fixture
def miniatures() -> Any:
    """The module of miniature models of the neighbouring room."""
    spec = importlib.util.spec_from_file_location("miniature_models", _BESIDE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_model(tmp_path: Path, miniatures: Any) -> Callable[..., Any]:
    """Makes a miniature model in the folder `theirs`."""
    return lambda residual=False, dimensions=3, **changes: miniatures.MiniatureModel(
        tmp_path / "theirs", residual, dimensions, **changes
    )


VARIANTS = [
    (False, 3, {}),
    (False, 2, {}),
    (True, 3, {}),
    (True, 2, {}),
    (False, 3, {"norm": "BatchNorm", "conv_bias": False}),
    (True, 3, {"strides": [[1, 1, 1], [1, 1, 1], [2, 2, 2]], "features_per_stage": [4, 4, 8]}),
]


@pytest.mark.parametrize(("residual", "dimensions", "changes"), VARIANTS)
def test_the_taken_over_network_gives_the_same_logits_on_every_level(
    residual: bool, dimensions: int, changes: dict[str, Any], make_model: Callable[..., Any], tmp_path: Path
):
    model = make_model(residual, dimensions, **changes)
    network = load_model(import_nnunet(model.write(), tmp_path / "ours")).networks[0]
    image = torch.randn((1, 2, *(8, 16, 16)[-dimensions:]), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs, ours = model.network(image), network(image).logits
    for one, other in zip(theirs, ours, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(one.abs().max()))


def test_the_taken_over_model_predicts_an_image(make_model: Callable[..., Any], tmp_path: Path):
    ours = import_nnunet(make_model().write(), tmp_path / "ours")
    image = np.random.default_rng(0).normal(100, 30, (2, 10, 12, 9)).astype(np.float32)
    label = load_predictor(ours, torch.device("cpu")).predict_array(image, (1.0, 3.0, 0.5))
    assert label.shape == (10, 12, 9)
    assert set(np.unique(label)) <= {0, 1, 2}


REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


@pytest.mark.parametrize("order", [[1, 2, 3], [3, 2, 3]])
def test_a_model_of_regions_gives_the_same_logits_and_paints_as_nnunet_does(
    order: list[int], make_model: Callable[..., Any], tmp_path: Path
):
    model = make_model()
    model.dataset.update(labels=REGIONS, regions_class_order=order)
    predictor = load_predictor(import_nnunet(model.write(), tmp_path / "ours"), torch.device("cpu"))
    shown = torch.randn((1, 2, 8, 16, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(predictor.model.networks[0](shown).logits[0], model.network(shown)[0])
    image = np.random.default_rng(0).normal(100, 30, (2, 10, 12, 9)).astype(np.float32)
    prepared = predictor.prepare(image, (1.0, 3.0, 0.5))
    assert prepared.image.shape[1:] == prepared.shape_after_crop, "no resampling: the scores lie on the label's grid"
    probabilities = predictor.score(prepared).sigmoid().numpy()
    expected = np.zeros(probabilities.shape[1:], int)
    for probability, painted in zip(probabilities, order, strict=True):
        expected[probability > 0.5] = painted
    label = predictor.segment(prepared)
    np.testing.assert_array_equal(label, expected.transpose(np.argsort(prepared.axis_order)))
    assert len(np.unique(label)) == 1 + len(set(order))


def test_folds_are_taken_together_and_say_where_they_are_from(make_model: Callable[..., Any], tmp_path: Path):
    model = make_model()
    for fold in ("0", "3", "all"):
        model.write(fold)
    report = take_over(model.folder, tmp_path / "ours")
    assert report.folds == ("0", "3"), "fold_all is not one of a cross-validation"
    origin = load_checkpoint(tmp_path / "ours/fold_3/checkpoint_final.safetensors").metadata["imported"]
    assert (origin["trainer"], origin["epochs"], origin["checkpoint"]) == ("nnUNetTrainer", 7, "checkpoint_final.pth")
    assert take_over(model.folder, tmp_path / "ours", folds=["all"]).folds == ("all",)
    assert load_model(tmp_path / "ours").folds == ("all",)


def test_fold_all_alone_is_taken(make_model: Callable[..., Any], tmp_path: Path):
    assert take_over(make_model().write("all"), tmp_path / "ours").folds == ("all",)


def test_the_best_checkpoint_is_taken_on_request(make_model: Callable[..., Any], tmp_path: Path):
    folder = make_model().write(kind="best")
    with pytest.raises(CheckpointError, match="--checkpoint"):
        import_nnunet(folder, tmp_path / "ours")
    assert load_model(import_nnunet(folder, tmp_path / "ours", checkpoint="best")).folds == ("0",)
    with pytest.raises(CheckpointError, match="final, best"):
        import_nnunet(folder, tmp_path / "ours", checkpoint="latest")


def test_a_fold_that_is_not_there_is_named(make_model: Callable[..., Any], tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"fold_4/checkpoint_final\.pth is not there"):
        import_nnunet(make_model().write(), tmp_path / "ours", folds=[0, 4])
    assert not (tmp_path / "ours").exists()


def test_a_results_folder_is_answered_with_its_models(make_model: Callable[..., Any], tmp_path: Path):
    make_model().write()
    with pytest.raises(CheckpointError, match="Name one of its models: theirs"):
        import_nnunet(tmp_path, tmp_path / "ours")
    with pytest.raises(CheckpointError, match=r"no plans\.json"):
        import_nnunet(tmp_path / "theirs" / "fold_0", tmp_path / "ours")


def test_folds_of_two_configurations_are_not_mixed(make_model: Callable[..., Any], tmp_path: Path):
    model = make_model()
    model.write("0")
    model.checkpoint["init_args"]["configuration"] = "2d"
    with pytest.raises(CheckpointError, match="one by one"):
        import_nnunet(model.write("1"), tmp_path / "ours")


def test_a_network_that_the_plan_does_not_describe_is_refused_by_its_tensors(
    make_model: Callable[..., Any], tmp_path: Path
):
    model = make_model()
    weights = dict(model.network.state_dict())
    weights["decoder.attention.weight"] = weights.pop("decoder.seg_layers.0.weight")
    model.checkpoint["network_weights"] = weights
    with pytest.raises(CheckpointError) as error:
        import_nnunet(model.write(), tmp_path / "ours")
    assert "decoder.seg_layers.0.weight" in str(error.value)
    assert "decoder.attention.weight" in str(error.value)


def test_a_tensor_of_another_shape_is_named(make_model: Callable[..., Any], tmp_path: Path):
    model = make_model()
    model.dataset["labels"] = {"background": 0, "kidney": 1}
    with pytest.raises(CheckpointError, match=r"seg_layers.*found shape \[3, .*expected \[2, "):
        import_nnunet(model.write(), tmp_path / "ours")


def test_an_earlier_import_is_replaced_and_anything_else_is_not(make_model: Callable[..., Any], tmp_path: Path):
    model, ours = make_model(), tmp_path / "ours"
    import_nnunet(model.write(), ours)
    import_nnunet(model.write("1"), ours, folds=[1])
    assert [path.name for path in ours.iterdir()] == ["fold_1"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("x")
    with pytest.raises(CheckpointError, match="something else"):
        import_nnunet(model.folder, precious)
    assert (precious / "thesis.txt").exists()


def test_a_failure_leaves_the_earlier_import_and_nothing_half_made(make_model: Callable[..., Any], tmp_path: Path):
    model, ours = make_model(), tmp_path / "ours"
    import_nnunet(model.write(), ours)
    before = (ours / "fold_0/checkpoint_final.safetensors").read_bytes()
    del model.checkpoint["network_weights"]["decoder.seg_layers.0.bias"]
    with pytest.raises(CheckpointError):
        import_nnunet(model.write(), ours)
    assert (ours / "fold_0/checkpoint_final.safetensors").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"theirs", "ours"}


def test_postprocessing_of_the_folds_comes_along(make_model: Callable[..., Any], tmp_path: Path):
    folder = make_model().write()
    (folder / "crossval_results_folds_0").mkdir()
    function = "remove_all_but_largest_component_from_segmentation"
    value = {"postprocessing_fns": [function], "postprocessing_kwargs": [{"labels_or_regions": [1, 2]}]}
    (folder / "crossval_results_folds_0/postprocessing.json").write_text(json.dumps(value))
    assert take_over(folder, tmp_path / "ours").rules == 1
    assert load_predictor(tmp_path / "ours", torch.device("cpu")).rules[0].classes == (1, 2)


def test_what_a_user_should_know_is_said_at_import_and_at_every_prediction(
    make_model: Callable[..., Any], tmp_path: Path
):
    model = make_model()
    model.plans["image_reader_writer"] = "NibabelIOWithReorient"
    model.checkpoint["trainer_name"] = "MyTrainer"
    report = take_over(model.write(), tmp_path / "ours")
    assert any("RAS" in note for note in report.notes)
    assert any("MyTrainer" in note for note in report.notes)
    assert any("RAS" in note for note in load_model(tmp_path / "ours").notes)


def test_the_command_takes_over_and_says_what(
    make_model: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = make_model(residual=True).write()
    assert main([str(folder), "-o", str(tmp_path / "ours")]) == 0
    assert "resenc_l, 3 classes, folds 0, mirrored along 2 axes" in capsys.readouterr().out


def test_the_command_fails_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(tmp_path), "-o", str(tmp_path / "ours")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def their_cascade(tmp_path: Path, miniatures: Any) -> Any:
    """The second model of a miniature cascade, two folds of the first beside it."""
    trained = "nnUNetTrainer__nnUNetPlans"
    first = miniatures.MiniatureModel(tmp_path / f"{trained}__3d_lowres", False, 3)
    second = miniatures.MiniatureModel(tmp_path / f"{trained}__3d_cascade_fullres", False, 3)
    second.network = miniatures.Network(second.arch, 4, 3)
    fields = first.plans["configurations"].pop("3d_fullres")
    low = {**fields, "spacing": [3.0, 2.0, 1.0], "next_stage": "3d_cascade_fullres"}
    cascade = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    plans = {**first.plans, "configurations": {"3d_lowres": low, "3d_fullres": fields, "3d_cascade_fullres": cascade}}
    for model, name in ((first, "3d_lowres"), (second, "3d_cascade_fullres")):
        model.plans, model.checkpoint = plans, miniatures._checkpoint(model.network, name)
        for fold in ("0", "1"):
            model.write(fold)
    return second


def test_a_cascade_brings_its_first_model_and_sees_a_plane_for_each_foreground_class(
    their_cascade: Any, tmp_path: Path
) -> None:
    report = take_over(their_cascade.folder, tmp_path / "ours", folds=[1])
    assert "predicts first" in report.summary() and report.folds == ("1",)
    predictor = load_predictor(tmp_path / "ours", torch.device("cpu"))
    assert predictor.previous is not None
    assert predictor.previous.model.configuration.spacing_mm == (3.0, 2.0, 1.0)
    assert predictor.previous.model.folds == ("0", "1")
    shown = torch.randn((1, 4, 8, 16, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = their_cascade.network(shown)[0]
        torch.testing.assert_close(predictor.model.networks[0](shown).logits[0], expected)
    prepared = predictor.prepare(
        np.random.default_rng(0).normal(100, 30, (2, 16, 8, 16)).astype(np.float32), (1, 3, 0.5)
    )
    assert prepared.previous is not None and prepared.image.shape == (2, 8, 16, 16)
    alone = predictor.with_options(PredictionOptions(mirror=False))
    assert alone.previous is not None
    classes = alone.previous.classes(prepared.previous)  # on the image's grid, which the cascade's is
    planes = np.stack([classes == 1, classes == 2]).astype(np.float32)
    with torch.no_grad():
        expected = their_cascade.network(torch.from_numpy(np.concatenate([prepared.image, planes]))[None])[0][0]
    torch.testing.assert_close(alone.score(prepared), expected, rtol=0, atol=1e-5)


def test_the_first_model_of_a_cascade_may_lie_elsewhere(their_cascade: Any, tmp_path: Path) -> None:
    first = their_cascade.folder.with_name("nnUNetTrainer__nnUNetPlans__3d_lowres")
    first.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"3d_lowres is not beside it .* with --previous-stage"):
        take_over(their_cascade.folder, tmp_path / "ours")
    assert (
        main([str(their_cascade.folder), "-o", str(tmp_path / "ours"), "--previous-stage", str(tmp_path / "elsewhere")])
        == 0
    )
    assert load_predictor(tmp_path / "ours", torch.device("cpu")).previous is not None
    with pytest.raises(CheckpointError, match="no cascade, so that no model comes before it"):
        take_over(tmp_path / "elsewhere", tmp_path / "low", previous=their_cascade.folder)
