"""--max-ram under a hard limit of the operating system: every process may hold that much private data and no more."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_image, write_label
from msseg.files import write_json
from msseg.machine import profile as profile_module
from msseg.machine.watch import tree_bytes
from planning.costs.machine import Process, machine_to_json

TASK = "Task06_Blocks"
SHAPE = (64, 128, 128)
CASES = 3
_THREADS = "OMP_NUM_THREADS"


def limited(command, limit, *arguments):
    """Run a command under RLIMIT_DATA; its exit code, what it said, and the most memory that its processes held."""
    import resource

    code = f"import sys; from msseg.commands.{command} import main; sys.exit(main())"
    peak = 0
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    ) as process:
        while process.poll() is None:
            peak = max(peak, tree_bytes(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        assert process.stdout is not None
        said = process.stdout.read()
    return process.returncode, said, peak


@pytest.fixture(scope="module")
def hard_limit():
    """Skips where the system has no limit that holds."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the limit of private data of a process (RLIMIT_DATA) is Linux's")
    code = "import resource as r; r.setrlimit(r.RLIMIT_DATA, (10**8, 10**8)); bytearray(2 * 10**8)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "MemoryError" not in done.stderr:
        pytest.skip("this system does not enforce RLIMIT_DATA")


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_machine):
    """A folder with a data set, and a profile of the machine that gives each process what it is known to take."""
    folder = tmp_path_factory.mktemp("blocks")
    geometry = Geometry(SHAPE, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
    rng = np.random.default_rng(0)
    label = np.zeros(SHAPE, np.uint8)
    label[20:40, 40:80, 50:90] = 1
    for number in range(CASES):
        image = np.rint(rng.normal(100.0 * label, 10.0))[None].astype(np.float32)
        write_image(folder / TASK / f"imagesTr/block_{number}_0000.nii", image, geometry)
        write_label(folder / TASK / f"labelsTr/block_{number}.nii", label, geometry)
    labels = {"background": 0, "block": 1}
    write_json(folder / TASK / "dataset.json", {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii"})
    processes = {
        "prepare": Process(1.0, 120_000_000, 60_000_000),
        "evaluate": Process(1.0, 130_000_000, 80_000_000),
        "prepare by workers": Process(1.0, 80_000_000, 50_000_000),
        "evaluate by workers": Process(1.0, 110_000_000, 70_000_000),
        "examining": Process(0.5, 90_000_000, 60_000_000),
        "preparing": Process(0.5, 90_000_000, 60_000_000),
        "evaluating": Process(0.5, 130_000_000, 80_000_000),
        "server": Process(0.1, 16_000_000, 8_000_000),
        "train": Process(4.0, 480_000_000, 330_000_000),
        "predict": Process(2.0, 330_000_000, 220_000_000),
    }
    machine = make_machine()
    known = machine_to_json(make_machine(processes={**machine.processes, **processes}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSSEG_CACHE", str(folder / "cache"))
        patch.setenv(_THREADS, "1")
        write_json(profile_module._profile_path(None, profile_module.machine_identity()), known)
        yield folder


def test_preprocessing_stays_within_its_limit_with_fewer_workers(hard_limit, place):
    limit = 170_000_000
    arguments = [place / TASK, "--root", place / "root", "--workers", 3, "--memory", "200MB", "--network", "plain_unet"]
    code, said, peak = limited("plan_and_preprocess", limit, *arguments, "--max-ram", f"{limit}B", "-v")
    assert code == 0, said
    assert "3 cases preprocessed" in said
    assert "1 workers" in said
    assert 0 < peak <= limit


def test_preprocessing_takes_thinner_slabs_where_not_even_one_worker_fits(hard_limit, place):
    limit = 142_000_000  # 120 MB and a case: 25 MB whole or by usual slabs, 20 MB by the thinnest
    arguments = [place / TASK, "--root", place / "thin", "--workers", 3, "--memory", "200MB", "--network", "plain_unet"]
    code, said, _ = limited("plan_and_preprocess", limit, *arguments, "--max-ram", f"{limit}B", "--explain")
    assert code == 0, said
    assert "workers 1 of 3 asked for; slabs the thinnest" in said
    code, said, peak = limited("plan_and_preprocess", limit, *arguments, "--max-ram", f"{limit}B", "-v")
    assert code == 0, said
    assert "3 cases preprocessed" in said
    assert 0 < peak <= limit


def test_preprocessing_says_what_it_needs_where_the_limit_is_too_small(hard_limit, place):
    code, said, _ = limited("plan_and_preprocess", 10**9, place / TASK, "--root", place / "none", "--max-ram", "95MB")
    assert code == 1
    assert "preprocessing needs at least" in said
    assert not (place / "none").exists()


def test_evaluation_stays_within_its_limit(hard_limit, place):
    limit = 200_000_000
    labels = place / TASK / "labelsTr"
    arguments = ["-p", labels, "-r", labels, "-o", place / "evaluation.json", "--workers", 3]
    code, said, peak = limited("evaluate", limit, *arguments, "--max-ram", f"{limit}B")
    assert code == 0, said
    assert 0 < peak <= limit


def test_prediction_stays_within_its_limit(hard_limit, place, make_plan, make_configuration):
    from msseg.checkpoint import Checkpoint, save_checkpoint
    from msseg.networks.build import build_network

    classes = {"background": 0, **{f"class {index}": index for index in range(1, 20)}}
    configuration = make_configuration(patch_size=(32, 64, 64), features=(2, 4), spacing_mm=(2.0, 1.0, 1.0))
    plan = make_plan(configuration, labels=classes, class_weights=(1 / len(classes),) * len(classes))
    network = build_network(configuration, 1, len(classes))
    path = place / "model/fold_0/checkpoint_final.safetensors"
    save_checkpoint(path, Checkpoint(network.state_dict(), plan, configuration.name))
    limit = 800_000_000
    (place / "images").mkdir()
    (place / "images/block_0.nii").symlink_to(place / TASK / "imagesTr/block_0_0000.nii")
    arguments = ["-i", place / "images", "-o", place / "out", "-m", place / "model", "--device", "cpu"]
    options = ["--no-mirroring", "--max-ram", f"{limit}B"]
    code, said, peak = limited("predict", limit, *arguments, *options)
    assert code == 0, said
    assert 0 < peak <= limit
    assert read_label(place / "out/block_0.nii")[0].shape == SHAPE


@pytest.fixture(scope="module")
def prepared(hard_limit, place):
    """The root of the data set's plan and prepared cases."""
    arguments = [place / TASK, "--root", place / "trained", "--workers", 1, "--memory", "200MB"]
    code, said, _ = limited("plan_and_preprocess", 10**9, *arguments, "--network", "plain_unet")
    assert code == 0, said
    return place / "trained"


def training(root, limit):
    """What training two steps of a narrow network within `limit` bytes takes as arguments."""
    changes = ("steps_per_epoch=2", "validation_batches=1", "batch_size=1", "base_features=4")
    length = ["--recipe", "nnunet", "--epochs", 1, *(word for change in changes for word in ("--set", change))]
    return [TASK, 0, "--root", root, "--device", "cpu", "--workers", 2, *length, "--max-ram", f"{limit}B"]


def test_training_stays_within_its_limit_with_its_validation(prepared):
    limit = 1_100_000_000
    code, said, peak = limited("train", limit, *training(prepared, limit))
    assert code == 0, said
    assert "trained (epochs, 2 steps)" in said
    assert "Validation on" in said
    assert 0 < peak <= limit


def test_training_is_refused_before_it_starts_where_a_step_does_not_fit(prepared):
    code, said, _ = limited("train", 10**9, *training(prepared, 500_000_000), "--restart")
    assert code == 1
    assert "training needs at least" in said
    assert "Plan with a smaller --memory, or give more" in said
    assert "epoch 0" not in said
