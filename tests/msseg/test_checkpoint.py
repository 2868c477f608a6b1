from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from msseg.checkpoint import (
    FINAL,
    LATEST,
    Checkpoint,
    load_checkpoint,
    load_model,
    plan_hash,
    save_checkpoint,
    with_configuration,
)
from msseg.errors import CheckpointError
from msseg.networks.build import build_network
from planning.plan import Configuration, Plan


@pytest.fixture
def plan(make_plan: Callable[..., Plan], make_configuration: Callable[..., Configuration]) -> Plan:
    return make_plan(make_configuration(encoder_convolutions=(1, 1), decoder_convolutions=(1,)))


def weights(plan: Plan, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    network = build_network(plan.configurations["3d"], 1, 2, generator)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def write(path: Path, plan: Plan, seed: int = 0) -> Checkpoint:
    checkpoint = Checkpoint(weights(plan, seed), plan, "3d", {"seed": seed, "third": 1 / 3})
    save_checkpoint(path, checkpoint)
    return checkpoint


def test_everything_comes_back(tmp_path, plan):
    path = tmp_path / "a.safetensors"
    checkpoint = Checkpoint(
        weights=weights(plan),
        ema_weights=weights(plan, seed=1),
        optimiser={"0/step": torch.tensor(3.0), "0/exp_avg": torch.ones(2, 2)},
        plan=plan,
        configuration_name="3d",
        metadata={"state": {"step": 4, "loss": 0.1 + 0.2}},
    )
    save_checkpoint(path, checkpoint)
    found = load_checkpoint(path)
    assert found.plan == plan
    assert found.configuration == plan.configurations["3d"]
    assert found.metadata == checkpoint.metadata
    for kind in ("weights", "ema_weights", "optimiser"):
        ours, theirs = getattr(checkpoint, kind), getattr(found, kind)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert found.best_weights is found.ema_weights


def test_a_missing_file_says_to_train(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 100, 2000])
def test_a_truncated_file_says_so(tmp_path, plan, kept):
    path = tmp_path / "a.safetensors"
    write(path, plan)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_checkpoint(path)


def test_a_foreign_safetensors_file_says_so(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"x": np.zeros(2, np.float32)}, path)
    with pytest.raises(CheckpointError, match="not written by msseg"):
        load_checkpoint(path)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, plan, monkeypatch):
    path = tmp_path / "a.safetensors"
    write(path, plan, seed=1)

    def disk_full(*_args):
        raise OSError("no space left")

    monkeypatch.setattr("msseg.checkpoint.save_file", disk_full)
    with pytest.raises(OSError, match="no space"):
        write(path, plan, seed=2)
    assert load_checkpoint(path).metadata["seed"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_model_is_rebuilt_from_its_folder_alone(tmp_path, plan):
    for fold in (0, 1):
        write(tmp_path / f"fold_{fold}" / FINAL, plan, seed=fold)
    model = load_model(tmp_path)
    assert model.folds == ("0", "1")
    assert model.notes == ()
    assert not any(network.training for network in model.networks)
    expected = build_network(plan.configurations["3d"], 1, 2, torch.Generator().manual_seed(1)).eval()
    image = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.networks[1](image).logits[0], expected(image).logits[0])
    assert load_model(tmp_path, folds=["1"]).folds == ("1",)


def test_a_narrower_network_than_planned_is_rebuilt_as_trained(tmp_path, plan):
    narrow = with_configuration(plan, replace(plan.configurations["3d"], features=(2, 4)))
    write(tmp_path / "fold_0" / FINAL, narrow)
    assert load_model(tmp_path).configuration.features == (2, 4)
    assert plan_hash(narrow) != plan_hash(plan)


def test_an_unfinished_fold_is_used_with_a_note(tmp_path, plan):
    write(tmp_path / "fold_all" / LATEST, plan)
    model = load_model(tmp_path)
    assert model.folds == ("all",)
    assert "not finished" in model.notes[0]


def test_a_folder_without_folds_and_a_missing_fold_say_so(tmp_path, plan):
    with pytest.raises(CheckpointError, match="no trained fold"):
        load_model(tmp_path)
    write(tmp_path / "fold_0" / FINAL, plan)
    with pytest.raises(CheckpointError, match="fold_3"):
        load_model(tmp_path, folds=["3"])


def test_folds_of_different_plans_are_refused(tmp_path, plan):
    write(tmp_path / "fold_0" / FINAL, plan)
    write(tmp_path / "fold_1" / FINAL, replace(plan, labels={"background": 0, "other": 1}))
    with pytest.raises(CheckpointError, match="another plan"):
        load_model(tmp_path)


def test_only_the_mirrors_that_every_fold_was_trained_with_are_kept(tmp_path, plan):
    lateral = with_configuration(plan, replace(plan.configurations["3d"], mirror_axes=(2,)))
    write(tmp_path / "fold_0" / FINAL, plan)
    write(tmp_path / "fold_1" / FINAL, lateral)
    assert load_model(tmp_path).configuration.mirror_axes == (2,)
    assert load_model(tmp_path, folds=["0"]).configuration.mirror_axes == (0, 1, 2)


def test_weights_of_another_network_are_refused(tmp_path, plan):
    wide = with_configuration(plan, replace(plan.configurations["3d"], features=(8, 8)))
    save_checkpoint(tmp_path / "fold_0" / FINAL, Checkpoint(weights(wide), plan, "3d"))
    with pytest.raises(CheckpointError, match="do not fit"):
        load_model(tmp_path)


def test_running_statistics_and_their_counters_come_back(tmp_path, plan):
    configuration = replace(plan.configurations["3d"], network="unet")
    network = build_network(configuration, 1, 2).train()
    network(torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0)))
    checkpoint = Checkpoint(network.state_dict(), with_configuration(plan, configuration), "3d")
    save_checkpoint(tmp_path / "fold_0" / FINAL, checkpoint)
    rebuilt = load_model(tmp_path).networks[0].state_dict()
    assert all(torch.equal(tensor, rebuilt[name]) for name, tensor in network.state_dict().items())
    counters = [int(tensor) for name, tensor in rebuilt.items() if name.endswith("num_batches_tracked")]
    assert set(counters) == {1}
