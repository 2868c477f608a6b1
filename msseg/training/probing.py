"""The step's plan, chosen by timing a few steps of a copy of the network before training begins, and kept."""

from __future__ import annotations

import copy
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from msseg.checkpoint import versions
from msseg.errors import MssegError
from msseg.files import read_json, value_hash, write_json
from msseg.networks.outputs import Outputs
from msseg.training.job import TrainingJob
from msseg.training.recipes import recipe_to_json, training_patch
from msseg.training.step_plan import (
    StepPlan,
    forward_of,
    image_laid_out,
    laid_out,
    optimiser_of,
    step_plan_from_json,
    unmeasured_plan,
)
from planning.plan import Configuration

STEP_PLANS = "step_plans.json"
_SHARE_OF_BUDGET = 0.01
_LONGEST_S = 180.0
# Compiling takes about so long, and nothing can end it before.
_COMPILING_S = 60.0
_WARM_UP, _TIMED = 2, 3
_WORTH_IT = 0.97
# A trial changes one thing of what was best before it. On a CPU the networks lay float32 out by themselves, the fused
# optimiser is always faster, and compiling takes minutes.
_TRIALS: dict[str, tuple[tuple[str, Any], ...]] = {
    "cuda": (("dtype", None), ("channels_last", True), ("fused", True)),
    "cpu": (("dtype", None), ("channels_last", True)),
}


@dataclass(frozen=True)
class Probe:
    """The plan that was chosen, and the seconds a step of everything that was tried took, by its words."""

    plan: StepPlan
    seconds: dict[str, float]


def probe_step(forward: Callable[[torch.Tensor], Outputs], batch: torch.Tensor, dtype: torch.dtype | None) -> None:
    """Forward and backward of one batch (b, c, *spatial) through everything the network answers, to its end."""
    with torch.autocast(batch.device.type, dtype=dtype, enabled=dtype is not None):
        outputs = forward(batch)
    points = [points.logits for points in outputs.points]
    answers = [*outputs.logits, *outputs.presence, *points, *outputs.coarse]
    torch.stack([answer.float().square().mean() for answer in answers]).sum().backward()
    if batch.device.type == "cuda":
        torch.cuda.synchronize(batch.device)


def step_plan_for(
    job: TrainingJob, configuration: Configuration, network: nn.Module, report: Callable[[str], None]
) -> tuple[StepPlan, dict[str, Any]]:
    """The plan of a fresh training, and what the log says about it: measured here, or on this machine before.

    The network and the random state are left as they are. A probe takes at most 1 % of a budget, but for a trial under
    way. Measured plans lie in `step_plans.json` beside the prepared cases.
    """
    base = unmeasured_plan(job.device)
    trials = _trials(job, base)
    if not trials:
        return base, {}
    path, key = job.store.parent / STEP_PLANS, _key(job, configuration, trials)
    kept = _kept(path)
    if key in kept:
        plan = step_plan_from_json(kept[key]["plan"])
        report(f"a step: {plan.words()}, as measured on this machine before")
        return plan, {"seconds": kept[key]["seconds"], "measured": "before"}
    probe = probed(job, configuration, network, base, trials)
    write_json(path, {**kept, key: {"plan": probe.plan.as_json(), "seconds": probe.seconds}})
    timed = "; ".join(f"{words} {seconds:.4g} s" for words, seconds in probe.seconds.items())
    report(f"a step: {probe.plan.words()} (measured: {timed})")
    return probe.plan, {"seconds": probe.seconds, "measured": "now"}


def probed(
    job: TrainingJob,
    configuration: Configuration,
    network: nn.Module,
    base: StepPlan,
    trials: Sequence[tuple[str, Any]],
) -> Probe:
    """The fastest plan found, by steps of copies of `network` on a batch of nothing."""
    channels = configuration.input_channels(len(job.plan.channels))
    shape = (configuration.batch_size, channels, *training_patch(configuration, job.recipe))
    devices = [job.device] if job.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        return chosen(base, trials, lambda plan: _seconds(job, network, shape, plan), _allowance_s(job))


def chosen(
    base: StepPlan,
    trials: Sequence[tuple[str, Any]],
    seconds_of: Callable[[StepPlan], float],
    allowance_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Probe:
    """`base` with each trial's change that made it at least 3 % faster, as far as the time allows.

    What does not run here (a compiler that fails, memory that gives out) is as slow as can be.
    """
    end = clock() + allowance_s
    best, best_s = base, _or_never(seconds_of, base)
    seconds = {base.words(): best_s}
    for name, value in trials:
        if clock() + (_COMPILING_S if name == "compiled" else 0.0) >= end:
            continue
        candidate = replace(best, **{name: value})
        seconds[candidate.words()] = taken_s = _or_never(seconds_of, candidate)
        if taken_s < _WORTH_IT * best_s:
            best, best_s = candidate, taken_s
    return Probe(best, {words: taken for words, taken in seconds.items() if math.isfinite(taken)})


def _or_never(seconds_of: Callable[[StepPlan], float], plan: StepPlan) -> float:
    try:
        return seconds_of(plan)
    except Exception:  # Compilers and kernels fail in ways of their own; training goes on without them.
        return math.inf


def _seconds(job: TrainingJob, network: nn.Module, shape: tuple[int, ...], plan: StepPlan) -> float:
    """Seconds of a step of a copy of the network, the optimiser's part included."""
    trial = laid_out(copy.deepcopy(network), len(shape) - 2, plan).train()
    optimiser = optimiser_of(trial, job.recipe, plan)
    forward = forward_of(trial, plan)
    batch = image_laid_out(torch.randn(shape, device=job.device), plan)
    times = []
    for _ in range(_WARM_UP + _TIMED):
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        probe_step(forward, batch, plan.dtype)
        optimiser.step()
        if job.device.type == "cuda":
            torch.cuda.synchronize(job.device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[_WARM_UP:])


def _allowance_s(job: TrainingJob) -> float:
    if job.compiled:  # Asked for, so it is tried.
        return math.inf
    return _LONGEST_S if job.budget_s is None else min(_LONGEST_S, _SHARE_OF_BUDGET * job.budget_s)


def _trials(job: TrainingJob, base: StepPlan) -> list[tuple[str, Any]]:
    """What can be tried on the job's device; on a CPU nothing, unless it computes in reduced precision."""
    device = job.device.type
    found = [] if device == "cpu" and base.dtype is None else list(_TRIALS.get(device, ()))
    compiles = device == "cuda" and _allowance_s(job) > _COMPILING_S if job.compiled is None else job.compiled
    return [*found, ("compiled", True)] if compiles else found


def _key(job: TrainingJob, configuration: Configuration, trials: Sequence[tuple[str, Any]]) -> str:
    """What a measurement holds for: the machine, versions, configuration, patch, optimiser and what was tried."""
    recipe = recipe_to_json(job.recipe)
    return value_hash(
        {
            "machine": _machine(job.device),
            "versions": versions(),
            "configuration": asdict(configuration),
            "patch": list(training_patch(configuration, job.recipe)),
            "channels": configuration.input_channels(len(job.plan.channels)),
            "classes": job.plan.outputs,
            "optimiser": [recipe["optimiser"], recipe["optimiser_options"]],
            "trials": [name for name, _ in trials],
        }
    )


def _machine(device: torch.device) -> list[str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return [device.type, name, platform.machine(), str(torch.get_num_threads())]


def _kept(path: Path) -> dict[str, Any]:
    """The measurements so far; a file that cannot be read is measured anew."""
    try:
        return dict(read_json(path, MssegError)) if path.is_file() else {}
    except MssegError:
        return {}
