"""Two processes on this CPU train what one does. They are started once, and run every scenario one after another."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msseg.checkpoint import FINAL, LATEST, load_checkpoint
from msseg.errors import MssegError, ResourceError
from msseg.interrupts import StopRequest
from msseg.processes import Processes, processes_in
from msseg.training import loop
from msseg.training.distributed import ALONE, Team, device_of, joined
from msseg.training.job import TrainingJob
from msseg.training.log import read_log
from msseg.training.optimisers import optimiser_tensors
from msseg.training.recipes import Recipe
from planning.plan import Configuration, Plan
from planning.splits import Split

SHAPE = (10, 12, 11)
NAMES = tuple(f"case_{number}" for number in range(6))
WORLD = 2
# Sums in float32 are added in another order: 1e-7 of each, of which eight steps of momentum, and norms over few voxels,
# make more. The mean of the parts' gradients instead of the whole batch's makes losses differ by 0.2 to 9 %.
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Scenario:
    """A training by two processes: what differs from the usual one, and what happens to a process on the way."""

    recipe: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    stopped_after: int = 0  # steps, when process 1 is asked to stop
    killed_after: int = 0  # steps, when process 1 is killed


SCENARIOS = {
    "plain": Scenario(recipe={"loss": "exp_log_dice_ce"}, configuration={"batch_dice": False}),
    "batch dice": Scenario(recipe={"augmentation": "nnunet"}, job={"augment": "workers"}),
    "batch norm, three patches, a head without weight": Scenario(
        configuration={"network_options": {"norm": "batch"}, "batch_size": 3, "supervision_weights": (1.0, 0.0)},
    ),
    "by the clock": Scenario(
        recipe={"optimiser": "muon", "optimiser_options": (), "learning_rate": 1e-3},
        configuration={"batch_size": 1},
        job={"budget_s": 60.0},
    ),
    "stopped": Scenario(stopped_after=3),
    "killed": Scenario(killed_after=3),  # the last: nothing can follow
}
AS_ONE = ("plain", "batch dice", "batch norm, three patches, a head without weight")


class Clock:
    """A clock of a process's own, on which each look takes `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


def silent(_line: str) -> None:
    pass


def by_brightness(_network, _configuration):
    return lambda image: np.clip(np.rint(image[0]), 0, 2).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(write_store: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of the tiny task."""
    place = tmp_path_factory.mktemp("shared")
    write_store(place / "store")
    return place


@pytest.fixture(scope="module")
def job_of(
    folder: Path, make_plan: Callable[..., Plan], make_configuration: Callable[..., Configuration]
) -> Callable[[str, str], TrainingJob]:
    """The job of a scenario, in a folder of its own below `place`."""

    def make(name: str, place: str) -> TrainingJob:
        scenario = SCENARIOS[name]
        usual = {"median_shape": SHAPE, "batch_size": 4, "batch_dice": True, "supervision_weights": (0.7, 0.3)}
        three = {"strides": ((2, 2, 2),) * 2, "kernel_sizes": ((3, 3, 3),) * 3, "features": (4, 8, 8)}
        three |= {"encoder_convolutions": (1, 1, 1), "decoder_convolutions": (1, 1)}
        configuration = make_configuration(**{**usual, **three, **scenario.configuration})
        labels = {"background": 0, "bright": 1, "brighter": 2}
        recipe = Recipe(
            name="tiny",
            optimiser="sgd",
            optimiser_options=(("momentum", 0.9),),
            learning_rate=2e-2,
            weight_decay=1e-3,
            schedule="cosine",
            warmup=0.1,
            loss="dice_ce",
            augmentation="budget",
            average_decay=0.9,
            epochs=2,
            steps_per_epoch=4,
            validation_batches=1,
            whole_volume_every=1,
        )
        job = TrainingJob(
            store=folder / "store",
            plan=make_plan(configuration, labels=labels, class_weights=(0.2, 0.4, 0.4)),
            configuration_name="3d",
            split=Split(NAMES[:4], NAMES[4:]),
            fold="0",
            recipe=replace(recipe, **scenario.recipe),
            folder=folder / place / name,
            device=torch.device("cpu"),
            workers=0,
        )
        return replace(job, **scenario.job)

    return make


@pytest.fixture(scope="module")
def by_one(job_of: Callable[[str, str], TrainingJob]) -> Path:
    """The folder of the usual training by one process that nothing stopped."""
    job = job_of("stopped", "one")
    train_alone(job)
    return job.folder


@pytest.fixture(scope="module")
def exit_codes(folder: Path, job_of: Callable[[str, str], TrainingJob]) -> list[int | None]:
    """Of the two processes, after all scenarios."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    jobs = {name: job_of(name, "two") for name in SCENARIOS}
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=trains, args=(rank, port, jobs, folder)) for rank in range(WORLD)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
        process.kill()
    return [process.exitcode for process in processes]


