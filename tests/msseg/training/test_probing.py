from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from msseg.checkpoint import LATEST, load_checkpoint
from msseg.files import read_json
from msseg.networks.build import build_network
from msseg.training import probing
from msseg.training.log import read_log
from msseg.training.loop import train_fold
from msseg.training.probing import STEP_PLANS, chosen, probed, step_plan_for
from msseg.training.step_plan import (
    StepPlan,
    image_laid_out,
    laid_out,
    optimiser_of,
    state_laid_out,
    step_plan_from_json,
)

TRIALS = (("dtype", torch.bfloat16), ("channels_last", True), ("fused", True), ("compiled", True))


def timed_by(table, asked):
    def seconds(plan):
        asked.append(plan)
        return table(plan)

    return seconds


def test_each_change_is_kept_that_makes_the_best_before_it_faster():
    def seconds(plan):
        return 1.0 - 0.5 * (plan.dtype is not None) + 0.1 * plan.channels_last - 0.2 * plan.fused

    probe = chosen(StepPlan(), TRIALS, seconds, allowance_s=1000.0)
    assert probe.plan == StepPlan(torch.bfloat16, fused=True)
    assert probe.seconds["bfloat16, fused optimiser"] == pytest.approx(0.3)


def test_a_gain_of_less_than_three_in_a_hundred_is_left():
    probe = chosen(StepPlan(), [("fused", True)], lambda plan: 0.98 if plan.fused else 1.0, allowance_s=10.0)
    assert probe.plan == StepPlan()


def test_what_fails_is_not_chosen():
    def seconds(plan):
        if plan.compiled:
            raise RuntimeError("no compiler here")
        return 1.0

    probe = chosen(StepPlan(), TRIALS, seconds, allowance_s=1000.0)
    assert probe.plan == StepPlan()
    assert not any("compiled" in words for words in probe.seconds)


def test_time_that_is_up_ends_the_trials_and_short_time_leaves_compiling_out():
    now = iter(range(0, 1000, 10))
    asked: list[StepPlan] = []
    # The clock moves 10 s a look: the end lies at 25 s, after the second trial.
    chosen(StepPlan(), TRIALS, timed_by(lambda plan: 1.0, asked), 25.0, clock=lambda: float(next(now)))
    assert len(asked) == 3
    asked.clear()
    chosen(StepPlan(), TRIALS, timed_by(lambda plan: 1.0, asked), 59.0, clock=lambda: 0.0)
    assert not any(plan.compiled for plan in asked)


def test_a_plan_survives_json_and_has_words():
    plan = StepPlan(torch.float16, channels_last=True, compiled=True)
    assert step_plan_from_json(plan.as_json()) == plan
    assert plan.words() == "float16, channels last, compiled"


def test_the_probe_leaves_weights_statistics_gradients_and_random_numbers_alone(make_job, make_configuration):
    configuration = make_configuration(network="unet_sharp", supervision_weights=(0.5, 0.5))  # has batch norm
    network = build_network(configuration, 1, 3).train()
    before = copy.deepcopy(network.state_dict())
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    probe = probed(make_job(), configuration, network, StepPlan(), [("channels_last", True), ("fused", True)])
    assert len(probe.seconds) == 3
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_float32_cpu_has_nothing_to_try_and_a_measurement_is_made_once(make_job, monkeypatch):
    job = make_job(folder=make_job().folder)
    configuration = job.plan.configurations["3d"]
    network = build_network(configuration, 1, 3)
    lines: list[str] = []
    if probing.unmeasured_plan(job.device).dtype is None:
        assert step_plan_for(job, configuration, network, lines.append) == (StepPlan(fused=True), {})
    monkeypatch.setattr(probing, "_trials", lambda job, base: [("channels_last", True)])
    monkeypatch.setattr(probing, "_seconds", lambda job, network, shape, plan: 0.5 if plan.channels_last else 1.0)
    plan, said = step_plan_for(job, configuration, network, lines.append)
    assert (plan.channels_last, said["measured"]) == (True, "now")
    monkeypatch.setattr(probing, "_seconds", None)
    again, said = step_plan_for(job, configuration, network, lines.append)
    assert (again, said["measured"]) == (plan, "before")
    assert len(read_json(job.store.parent / STEP_PLANS)) == 1
    assert "measured" in lines[0] and "before" in lines[-1]
    # Another batch is another measurement.
    monkeypatch.setattr(probing, "_seconds", lambda job, network, shape, plan: 1.0)
    step_plan_for(job, replace(configuration, batch_size=3), network, lines.append)
    assert len(read_json(job.store.parent / STEP_PLANS)) == 2


def test_a_training_goes_on_with_the_plan_it_began_with(make_job, monkeypatch):
    chosen_plan = StepPlan(channels_last=True, fused=True)
    monkeypatch.setattr("msseg.training.run.step_plan_for", lambda *_: (chosen_plan, {"measured": "now"}))
    train_fold(make_job(epochs=1), report=lambda _line: None)
    monkeypatch.setattr("msseg.training.run.step_plan_for", lambda *_: pytest.fail("measured again"))
    job = make_job(epochs=2)
    train_fold(job, report=lambda _line: None)
    record = load_checkpoint(job.folder / LATEST).metadata["step"]
    assert (record["device"], step_plan_from_json(record["plan"])) == ("cpu", chosen_plan)
    entries = [entry for entry in read_log(job.folder / "log.jsonl") if entry["event"] in ("start", "resume")]
    assert [entry["step_plan"]["fused"] for entry in entries] == [True, True]


def test_channels_last_lays_out_weights_images_and_the_optimisers_state(make_job, make_configuration):
    plan = StepPlan(channels_last=True, fused=True)
    network = laid_out(build_network(make_configuration(), 1, 3), 3, plan)
    weights = [parameter for parameter in network.parameters() if parameter.ndim == 5 and min(parameter.shape[:2]) > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in weights)
    image = image_laid_out(torch.zeros(2, 3, 4, 4, 4), plan)
    assert image.is_contiguous(memory_format=torch.channels_last_3d)
    optimiser = optimiser_of(network, make_job().recipe, plan)
    for parameter in network.parameters():
        optimiser.state[parameter] = {"exp_avg": torch.randn(parameter.shape)}
    before = {parameter: state["exp_avg"].clone() for parameter, state in optimiser.state.items()}
    state_laid_out(optimiser)
    assert all(state["exp_avg"].stride() == parameter.stride() for parameter, state in optimiser.state.items())
    assert all(torch.equal(before[parameter], state["exp_avg"]) for parameter, state in optimiser.state.items())
