from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.checkpoint import FINAL, LATEST, load_checkpoint
from msseg.data.store import write_case
from msseg.errors import CheckpointError, DatasetError, MssegError, ResourceError
from msseg.pipeline.fold_to_train import segment_maker
from msseg.training import loop
from msseg.training.job import TrainingJob
from msseg.training.log import read_log
from msseg.training.loop import train_fold
from msseg.training.schedules import PlateauRule
from planning.label_pairs import Sides
from planning.splits import Split

MakeJob = Callable[..., TrainingJob]


def silent(_line: str) -> None:
    pass


def make_segment(network, configuration):
    """The brightness says the class; what the network says does not matter here."""
    return lambda image: np.clip(np.rint(image[0]), 0, 2).astype(np.uint8)


class FakeClock:
    """A clock on which each look takes `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = load_checkpoint(one / LATEST), load_checkpoint(other / LATEST)
    for kind in ("weights", "ema_weights", "optimiser"):
        ours, theirs = getattr(first, kind), getattr(second, kind)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), kind


def events(folder: Path, kind: str) -> list[dict]:
    return [entry for entry in read_log(folder / "log.jsonl") if entry["event"] == kind]


def test_training_learns_and_leaves_its_files(make_job: MakeJob, recipe, pictures):
    job = make_job(recipe=replace(recipe, epochs=8, steps_per_epoch=8))
    result = train_fold(job, make_segment, report=silent)
    assert (result.ended, result.steps, result.epochs, result.complete) == ("epochs", 64, 8, True)
    epochs = events(job.folder, "epoch")
    assert [entry["epoch"] for entry in epochs] == list(range(8))
    assert epochs[-1]["loss"] < epochs[0]["loss"] - 0.3
    assert min(epochs[-1]["patch_dice"]) > 0.6
    assert events(job.folder, "validation")[0]["dice"][0] > 0.9
    assert (job.folder / "curves.png").stat().st_size > 1000
    final = load_checkpoint(job.folder / FINAL)
    assert not final.optimiser
    assert final.ema_weights is None
    latest = load_checkpoint(job.folder / LATEST)
    assert all(torch.equal(final.weights[name], latest.ema_weights[name]) for name in final.weights)


PATCHES = {
    "slices turned in their plane": {"patch_size": (4, 8, 8), "dummy_2d": True},
    "larger than the images": {"patch_size": (16, 16, 16)},
    "slices": {
        "patch_size": (8, 8),
        "dimensions": 2,
        "spacing_mm": (1.0, 1.0),
        "strides": ((2, 2), (2, 2)),
        "kernel_sizes": ((3, 3), (3, 3), (3, 3)),
        "mirror_axes": (0, 1),
    },
}


@pytest.mark.parametrize("name", PATCHES)
def test_every_kind_of_patch_is_trained_on_and_whole_volumes_are_segmented(make_job: MakeJob, recipe, plan, name):
    planned = replace(plan, configurations={"3d": replace(plan.configurations["3d"], **PATCHES[name])})
    job = make_job(plan=planned, recipe=replace(recipe, augmentation="nnunet", loss="exp_log_dice_ce"))
    assert train_fold(job, segment_maker(job), report=silent).ended == "epochs"
    assert all(math.isfinite(entry["loss"]) for entry in events(job.folder, "epoch"))
    assert len(events(job.folder, "validation")) == 1


@pytest.mark.parametrize("looks", [2, 4, 7])
def test_stopped_and_started_again_it_ends_as_if_never_stopped(make_job: MakeJob, tmp_path, looks, stop_after):
    whole = make_job(folder=tmp_path / "whole")
    parts = make_job(folder=tmp_path / "parts")
    train_fold(whole, make_segment, report=silent)
    stopped = train_fold(parts, make_segment, stop=stop_after(looks), report=silent)
    assert stopped.ended == "stopped"
    assert not stopped.complete
    assert not (parts.folder / FINAL).exists()
    resumed = train_fold(parts, make_segment, report=silent)
    assert resumed.ended == "epochs"
    assert_same_weights(whole.folder, parts.folder)
    losses = [[entry["loss"] for entry in events(job.folder, "epoch")] for job in (whole, parts)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_the_papers_optimisers_resume_bit_for_bit_too(make_job: MakeJob, recipe, tmp_path, name, stop_after):
    options = {"adam": (("amsgrad", True),), "sgd": (("momentum", 0.99), ("nesterov", True))}[name]
    row = replace(
        recipe,
        optimiser=name,
        optimiser_options=options,
        schedule="constant",
        loss="exp_log_dice_ce",
        plateau=PlateauRule(smoothing=0.0, patience=1),
        average_decay=0.0,
    )
    whole, parts = (make_job(recipe=row, folder=tmp_path / place) for place in ("whole", "parts"))
    train_fold(whole, report=silent)
    train_fold(parts, stop=stop_after(6), report=silent)
    train_fold(parts, report=silent)
    first, second = (load_checkpoint(job.folder / LATEST) for job in (whole, parts))
    assert all(torch.equal(first.weights[key], second.weights[key]) for key in first.weights)
    assert first.metadata["state"]["plateau"] == second.metadata["state"]["plateau"]


def test_killed_it_goes_on_from_the_last_checkpoint_to_the_same_end(make_job: MakeJob, tmp_path, monkeypatch):
    whole, killed = (make_job(folder=tmp_path / place) for place in ("whole", "killed"))
    train_fold(whole, report=silent)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    step = loop.train_step

    def dies(run, batch):
        if run.state.step == 6:
            raise KeyboardInterrupt
        step(run, batch)

    monkeypatch.setattr(loop, "train_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train_fold(killed, report=silent)
    monkeypatch.setattr(loop, "train_step", step)
    train_fold(killed, report=silent)
    assert_same_weights(whole.folder, killed.folder)


def test_killed_in_an_epochs_validation_it_validates_again_and_ends_the_same(make_job: MakeJob, tmp_path, monkeypatch):
    whole, killed = (make_job(folder=tmp_path / place) for place in ("whole", "killed"))
    train_fold(whole, report=silent)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    end_epoch = loop.end_epoch

    def dies(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "end_epoch", dies)
    with pytest.raises(KeyboardInterrupt):
        train_fold(killed, report=silent)
    monkeypatch.setattr(loop, "end_epoch", end_epoch)
    train_fold(killed, report=silent)
    assert_same_weights(whole.folder, killed.folder)
    assert [entry["epoch"] for entry in events(killed.folder, "epoch")] == [0, 1, 2]
    losses = [[entry["loss"] for entry in events(job.folder, "epoch")] for job in (whole, killed)]
    assert losses[0] == losses[1]


def test_killed_between_the_last_two_checkpoints_it_is_not_taken_for_complete(make_job: MakeJob, monkeypatch):
    train_fold(make_job(epochs=1), report=silent)
    save_final = loop.save_final

    def dies(_run):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_final", dies)
    with pytest.raises(KeyboardInterrupt):
        train_fold(make_job(epochs=2), report=silent)
    monkeypatch.setattr(loop, "save_final", save_final)
    again = train_fold(make_job(epochs=2), report=silent)
    assert (again.already_complete, again.epochs) == (False, 2)


def test_workers_change_nothing(make_job: MakeJob, recipe, tmp_path):
    row = replace(recipe, epochs=1)
    alone = make_job(recipe=row, folder=tmp_path / "alone")
    helped = make_job(recipe=row, folder=tmp_path / "helped", workers=2)
    train_fold(alone, report=silent)
    train_fold(helped, report=silent)
    assert_same_weights(alone.folder, helped.folder)


def test_a_finished_training_is_left_alone_unless_asked_for_more(make_job: MakeJob):
    lines: list[str] = []
    train_fold(make_job(), report=silent)
    again = train_fold(make_job(), report=lines.append)
    assert again.already_complete
    assert again.complete
    assert "already complete" in lines[0]
    more = train_fold(make_job(epochs=5), report=silent)
    assert (more.ended, more.epochs, more.already_complete) == ("epochs", 5, False)


def test_restart_begins_anew(make_job: MakeJob):
    train_fold(make_job(), report=silent)
    result = train_fold(make_job(restart=True, epochs=1), report=silent)
    assert result.epochs == 1
    assert [entry["epoch"] for entry in events(make_job().folder, "epoch")] == [0]


def test_another_seed_or_plan_is_refused_by_name(make_job: MakeJob, plan):
    train_fold(make_job(), report=silent)
    with pytest.raises(CheckpointError, match="another seed than asked for"):
        train_fold(make_job(seed=1), report=silent)
    with pytest.raises(CheckpointError, match="plan_hash"):
        train_fold(make_job(plan=replace(plan, class_weights=(0.1, 0.4, 0.5))), report=silent)


def test_a_case_that_the_store_lacks_is_named(make_job: MakeJob):
    with pytest.raises(DatasetError, match="case_77"):
        train_fold(make_job(split=Split(("case_0", "case_77"), ("case_1",))), report=silent)


def test_without_validation_cases_training_goes_on_without_dice(make_job: MakeJob, store):
    job = make_job(split=Split(("case_0", "case_1"), ()), fold="all")
    assert train_fold(job, make_segment, report=silent).ended == "epochs"
    assert events(job.folder, "epoch")[0]["patch_dice"] == [None, None]


@pytest.mark.parametrize("final_share", [0.0, 0.2])
def test_a_budget_ends_training_before_its_time_with_the_final_validation_in_reserve(
    make_job: MakeJob, final_share: float
):
    clock = FakeClock(0.25)
    job = make_job(budget_s=100.0, final_validation_cost=8.0, final_share=final_share)
    result = train_fold(job, make_segment, report=silent, clock=clock)
    assert result.ended == "budget"
    measured = [entry["seconds_per_case"] for entry in events(job.folder, "validation")]
    reserve = 1.1 * 2 * measured[-1] * 8 + 3 + 100 * final_share
    looks_after_the_decision = 8 * clock.seconds
    assert 100 - reserve - 10 < result.elapsed_s < 100 - reserve + looks_after_the_decision
    rates = [entry["learning_rate"] for entry in events(job.folder, "epoch")]
    assert rates[-1] < 0.3 * max(rates)
    assert len(measured) == 4


def test_cases_of_ordinary_size_say_how_long_the_others_will_take(make_job: MakeJob, store):
    for name, length in {"giant": 60, "dwarf": 9, "ordinary": 30}.items():
        image = np.zeros((1, length, 12, 12), np.float32)
        write_case(store, name, image, np.zeros(image.shape[1:], np.uint8), {}, {}, key="k")
    job = make_job(budget_s=60.0, split=Split(("case_0",), ("giant", "dwarf", "ordinary")))
    train_fold(job, make_segment, report=silent, clock=FakeClock(0.25))
    assert events(job.folder, "validation")[0]["cases"] == ["ordinary"]


def test_a_budget_shorter_than_an_epoch_knows_its_final_validation_too(make_job: MakeJob, recipe):
    job = make_job(budget_s=60.0, recipe=replace(recipe, steps_per_epoch=1000))
    result = train_fold(job, make_segment, report=silent, clock=FakeClock(0.25))
    assert (result.ended, result.epochs) == ("budget", 0)
    assert len(events(job.folder, "validation")) == 4
    assert result.elapsed_s < 60


def test_a_budgets_elapsed_time_survives_a_stop(make_job: MakeJob, stop_after):
    job = make_job(budget_s=100.0)
    first = train_fold(job, make_segment, stop=stop_after(20), report=silent, clock=FakeClock(0.25))
    second = train_fold(job, make_segment, report=silent, clock=FakeClock(0.25))
    assert first.elapsed_s > 10
    assert second.ended == "budget"
    assert second.elapsed_s < 100
    assert train_fold(job, make_segment, report=silent, clock=FakeClock(0.25)).already_complete
    longer = train_fold(replace(job, budget_s=120.0), make_segment, report=silent, clock=FakeClock(0.25))
    assert (longer.ended, longer.already_complete) == ("budget", False)


def test_a_loss_that_is_not_finite_is_skipped_counted_and_forgiven(make_job: MakeJob, monkeypatch):
    job = make_job()
    poison_steps(monkeypatch, {2, 3})
    result = train_fold(job, report=silent)
    assert result.steps == 12
    assert events(job.folder, "end")[0]["skipped"] == 2
    assert len(result.warnings) == 1
    assert "not finite" in result.warnings[0]
    weights = load_checkpoint(job.folder / FINAL).weights
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert all(math.isfinite(entry["loss"]) for entry in events(job.folder, "epoch"))


def test_a_loss_that_stays_not_finite_stops_with_a_clear_message(make_job: MakeJob, recipe, monkeypatch):
    poison_steps(monkeypatch, set(range(100)))
    with pytest.raises(MssegError, match="not finite 20 steps in a row"):
        train_fold(make_job(recipe=replace(recipe, epochs=30)), report=silent)


def test_a_gradient_that_overflows_float16_is_no_news_until_it_persists(make_job: MakeJob, recipe, monkeypatch):
    def with_scaler(*arguments):
        run = start_run(*arguments)
        run.scaler = torch.amp.GradScaler("cpu", init_scale=1e30)
        return run

    start_run = loop.start_run
    monkeypatch.setattr(loop, "start_run", with_scaler)
    first = train_fold(make_job(recipe=replace(recipe, epochs=1)), report=silent)
    assert first.warnings == ()
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_arguments: torch.tensor(torch.inf))
    with pytest.raises(MssegError, match="not finite 20 steps in a row"):
        train_fold(make_job(recipe=replace(recipe, epochs=30), restart=True), report=silent)


def test_a_device_without_enough_memory_is_a_clear_error(make_job: MakeJob, monkeypatch):
    def full(*_arguments):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "train_step", full)
    with pytest.raises(ResourceError, match=r"2 patches of \[8, 8, 8\]. Plan with a smaller --memory"):
        train_fold(make_job(), report=silent)


def poison_steps(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    step = loop.train_step

    def poisoned(run, batch):
        image = torch.full_like(batch.image, np.nan) if run.state.step in steps else batch.image
        step(run, batch._replace(image=image))

    monkeypatch.setattr(loop, "train_step", poisoned)


def test_a_collapsed_class_raises_the_alarm(make_job: MakeJob, recipe):
    job = make_job(recipe=replace(recipe, epochs=4, whole_volume_every=1))
    result = train_fold(job, lambda network, configuration: lambda image: np.zeros(image.shape[1:], int), report=silent)
    assert any("class 'bright' has collapsed" in warning for warning in result.warnings)
    assert any("'brighter'" in entry["message"] for entry in events(job.folder, "warning"))


def test_the_plateau_rule_stops_early(make_job: MakeJob, recipe):
    rule = PlateauRule(stop_patience=3, stop_threshold=100.0)
    job = make_job(recipe=replace(recipe, plateau=rule, epochs=50))
    result = train_fold(job, report=silent)
    assert (result.ended, result.epochs) == ("early stop", 4)
    assert train_fold(job, report=silent).already_complete


def test_the_sources_of_2_5d_are_stacks_that_move_slice_by_slice(make_job, make_configuration):
    job = make_job()
    configuration = make_configuration(
        (8, 8), name="2.5d", neighbour_slices=2, mirror_axes=(0, 1), image_padding="mirror", variations=("colour",)
    )
    channels = tuple(replace(job.plan.channels[0], name=name) for name in ("depth", "red", "green", "blue"))
    sources = loop.batch_sources(replace(job, plan=replace(job.plan, channels=channels)), configuration)
    training = sources["training"]
    assert (training.patch_size, training.mirror_axes, training.dummy_2d) == ((5, 8, 8), (1, 2), True)
    assert training.slices_as_channels
    assert training.padding == "mirror"
    assert training.colour_channels == (1, 2, 3)
    assert training.augmentation.hue > 0
    assert training.augmentation.inversion == 0
    assert sources["validation"].slices_as_channels


def test_the_sides_of_the_plan_go_to_the_batches_on_the_axis_of_their_patches(make_job):
    job = make_job()
    volume = job.plan.configurations["3d"]
    slices = replace(volume, dimensions=2, patch_size=(8, 8), strides=((2, 2),), mirror_axes=(0, 1))
    paired = replace(job, plan=replace(job.plan, label_pairs=((1, 2),), lateral_axis=2))
    for configuration, axis in ((volume, 2), (slices, 1), (replace(slices, neighbour_slices=1), 2)):
        assert loop.batch_sources(paired, configuration)["training"].sides == Sides(axis, (0, 2, 1))
        assert loop.batch_sources(job, configuration)["training"].sides is None
