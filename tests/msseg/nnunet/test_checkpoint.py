"""What nnU-Net's checkpoints hold, told from what other programs save."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from msseg.errors import CheckpointError
from msseg.nnunet.checkpoint import first_name, read_fold


def checkpoint_path(model: Any) -> Any:
    return model.write() / "fold_0" / "checkpoint_final.pth"


def test_a_fold_says_what_it_is_of(make_model: Callable[..., Any]):
    fold = read_fold(checkpoint_path(make_model()))
    assert (fold.configuration, fold.trainer, fold.mirror_axes, fold.epochs) == (
        "3d_fullres",
        "nnUNetTrainer",
        (0, 1),
        7,
    )


def test_every_weight_is_read_once_under_its_first_name(make_model: Callable[..., Any]):
    model = make_model()
    theirs = model.network.state_dict()
    weights = read_fold(checkpoint_path(model)).weights
    assert set(weights) == {first_name(name) for name in theirs}
    assert not [name for name in weights if "all_modules" in name or name.startswith("decoder.encoder.")]
    assert all(torch.equal(weights[name], theirs[name]) for name in weights)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("encoder.stages.0.0.convs.0.all_modules.0.weight", "encoder.stages.0.0.convs.0.conv.weight"),
        ("encoder.stages.0.0.convs.0.all_modules.2.bias", "encoder.stages.0.0.convs.0.norm.bias"),
        ("decoder.encoder.stem.convs.0.all_modules.1.bias", "encoder.stem.convs.0.norm.bias"),
        ("decoder.stages.0.convs.0.conv.weight", "decoder.stages.0.convs.0.conv.weight"),
        ("decoder.seg_layers.1.bias", "decoder.seg_layers.1.bias"),
    ],
)
def test_second_names_of_a_module_are_known(name: str, first: str):
    assert first_name(name) == first


def test_a_module_whose_two_names_differ_is_refused(make_model: Callable[..., Any]):
    model = make_model()
    weights = dict(model.network.state_dict())
    name = "decoder.encoder.stages.0.0.convs.0.conv.bias"
    weights[name] = weights[name] + 1
    model.checkpoint["network_weights"] = weights
    with pytest.raises(CheckpointError, match="their numbers differ"):
        read_fold(checkpoint_path(model))


def test_copies_of_a_module_under_two_names_are_one(make_model: Callable[..., Any]):
    model = make_model()
    model.checkpoint["network_weights"] = {k: v.clone() for k, v in model.network.state_dict().items()}
    assert "encoder.stages.0.0.convs.0.conv.bias" in read_fold(checkpoint_path(model)).weights


def test_names_of_a_wrapped_network_are_unwrapped(make_model: Callable[..., Any]):
    model = make_model()
    plain = set(read_fold(checkpoint_path(model)).weights)
    theirs = model.network.state_dict()
    model.checkpoint["network_weights"] = {f"module._orig_mod.{name}": tensor for name, tensor in theirs.items()}
    assert set(read_fold(checkpoint_path(model)).weights) == plain


def without_arguments(checkpoint: dict[str, Any]) -> None:
    del checkpoint["init_args"]


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a checkpoint of nnU-Net v1": (without_arguments, "nnU-Net v1"),
    "no weights": (lambda checkpoint: checkpoint.update(network_weights={}), "expected tensors"),
    "weights of numbers": (lambda checkpoint: checkpoint.update(network_weights={"a": 3}), "expected a tensor"),
    "weights without names": (lambda checkpoint: checkpoint.update(network_weights={3: 3}), "expected a tensor"),
    "no configuration": (lambda checkpoint: checkpoint.update(init_args={"fold": 0}), "configuration"),
    "a trainer that is a number": (lambda checkpoint: checkpoint.update(trainer_name=3), "trainer_name"),
    "mirroring along a fourth axis": (
        lambda checkpoint: checkpoint.update(inference_allowed_mirroring_axes=(0, 3)),
        "mirroring axes",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_another_programs_checkpoint_is_refused(name: str, make_model: Callable[..., Any]):
    change, found = BROKEN[name]
    model = make_model()
    change(model.checkpoint)
    with pytest.raises(CheckpointError) as error:
        read_fold(checkpoint_path(model))
    assert found in str(error.value)
    assert "checkpoint_final.pth" in str(error.value)


def test_a_trainer_that_mirrors_nothing_says_none(make_model: Callable[..., Any]):
    model = make_model()
    model.checkpoint["inference_allowed_mirroring_axes"] = None
    assert read_fold(checkpoint_path(model)).mirror_axes is None
