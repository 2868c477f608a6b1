from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from msseg.checkpoint import FINAL, LATEST, load_checkpoint
from msseg.errors import CheckpointError, MssegError
from msseg.files import content_hash
from msseg.interrupts import StopRequest
from msseg.training import run
from msseg.training.encoder import weights_record
from msseg.training.job import TrainingJob
from msseg.training.loop import train_fold

MakeJob = Callable[..., TrainingJob]


class StopAtOnce(StopRequest):
    @property
    def requested(self) -> bool:
        return True


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "vgg16.safetensors"
    path.write_bytes(b"some weights")
    return path


@pytest.fixture
def starts(monkeypatch) -> list[Path]:
    """The files that an encoder started from; each sets the first weight of the network to 7."""
    files: list[Path] = []

    def start_encoder(network, path, _report):
        files.append(path)
        with torch.no_grad():
            next(network.parameters()).flatten()[0] = 7.0
        return weights_record(path)

    monkeypatch.setattr(run, "start_encoder", start_encoder)
    return files


def silent(_line: str) -> None:
    pass


def test_the_encoder_starts_from_the_file_once_and_the_checkpoints_keep_its_hash(make_job: MakeJob, weights, starts):
    job = make_job(encoder_weights=weights, epochs=1)
    train_fold(job, stop=StopAtOnce(), report=silent)
    train_fold(job, report=silent)
    assert starts == [weights]
    for name in (LATEST, FINAL):
        record = load_checkpoint(job.folder / name).metadata["encoder_weights"]
        assert record == {"file": "vgg16.safetensors", "hash": content_hash(weights)}


def test_the_moving_average_starts_from_the_file_too(make_job: MakeJob, weights, starts):
    state = run.start_run(make_job(encoder_weights=weights), lambda: 0.0, silent)
    assert state.average is not None
    assert next(state.average.parameters()).flatten()[0] == 7.0


def test_going_on_needs_the_file_no_more_but_refuses_another(make_job: MakeJob, weights, starts, tmp_path):
    train_fold(make_job(encoder_weights=weights, epochs=1), stop=StopAtOnce(), report=silent)
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other weights")
    with pytest.raises(CheckpointError, match="another encoder_weights than asked for"):
        train_fold(make_job(encoder_weights=other, epochs=1), report=silent)
    weights.unlink()
    train_fold(make_job(epochs=1), report=silent)
    assert load_checkpoint(make_job().folder / FINAL).metadata["encoder_weights"]["file"] == "vgg16.safetensors"


def test_a_training_from_random_weights_does_not_take_a_file_later(make_job: MakeJob, weights, starts):
    train_fold(make_job(epochs=1), stop=StopAtOnce(), report=silent)
    with pytest.raises(CheckpointError, match="encoder_weights"):
        train_fold(make_job(encoder_weights=weights, epochs=1), report=silent)
    assert starts == []


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MssegError, match=r"gone\.pth: no such file"):
        weights_record(tmp_path / "gone.pth")
