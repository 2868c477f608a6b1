from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from msseg.checkpoint import LATEST, load_checkpoint
from msseg.interrupts import StopRequest
from msseg.training import fitting, trained_configuration
from msseg.training.fitting import fitted_width, measured_seconds_per_step
from msseg.training.loop import train_fold


@pytest.fixture
def planned(plan):
    return replace(plan.configurations["3d"], features=(32, 64, 128))


@pytest.mark.parametrize(("budget_s", "base"), [(3200.0, 32), (3100.0, 24), (1700.0, 16), (900.0, 8), (1.0, 8)])
def test_the_widest_network_that_fits_is_taken(planned, budget_s, base):
    # A step takes as many tenths of a second as the first level has features; 1000 steps are asked for.
    fitted = fitted_width(planned, lambda candidate: candidate.features[0] / 10, budget_s, steps=1000)
    assert fitted.features == (base, 2 * base, 4 * base)


def test_no_width_beyond_the_first_that_does_not_fit_is_timed(planned):
    timed = []

    def seconds(candidate):
        timed.append(candidate.features[0])
        return float(candidate.features[0])

    fitted_width(planned, seconds, budget_s=130.0, steps=10)
    assert timed == [8, 12, 16]


def test_a_width_that_memory_does_not_hold_takes_for_ever(plan, monkeypatch):
    def full(*_arguments):
        raise torch.cuda.OutOfMemoryError("full")

    monkeypatch.setattr(fitting, "build_network", full)
    seconds = measured_seconds_per_step(plan.configurations["3d"], 1, 3, torch.device("cpu"), None, clock=lambda: 0.0)
    assert seconds == float("inf")


def test_a_network_of_wide_rows_has_its_steps_between_too(planned):
    wide = replace(planned, features=(64, 128, 256))
    fitted = fitted_width(wide, lambda candidate: float(candidate.features[0]), 500.0, steps=10)
    assert fitted.features == (48, 96, 192)


def test_a_network_that_is_narrow_already_stays(planned):
    narrow = replace(planned, features=(4, 8, 8))
    assert fitted_width(narrow, lambda candidate: 1e9, 1.0, steps=10) == narrow


def test_a_step_is_timed_by_the_clock_that_is_passed_in(plan):
    ticks = iter([0.0, 5.0, 10.0, 12.5])
    seconds = measured_seconds_per_step(
        plan.configurations["3d"], 1, 3, torch.device("cpu"), None, clock=lambda: next(ticks)
    )
    assert seconds == 2.5


def test_a_resumed_training_keeps_the_width_it_began_with(make_job, recipe, plan, monkeypatch):
    class Stop(StopRequest):
        @property
        def requested(self) -> bool:
            return True

    wide = replace(plan, configurations={"3d": replace(plan.configurations["3d"], features=(10, 16, 16))})
    job = make_job(plan=wide, recipe=replace(recipe, fitted_steps=10), budget_s=1000.0)
    monkeypatch.setattr(trained_configuration, "measured_seconds_per_step", lambda *_args: 1e6)
    lines: list[str] = []
    train_fold(job, stop=Stop(), report=lines.append)
    assert "network of 8 instead of 10 features" in lines[0]
    monkeypatch.setattr(trained_configuration, "measured_seconds_per_step", lambda *_args: 0.0)
    train_fold(job, stop=Stop(), report=lines.append)
    assert load_checkpoint(job.folder / LATEST).configuration.features == (8, 16, 16)
