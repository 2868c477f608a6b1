"""The trainer with networks of every family: batch norm, dropout, gates, points, guidance, recurrent blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.checkpoint import FINAL, LATEST, Checkpoint, load_checkpoint
from msseg.training import loop
from msseg.training.fitting import measured_seconds_per_step
from msseg.training.job import TrainingJob
from msseg.training.log import read_log
from msseg.training.loop import train_fold
from planning.plan import Plan
from planning.weights import SUPERVISION

MakeJob = Callable[..., TrainingJob]
# One network for each thing that could go wrong between steps: running statistics, dropout, random points, presence,
# shared weights.
FAMILIES = ("unet_sharp", "vnet", "render_unet", "unet3p_unified", "attention_r2unet", "anu_net", "unet_school")


def silent(_line: str) -> None:
    pass


def planned_for(plan: Plan, network: str, **changes: object) -> Plan:
    """The tiny plan with another network on the same levels."""
    configuration = replace(plan.configurations["3d"], network=network, **changes)  # type: ignore[arg-type]
    row, levels = configuration.row, len(configuration.features)
    encoder, decoder = row.depths(levels)
    configuration = replace(
        configuration,
        encoder_convolutions=encoder,
        decoder_convolutions=decoder,
        supervision_weights=SUPERVISION[row.supervision](len(row.supervised(levels))),
    )
    return replace(plan, configurations={"3d": configuration})


def tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, torch.Tensor]]:
    for kind in ("weights", "ema_weights", "optimiser"):
        for name, tensor in getattr(checkpoint, kind).items():
            yield f"{kind}/{name}", tensor


def assert_same(one: Path, other: Path) -> None:
    first, second = (dict(tensors(load_checkpoint(folder / LATEST))) for folder in (one, other))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize("network", FAMILIES)
def test_stopped_in_mid_epoch_and_started_again_it_ends_as_if_never_stopped(
    make_job: MakeJob, plan, tmp_path, network, stop_after
):
    planned = planned_for(plan, network)
    whole, parts = (make_job(plan=planned, epochs=1, folder=tmp_path / place) for place in ("whole", "parts"))
    train_fold(whole, report=silent)
    assert train_fold(parts, stop=stop_after(2), report=silent).ended == "stopped"
    train_fold(parts, report=silent)
    assert_same(whole.folder, parts.folder)


def test_running_statistics_are_in_every_checkpoint_and_averaged_with_the_weights(make_job: MakeJob, plan):
    job = make_job(plan=planned_for(plan, "unet"), epochs=1)
    train_fold(job, report=silent)
    latest, final = (load_checkpoint(job.folder / name) for name in (LATEST, FINAL))
    assert latest.ema_weights is not None
    counters = [name for name in latest.weights if name.endswith("num_batches_tracked")]
    means = [name for name in latest.weights if name.endswith("running_mean")]
    assert counters and means
    assert {int(weights[name]) for weights in (latest.weights, latest.ema_weights) for name in counters} == {4}
    assert any(not torch.equal(latest.weights[name], latest.ema_weights[name]) for name in means)
    assert all(torch.equal(final.weights[name], latest.ema_weights[name]) for name in means)


def test_a_skipped_step_leaves_no_trace_in_running_statistics(make_job: MakeJob, plan, monkeypatch):
    step = loop.train_step

    def poisoned(run, batch):
        image = torch.full_like(batch.image, np.nan) if run.state.step == 2 else batch.image
        step(run, batch._replace(image=image))

    monkeypatch.setattr(loop, "train_step", poisoned)
    job = make_job(plan=planned_for(plan, "unet"), epochs=1)
    train_fold(job, report=silent)
    final = load_checkpoint(job.folder / FINAL)
    assert all(torch.isfinite(tensor).all() for tensor in final.weights.values())
    assert {int(value) for name, value in final.weights.items() if name.endswith("num_batches_tracked")} == {3}


@pytest.mark.parametrize("network", ["unet", "unet3p_unified", "vnet_sharp"])
def test_batches_of_one_patch_are_trained_on(make_job: MakeJob, plan, network):
    job = make_job(plan=planned_for(plan, network, batch_size=1), epochs=1)
    assert train_fold(job, report=silent).ended == "epochs"
    epochs = [entry for entry in read_log(job.folder / "log.jsonl") if entry["event"] == "epoch"]
    assert np.isfinite(epochs[0]["loss"])


def test_what_guidance_and_rendering_learn_is_in_the_loss(make_job: MakeJob, plan, recipe, tmp_path):
    def first_loss(folder: str, **weights: float) -> float:
        row = replace(recipe, augmentation="none", steps_per_epoch=1, **weights)
        job = make_job(plan=planned_for(plan, "render_unet"), recipe=row, epochs=1, folder=tmp_path / folder)
        train_fold(job, report=silent)
        return next(entry["loss"] for entry in read_log(job.folder / "log.jsonl") if entry["event"] == "epoch")

    whole = first_loss("whole")
    without = first_loss("without", point_weight=0.0, coarse_weight=0.0)
    doubled = first_loss("doubled", point_weight=2.0, coarse_weight=2.0)
    assert doubled - whole == pytest.approx(whole - without, rel=1e-4)
    assert whole > without


@pytest.mark.parametrize("network", ["unet_sharp", "render_unet", "unet3p_unified"])
def test_the_probe_that_fits_a_budget_takes_every_kind_of_output(plan, network):
    ticks = iter([0.0, 5.0, 10.0, 12.5])
    configuration = planned_for(plan, network).configurations["3d"]
    assert measured_seconds_per_step(configuration, 1, 3, torch.device("cpu"), None, lambda: next(ticks)) == 2.5


def test_a_branch_without_weight_trains_on(make_job: MakeJob, plan, recipe):
    job = make_job(plan=planned_for(plan, "unet_sharp"), recipe=replace(recipe, supervision="halving"), epochs=1)
    assert train_fold(job, report=silent).ended == "epochs"
    used = load_checkpoint(job.folder / FINAL).configuration
    assert used.supervision_weights == pytest.approx((0.4, 0.4, 0.2, 0.0))


def test_a_pruned_depth_is_trained_alone_with_its_own_branches(make_job: MakeJob, plan):
    planned = planned_for(
        plan,
        "unet_sharp",
        features=(4, 8),
        strides=((2, 2, 2),),
        kernel_sizes=((3, 3, 3),) * 2,
        network_options={"most_levels": 2},
    )
    job = make_job(plan=planned, epochs=1)
    assert train_fold(job, report=silent).ended == "epochs"
    checkpoint = load_checkpoint(job.folder / FINAL)
    assert {name.split(".")[1] for name in checkpoint.weights if name.startswith("heads.")} == {"0_1", "1_0"}
    assert checkpoint.configuration.network_options == {"most_levels": 2}
