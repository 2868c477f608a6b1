"""The first stage's out-of-fold predictions: made where missing or stale, asked for where it is not trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msseg.checkpoint import FINAL, Checkpoint, load_checkpoint, save_checkpoint
from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.data.store import open_case
from msseg.errors import CheckpointError, PlanError
from msseg.files import read_json, write_json
from msseg.folders import Task, find_task
from msseg.interrupts import StopRequest
from msseg.networks.build import build_network
from msseg.pipeline.configurations import plan_for_network
from msseg.pipeline.explain_training import TrainingWish, explain_training
from msseg.pipeline.planning import PlanningOptions, load_plan, plan_and_preprocess
from msseg.pipeline.prepared_cases import prepared_cases
from msseg.pipeline.previous_stage import NEXT_STAGE, ORIGINS, ensure_previous, first_stage, planned_model
from msseg.pipeline.training import train
from msseg.pipeline.training_options import TrainingOptions
from msseg.planes import previous_labels
from msseg.training.distributed import Team
from planning.plan import Configuration, Plan, plan_from_json, plan_to_json

TASK = "Dataset007_Far"
SHAPE = (20, 28, 28)
NAMES = tuple(f"far_{number}" for number in range(3))
CPU = torch.device("cpu")
OPTIONS = {"most_levels": 2, "base_features": 2}


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Three volumes of which a patch sees little, as memory is short; each left out by one of three folds."""
    root = tmp_path_factory.mktemp("root")
    generator = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        label = np.zeros(SHAPE, np.uint8)
        label[4:12, 6:14, 6 + number : 16] = 1
        geometry = Geometry(SHAPE, (1.0, 1.0, 1.0))
        image = (label + generator.normal(0, 0.1, SHAPE)).astype(np.float32)
        write_image(root / "raw" / TASK / "imagesTr" / f"{name}_0000.nii.gz", image[None], geometry)
        write_label(root / "raw" / TASK / "labelsTr" / f"{name}.nii.gz", label, geometry)
    description = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "far": 1}, "file_ending": ".nii.gz"}
    write_json(root / "raw" / TASK / "dataset.json", {**description, "numTraining": len(NAMES)})
    options = PlanningOptions(memory_bytes=300_000, network="plain_unet", network_options=OPTIONS)
    plan_and_preprocess(TASK, root, options, workers=1)
    task = find_task(TASK, root)
    folds = [{"train": [one for one in NAMES if one != name], "validation": [name], "note": None} for name in NAMES]
    write_json(task.preprocessed / "splits.json", {"group_by": None, "cases": list(NAMES), "folds": folds})
    return task


@pytest.fixture
def task(planned: Task, tmp_path: Path) -> Task:
    """The same task with a room for models of its own."""
    return replace(planned, models=tmp_path / "models")


@pytest.fixture
def plan(task: Task) -> Plan:
    return load_plan(task)


@pytest.fixture
def cascade(plan: Plan) -> Configuration:
    return plan.configurations["3d_cascade"]


def leave_first_stage(task: Task, plan: Plan, fold: int, seed: int = 0) -> None:
    """A checkpoint as a training of fold `fold` leaves it, of weights that nobody trained."""
    configuration = plan.configurations["3d_lowres"]
    network = build_network(configuration, 1, plan.outputs, torch.Generator().manual_seed(seed + fold))
    recipe = {"name": "budget", "steps_per_epoch": 50, "loss_options": {}}
    identity: dict[str, Any] = {"validation_cases": [NAMES[fold]], "recipe": recipe, "seed": 0}
    metadata = {"identity": identity, "changed": {}, "ended": "epochs", "steps": 100}
    folder = planned_model(task, plan, plan.configurations["3d_cascade"]) / f"fold_{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder / FINAL, Checkpoint(network.state_dict(), plan, configuration.name, metadata))


