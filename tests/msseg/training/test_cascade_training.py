"""A cascade's second network trains on planes of the first one's predictions, in batches and on whole volumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.checkpoint import LATEST, load_checkpoint
from msseg.data.store import open_case, stored_names
from msseg.errors import CheckpointError
from msseg.pipeline.fold_to_train import segment_maker
from msseg.training.job import PreviousStage, TrainingJob
from msseg.training.log import LOG, read_log
from msseg.training.loop import train_fold
from planning.plan import Plan

MakeJob = Callable[..., TrainingJob]


@pytest.fixture
def make_cascade(make_job: MakeJob, plan: Plan, store: Path, tmp_path: Path) -> MakeJob:
    """Jobs of a second network whose first one found every voxel, so that its planes say all there is to know."""
    first = tmp_path / "models" / "first"
    (first / "next_stage").mkdir(parents=True)
    for name in stored_names(store):
        np.save(first / "next_stage" / f"{name}.npy", np.asarray(open_case(store, name).label))
    second = replace(plan.configurations["3d"], name="3d_cascade", previous_stage="3d_lowres", previous_classes=2)
    planned = replace(plan, configurations={"3d_cascade": second}, default_configuration="3d_cascade")
    previous = PreviousStage(first, ("0", "1"), first / "next_stage")
    fields = {"plan": planned, "configuration_name": "3d_cascade", "previous": previous}

    def make(folder: str = "whole", **changes: object) -> TrainingJob:
        return make_job(**{**fields, "folder": tmp_path / "models" / folder / "fold_0", **changes})

    return make


def silent(_line: str) -> None:
    pass


@pytest.mark.parametrize("augment", ["device", "workers"])
def test_stopped_and_started_again_a_cascade_ends_as_if_never_stopped(make_cascade: MakeJob, augment, stop_after):
    whole, parts = (make_cascade(folder, augment=augment) for folder in ("whole", "parts"))
    train_fold(whole, segment_maker(whole), report=silent)
    assert train_fold(parts, segment_maker(parts), stop=stop_after(5), report=silent).ended == "stopped"
    train_fold(parts, segment_maker(parts), report=silent)
    first, second = (load_checkpoint(job.folder / LATEST) for job in (whole, parts))
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    assert first.previous is not None and first.previous.place == "../first"


def test_whole_volumes_are_segmented_with_their_planes_on_the_way(make_cascade: MakeJob, recipe):
    job = make_cascade(recipe=replace(recipe, epochs=6, steps_per_epoch=8, augmentation="none"))
    train_fold(job, segment_maker(job), report=silent)
    entries = [entry for entry in read_log(job.folder / LOG) if entry["event"] == "validation"]
    assert entries and min(entries[-1]["dice"]) > 0.8


def test_it_goes_on_with_the_same_first_model_only(make_cascade: MakeJob, tmp_path, stop_after):
    job = make_cascade()
    train_fold(job, None, stop=stop_after(3), report=silent)
    other = replace(job.previous, model=tmp_path / "models" / "other")
    with pytest.raises(CheckpointError, match="another previous_stage than asked for now"):
        train_fold(replace(job, previous=other), None, report=silent)


def test_whole_volumes_come_with_the_first_networks_class_map_not_with_planes_of_all_classes(
    make_cascade: MakeJob, recipe, plan: Plan
):
    seen = set()

    def make_segment(_network, _configuration):
        def segment(image_czyx, found_zyx):
            seen.add((len(image_czyx), found_zyx.ndim, found_zyx.dtype.itemsize))
            return np.zeros(found_zyx.shape, np.int16)

        return segment

    job = make_cascade(recipe=replace(recipe, epochs=1, steps_per_epoch=1, augmentation="none", whole_volume_every=1))
    train_fold(job, make_segment, report=silent)
    assert seen == {(len(plan.channels), 3, 1)}
