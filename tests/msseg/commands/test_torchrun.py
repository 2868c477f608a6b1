"""msseg_train as torchrun starts it: two processes, one preparation, one log, one voice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from msseg.commands import train as command
from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.files import read_json, write_json
from msseg.pipeline.planning import PlanningOptions, plan_and_preprocess
from msseg.training.log import read_log

REPOSITORY = Path(__file__).resolve().parents[3]
TASK = "Dataset003_Bars"
SHAPE = (4, 16, 18)
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "msseg.commands.train"]
TINY = ["--recipe", "budget", "--device", "cpu", "--workers", "1", "--configuration", "2d"]
TINY += ["--set", "steps_per_epoch=2", "--set", "validation_batches=1", "--set", "base_features=4"]
TINY += ["--set", "batch_size=2"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five volumes with a bright bar, planned and prepared in 3D."""
    root = tmp_path_factory.mktemp("root")
    raw = root / "raw" / TASK
    generator = np.random.default_rng(0)
    geometry = Geometry(SHAPE, (3.0, 1.0, 1.0))
    for number in range(5):
        label = np.zeros(SHAPE, np.uint8)
        label[1:3, 4:11, 3 + number : 9 + number] = 1
        image = generator.normal(0, 1, SHAPE).astype(np.float32) + 3 * (label > 0)
        write_image(raw / "imagesTr" / f"bar_{number}_0000.nii.gz", image[None], geometry)
        write_label(raw / "labelsTr" / f"bar_{number}.nii.gz", label, geometry)
    description = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "bar": 1}}
    write_json(raw / "dataset.json", {**description, "numTraining": 5, "file_ending": ".nii.gz"})
    plan_and_preprocess(TASK, root, PlanningOptions(memory_bytes=300_000_000, network="plain_unet"), workers=1)
    return root


def by_torchrun(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *TORCHRUN, TASK, *arguments, "--root", str(root), *TINY],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )


def test_two_processes_prepare_once_train_together_and_validate_once(root):
    done = by_torchrun(root, "0", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained (epochs, 2 steps)") == 1
    assert done.stderr.count("epoch 0: loss") == 1
    fold = root / "models" / TASK / "2d_plain_unet" / "fold_0"
    assert len(list(fold.glob("log*"))) == 1
    assert [entry["processes"] for entry in read_log(fold / "log.jsonl") if entry["event"] == "start"] == [2]
    assert len(read_json(fold / "validation.json")["cases"]) == 1

    assert command.main([TASK, "0", "--root", str(root), *TINY, "--epochs", "2", "--quiet"]) == 0
    assert [entry["epoch"] for entry in read_log(fold / "log.jsonl") if entry["event"] == "epoch"] == [0, 1]


def test_an_error_of_one_process_ends_all_and_is_said(root):
    done = by_torchrun(root, "9")
    assert done.returncode != 0
    assert "msseg_train: error: FOLD 9: no such fold" in done.stderr