@pytest.fixture
def stage(task: Task, plan: Plan) -> Path:
    """The first stage's model, whole."""
    for fold in range(len(NAMES)):
        leave_first_stage(task, plan, fold)
    return planned_model(task, plan, plan.configurations["3d_cascade"])


def test_the_plan_has_a_cascade_and_its_cases_are_those_of_3d(task, plan, cascade):
    assert list(plan.configurations) == ["3d", "2d", "3d_lowres", "3d_cascade"]
    assert (cascade.previous_stage, cascade.previous_classes) == ("3d_lowres", 1)
    assert task.store("3d_cascade") == task.store("3d") != task.store("3d_lowres")
    assert prepared_cases(task, plan, cascade, 1, True) == NAMES


def test_without_a_first_stage_the_command_that_trains_it_is_named(task, plan, cascade):
    command = "msseg_train Dataset007_Far all-folds --configuration 3d_lowres --network plain_unet"
    with pytest.raises(CheckpointError, match=command):
        first_stage(task, plan, cascade)
    leave_first_stage(task, plan, 0)
    with pytest.raises(CheckpointError, match=r"fold 1: not trained; fold 2: not trained") as caught:
        first_stage(task, plan, cascade)
    assert "msseg_train Dataset007_Far 1 --configuration 3d_lowres" in str(caught.value)
    assert "--epochs 2" in str(caught.value)


def test_a_configuration_without_a_previous_stage_is_refused(task, plan, stage):
    with pytest.raises(PlanError, match="configuration 3d: has no previous stage"):
        first_stage(task, plan, plan.configurations["3d"], stage)


def test_a_first_stage_of_other_labels_is_refused(task, plan, cascade, stage):
    other = replace(plan, labels={"background": 0, "near": 1})
    with pytest.raises(CheckpointError, match="trained with the labels"):
        first_stage(task, other, cascade, stage)


def test_every_case_is_predicted_by_the_fold_that_left_it_out(task, plan, cascade, stage):
    previous = ensure_previous(task, plan, cascade, CPU)
    assert previous is not None
    assert (previous.model, previous.folds) == (stage, ("0", "1", "2"))
    origins = read_json(previous.predictions / ORIGINS)
    weights = first_stage(task, plan, cascade).weights
    for fold, name in enumerate(NAMES):
        labels = previous_labels(previous.predictions, name)
        assert isinstance(labels, np.memmap) and labels.dtype == np.uint8
        assert labels.shape == open_case(task.store("3d"), name).image.shape[1:]
        assert set(np.unique(labels)) <= {0, 1}
        assert origins[name]["weights"] == weights[str(fold)]
    assert len(set(weights.values())) == len(NAMES)


def test_predictions_are_kept_until_their_fold_is_trained_again(task, plan, cascade, stage):
    assert first_stage(task, plan, cascade).missing() == {str(fold): [name] for fold, name in enumerate(NAMES)}
    previous = ensure_previous(task, plan, cascade, CPU)
    assert previous is not None
    assert first_stage(task, plan, cascade).missing() == {}
    before = {name: (previous.predictions / f"{name}.npy").stat().st_mtime_ns for name in NAMES}
    leave_first_stage(task, plan, 1, seed=99)
    assert first_stage(task, plan, cascade).missing() == {"1": [NAMES[1]]}
    ensure_previous(task, plan, cascade, CPU)
    after = {name: (previous.predictions / f"{name}.npy").stat().st_mtime_ns for name in NAMES}
    assert [name for name in NAMES if before[name] != after[name]] == [NAMES[1]]
    (previous.predictions / f"{NAMES[2]}.npy").unlink()
    assert first_stage(task, plan, cascade).missing() == {"2": [NAMES[2]]}


def test_stopped_it_goes_on_where_it_was(task, plan, cascade, stage):
    stop = StopRequest()
    stop.signal_name = "SIGTERM"
    assert ensure_previous(task, plan, cascade, CPU, stop=stop) is None
    assert first_stage(task, plan, cascade).missing() == {"1": [NAMES[1]], "2": [NAMES[2]]}


