from dataclasses import replace

import pytest
import torch

from msseg.checkpoint import FINAL, Checkpoint, save_checkpoint
from msseg.errors import DatasetError
from msseg.files import write_json
from msseg.folders import Task
from msseg.pipeline.cross_validation import cross_validations, read_folds
from msseg.previous_model import PreviousModel

SPLITS = [
    {"train": ["p2_a"], "validation": ["p1_a", "p1_b"]},
    {"train": ["p1_a", "p1_b"], "validation": ["p2_a"]},
]
RECIPE = {"name": "budget", "steps_per_epoch": 50, "loss_options": {}}


@pytest.fixture
def task(tmp_path):
    task = Task("Task01_X", tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "models")
    write_json(task.preprocessed / "splits.json", {"group_by": "p\\d", "cases": [], "folds": SPLITS})
    return task


@pytest.fixture
def train(task, make_plan, make_configuration):
    """Leaves a checkpoint of a fold as training does; keyword arguments replace its metadata."""

    def trained(model, fold, validation, plan=None, **metadata):
        plan = plan or make_plan(make_configuration())
        identity = {"validation_cases": list(validation), "recipe": RECIPE, "seed": 0}
        whole = {"identity": identity, "changed": {}, "ended": "epochs", "steps": 150, **metadata}
        path = task.models / model / f"fold_{fold}" / FINAL
        path.parent.mkdir(parents=True)
        save_checkpoint(path, Checkpoint({"w": torch.zeros(1)}, plan, plan.default_configuration, whole))

    return trained


def test_folds_have_their_cases_and_the_patients_that_they_were_made_of(task):
    folds = read_folds(task)
    assert folds.cases == ("p1_a", "p1_b", "p2_a")
    assert folds.groups == {"p1_a": "p1", "p1_b": "p1", "p2_a": "p2"}
    assert folds.fold_of("p2_a") == "1"


@pytest.mark.parametrize(
    ("folds", "found"),
    [
        ([{"train": ["a"], "validation": ["a"]}], "a trained on too"),
        ([{"train": ["a"], "validation": []}], "no case left out"),
        ([{"train": ["a"], "validation": ["b"]}, {"train": ["a"], "validation": ["b"]}], "b trained on too, or left"),
    ],
)
def test_folds_that_do_not_leave_every_case_out_once_are_refused(task, folds, found):
    write_json(task.preprocessed / "splits.json", {"group_by": None, "folds": folds})
    with pytest.raises(DatasetError, match=found):
        read_folds(task)


def test_without_folds_the_command_is_named(task):
    (task.preprocessed / "splits.json").unlink()
    with pytest.raises(DatasetError, match="msseg_train Task01_X all-folds"):
        read_folds(task)


def test_models_whose_folds_leave_out_every_case_are_complete(task, train):
    train("3d_plain_unet", 0, ["p1_b", "p1_a"])
    train("3d_plain_unet", 1, ["p2_a"])
    train("2d_only_all", "all", [])
    (model,) = cross_validations(task, read_folds(task))
    assert model.complete and model.name == "3d_plain_unet"


def test_a_missing_fold_is_named_with_the_command_that_trains_it_like_the_others(task, train):
    changed = {"learning_rate": 0.5, "epochs": 3, "loss_options": {"alpha": 0.25}}
    identity = {"validation_cases": ["p2_a"], "recipe": RECIPE, "seed": 4}
    train("m", 1, [], identity=identity, changed=changed)
    (model,) = cross_validations(task, read_folds(task))
    assert model.lacking == {"0": "not trained"}
    assert model.commands == (
        "msseg_train Task01_X 0 --configuration 3d --network plain_unet --recipe budget --set learning_rate=0.5 "
        "--set loss_options.alpha=0.25 --seed 4 --epochs 3",
    )
    assert "m: left out (fold 0: not trained)" in model.summary()


def test_a_fold_of_other_splits_or_labels_is_to_be_trained_again(task, train, make_plan, make_configuration):
    train("m", 0, ["p1_a", "p1_b"])
    train("m", 1, ["p1_a"], ended="budget")
    train("n", 0, ["p1_a", "p1_b"])
    train("n", 1, ["p2_a"], plan=make_plan(make_configuration(), labels={"background": 0, "two": 2}))
    others, labels = cross_validations(task, read_folds(task))
    assert others.lacking == {"1": "trained with other splits"} and others.commands[0].endswith("--restart")
    assert labels.lacking == {"1": "trained with other labels"}


def test_a_length_that_was_a_budget_is_left_to_the_user(task, train):
    train("m", 0, ["p1_a", "p1_b"], ended="budget")
    (model,) = cross_validations(task, read_folds(task))
    assert "--budget TIME" in model.commands[0]


def test_a_model_of_another_program_is_no_cross_validation(task, train, make_plan, make_configuration):
    plan = replace(make_plan(make_configuration()), dataset_name="other")
    path = task.models / "imported" / "fold_0" / FINAL
    path.parent.mkdir(parents=True)
    save_checkpoint(path, Checkpoint({"w": torch.zeros(1)}, plan, "3d"))
    assert cross_validations(task, read_folds(task)) == []


@pytest.fixture
def train_cascade(task, make_plan, make_configuration):
    """Leaves a fold of a cascade, and the one of the model before it unless that is told."""

    def trained(fold, validation, first=True):
        low = make_configuration(name="3d_lowres")
        full = make_configuration(name="3d_cascade", previous_stage="3d_lowres", previous_classes=1)
        plan = make_plan(low, configurations={"3d_lowres": low, "3d_cascade": full})
        identity = {"validation_cases": list(validation), "recipe": RECIPE, "seed": 0}
        second = task.models / "3d_cascade_plain_unet"
        previous = PreviousModel.of(second, task.models / "3d_lowres_plain_unet", ["0", "1"])
        whole = Checkpoint({"w": torch.zeros(1)}, plan, "3d_cascade", {"identity": identity}, previous=previous)
        save_checkpoint(second / f"fold_{fold}" / FINAL, whole)
        if first:
            low = replace(whole, configuration_name="3d_lowres", previous=None)
            save_checkpoint(task.models / "3d_lowres_plain_unet" / f"fold_{fold}" / FINAL, low)

    return trained


def test_a_missing_fold_of_a_cascade_is_trained_with_the_model_before_it(task, train_cascade):
    train_cascade(0, ["p1_a", "p1_b"])
    second, first = cross_validations(task, read_folds(task))
    assert second.lacking == first.lacking == {"1": "not trained"}
    previous = (task.models / "3d_lowres_plain_unet").resolve()
    assert second.commands == (
        f"msseg_train Task01_X 1 --configuration 3d_cascade --network plain_unet --previous-stage {previous} "
        "--recipe budget",
    )
    assert first.commands == ("msseg_train Task01_X 1 --configuration 3d_lowres --network plain_unet --recipe budget",)


def test_a_cascade_is_complete_only_where_the_model_before_it_is(task, train_cascade):
    train_cascade(0, ["p1_a", "p1_b"])
    train_cascade(1, ["p2_a"], first=False)
    second, first = cross_validations(task, read_folds(task))
    assert second.lacking == {"1": "3d_lowres_plain_unet, the model before it: not trained"}
    assert second.commands == first.commands


def test_a_cascade_whose_first_model_is_gone_is_left_out_with_what_trains_that(task, train_cascade):
    train_cascade(0, ["p1_a", "p1_b"], first=False)
    train_cascade(1, ["p2_a"], first=False)
    (second,) = cross_validations(task, read_folds(task))
    assert not second.complete
    assert second.commands == ("msseg_train Task01_X all-folds --configuration 3d_lowres",)