def trains(rank: int, port: int, jobs: dict[str, TrainingJob], folder: Path) -> None:
    """One of the two processes: what it has to tell is left in files called by scenario and rank."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(WORLD), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    loop.draw_curves = lambda _folder: None
    loop.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    try:
        with joined(Processes(rank, rank, WORLD, WORLD), "cpu") as team:
            for name, job in jobs.items():
                told = train_in_team(SCENARIOS[name], replace(job, team=team))
                (folder / f"{name} {rank}.json").write_text(json.dumps(told))
    except MssegError as error:
        (folder / f"error {rank}").write_text(str(error))
        raise SystemExit(1) from None


def train_in_team(scenario: Scenario, job: TrainingJob) -> dict[str, Any]:
    stop, rank, runs = StopRequest(), job.team.rank, []
    start_run, train_step = loop.start_run, loop.train_step

    def seen(*arguments):
        runs.append(start_run(*arguments))
        return runs[0]

    def step(run, batch):
        train_step(run, batch)
        if rank == 1 and run.state.step == scenario.stopped_after:
            stop.signal_name = "SIGTERM"
        if rank == 1 and run.state.step == scenario.killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    loop.start_run, loop.train_step = seen, step
    lines: list[str] = []
    clock = Clock(0.5 if rank == 0 else 0.001) if job.budget_s else Clock(0.0)
    try:
        result = loop.train_fold(job, by_brightness, stop, lines.append, clock)
    finally:
        loop.start_run, loop.train_step = start_run, train_step
    return {"ended": result.ended, "steps": result.steps, "lines": len(lines), "weights": digest(runs[0])}


def digest(run: Any) -> str:
    """One number for weights, average and the optimiser's state, to the bit."""
    tensors = [*run.network.state_dict().values(), *run.average.state_dict().values()]
    tensors += optimiser_tensors(run.optimiser).values()
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


def told_by(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{name} {rank}.json").read_text()) for rank in range(WORLD)]


def logged(folder: Path, event: str, key: str) -> list[Any]:
    return [entry[key] for entry in read_log(folder / "log.jsonl") if entry["event"] == event]


def train_alone(job: TrainingJob) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "draw_curves", lambda _folder: None)
        loop.train_fold(job, by_brightness, report=silent)


def assert_same_training(one: Path, two: Path) -> None:
    """Losses and Dice of every epoch, and the weights at the end."""
    np.testing.assert_allclose(logged(one, "epoch", "loss"), logged(two, "epoch", "loss"), rtol=TOLERANCE)
    np.testing.assert_allclose(logged(one, "epoch", "patch_dice"), logged(two, "epoch", "patch_dice"), atol=2e-3)
    assert logged(one, "validation", "dice") == logged(two, "validation", "dice")
    first, second = (load_checkpoint(place / FINAL).weights for place in (one, two))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        np.testing.assert_allclose(tensor, second[name], atol=50 * TOLERANCE, err_msg=name)