def test_a_plan_of_before_there_were_cascades_gets_its_stages_where_they_are_asked_for(task, plan):
    two = {name: plan.configurations[name] for name in ("3d", "2d")}
    older = replace(plan, configurations=two)
    found = plan_for_network(task, older, None, "3d_cascade")
    assert {name: found.configurations[name] for name in plan.configurations} == plan.configurations
    assert plan_for_network(task, older, None) is older
    assert plan_from_json(json.loads(json.dumps(plan_to_json(found))), "test") == found


def test_another_network_keeps_the_grid_of_the_first_stage(task, plan):
    other = plan_for_network(task, plan, "unet", "3d_lowres", OPTIONS)
    planned, found = (one.configurations["3d_lowres"] for one in (plan, other))
    assert (found.network, found.spacing_mm) == ("unet", planned.spacing_mm)
    assert other.configurations["3d_cascade"].previous_stage == "3d_lowres"


@pytest.mark.parametrize("augment", ["device", "workers"])
def test_the_second_network_is_trained_on_them_and_its_checkpoint_leads_to_the_first(
    task, plan, stage, augment, monkeypatch
):
    monkeypatch.setattr("msseg.pipeline.training.find_task", lambda _name, _root: task)
    overrides = {"steps_per_epoch": 2, "validation_batches": 1}
    options = TrainingOptions("3d_cascade", recipe="budget", epochs=1, overrides=overrides, augment=augment)
    report = train(TASK, "all", None, options, device="cpu", workers=1)
    assert report.complete and report.model.name.startswith("3d_cascade_plain_unet")
    trained = load_checkpoint(report.model / "fold_all" / FINAL)
    assert trained.previous is not None
    assert (trained.previous.folder(report.model), trained.previous.folds) == (stage.resolve(), ("0", "1", "2"))
    assert trained.metadata["identity"]["previous_stage"] == trained.previous.place
    first = next(weights for name, weights in trained.weights.items() if weights.ndim == 5)
    assert first.shape[1] == 2


def test_explain_counts_the_predictions_that_are_missing_and_both_networks_at_the_end(
    task, plan, make_machine, monkeypatch
):
    monkeypatch.setattr("msseg.pipeline.explain_training.find_task", lambda _name, _root: task)
    machine, wish = make_machine(), TrainingWish("3d_cascade", recipe="budget", epochs=2)
    parts = {}
    for name in ("first stage not trained", "trained", "predicted"):
        if name == "trained":
            for fold in range(len(NAMES)):
                leave_first_stage(task, plan, fold)
        if name == "predicted":
            ensure_previous(task, plan, plan.configurations["3d_cascade"], CPU)
        estimate = explain_training(TASK, 0, machine, wish, device="cpu", workers=1)
        parts[name] = {part.name: part.wall_s for part in estimate.parts}
        told = any("3d_lowres are trained by then" in one for one in estimate.assumptions)
        assert told == (name == "first stage not trained")
    assert parts["trained"] == parts["first stage not trained"]
    assert parts["trained"].keys() - parts["predicted"].keys() == {"predict with 3d_lowres"}
    alone = explain_training(TASK, 0, machine, replace(wish, configuration="3d"), device="cpu", workers=1)
    assert sum(parts["predicted"].values()) > alone.wall_s


def test_where_the_leading_process_was_stopped_the_others_predict_nothing_and_end(task, stage, monkeypatch):
    monkeypatch.setattr("msseg.pipeline.training.find_task", lambda _name, _root: task)

    class Follower(Team):
        leads, is_shared = False, True

        def told_by_lead(self, _make):
            return True

    options = TrainingOptions(configuration="3d_cascade", recipe="budget", epochs=1)
    report = train(TASK, 0, None, options, "cpu", workers=1, team=Follower())
    assert report.result.ended == "stopped" and not report.complete
    assert not (stage / NEXT_STAGE).exists()