@pytest.mark.parametrize("name", AS_ONE)
def test_two_processes_train_as_one_with_the_whole_batch(exit_codes, folder, job_of, name):
    alone = job_of(name, "one")
    train_alone(alone)
    assert_same_training(alone.folder, folder / "two" / name)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "killed"])
def test_both_end_at_the_same_step_with_the_same_weights_and_one_speaks(exit_codes, folder, name):
    first, second = told_by(folder, name)
    assert [first[key] for key in ("ended", "steps", "weights")] == [
        second[key] for key in ("ended", "steps", "weights")
    ]
    assert first["lines"] > 0
    assert second["lines"] == 0
    steps = logged(folder / "two" / name, "epoch", "step")
    assert steps == sorted(set(steps))
    assert logged(folder / "two" / name, "start", "processes") == [WORLD]


def test_the_clock_of_the_first_process_ends_the_training_of_both(exit_codes, folder):
    first, _ = told_by(folder, "by the clock")
    assert first["ended"] == "budget"
    assert 0 < first["steps"] < 60


def test_a_batch_of_one_grows_to_a_patch_for_each_process(exit_codes, folder):
    checkpoint = load_checkpoint(folder / "two" / "by the clock" / LATEST)
    assert checkpoint.configuration.batch_size == WORLD


def test_a_stop_of_one_process_stops_both_and_one_alone_goes_on(exit_codes, folder, job_of, by_one):
    first, _ = told_by(folder, "stopped")
    assert (first["ended"], first["steps"]) == ("stopped", 4)
    resumed = job_of("stopped", "two")
    train_alone(resumed)
    assert_same_training(by_one, resumed.folder)


def test_a_killed_process_ends_the_other_and_training_goes_on_from_the_checkpoint(exit_codes, folder, job_of, by_one):
    assert exit_codes == [1, -signal.SIGKILL]
    assert "another process of this training is gone" in (folder / "error 0").read_text()
    killed = job_of("killed", "two")
    assert 0 < load_checkpoint(killed.folder / LATEST).metadata["state"]["step"] <= 3
    train_alone(killed)
    assert_same_training(by_one, killed.folder)


TORCHRUN = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}


def test_torchruns_variables_say_who_a_process_is():
    assert processes_in({}) is None
    assert processes_in({"RANK": "0", "WORLD_SIZE": "2"}) is None
    assert processes_in({**TORCHRUN, "LOCAL_WORLD_SIZE": "4"}) == Processes(5, 1, 8, 4)
    with pytest.raises(MssegError, match="torchrun"):
        processes_in({**TORCHRUN, "RANK": "first"})


def test_a_batch_is_divided_as_evenly_as_it_goes():
    teams = [Team(Processes(rank, rank, 3)) for rank in range(3)]
    assert [team.rows(8) for team in teams] == [(0, 2), (2, 5), (5, 8)]
    assert teams[0].share(8) == 3
    assert ALONE.rows(8) is None


def test_a_machines_workers_are_shared_by_its_processes():
    assert [Team(Processes(0, 0, 8, 4)).workers(workers) for workers in (16, 6, 2, 0)] == [4, 1, 1, 0]


def test_a_process_takes_the_gpu_of_its_number_or_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of(Processes(5, 1, 8, 4), "auto") == torch.device("cuda:1")
    assert device_of(Processes(5, 1, 8, 4), "cpu") == torch.device("cpu")
    with pytest.raises(ResourceError, match="a GPU of its own"):
        device_of(Processes(5, 1, 8, 4), "cuda:1")
    with pytest.raises(ResourceError, match="shows 2 CUDA devices"):
        device_of(Processes(6, 2, 8, 4), "cuda")


def test_alone_nothing_is_exchanged():
    with joined(None, "cpu") as team:
        assert team is ALONE
        assert team.told_by_lead(lambda: 3) == 3
        with team.lead_first():
            numbers = np.arange(3)
            assert team.added(numbers) is numbers
