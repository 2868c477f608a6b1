"""The whole line on a tiny task, through the real commands: each in a process of its own, once.

What else they should do is asked of them in this process: a start takes seconds.
"""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_image, write_label
from msseg.files import write_json

TASK = "Task07_Balls"
CASES = 6
TEST_CASES = 2


def ball_case(rng):
    """A noisy volume with a bright ball that holds a brighter one: image (1, z, y, x) and label (z, y, x)."""
    shape = (20, 24, 28)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    distance = np.linalg.norm(grid - rng.uniform(9, 12, 3), axis=-1)
    label = (distance < 7).astype(np.uint8) * 7
    label[distance < 4] = 9
    image = rng.normal(0, 5, shape) + 40 * (label > 0) + 40 * (label == 9)
    return image.astype(np.float32)[None], label


def make_geometry(shape):
    return Geometry(shape, (1.5, 1.0, 1.0), (-10.0, 5.0, 30.0), ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root with the raw data set; the labels have gaps (0, 7, 9)."""
    folder = tmp_path_factory.mktemp("line")
    raw = folder / "raw" / TASK
    rng = np.random.default_rng(0)
    for number in range(CASES + TEST_CASES):
        image, label = ball_case(rng)
        part = "Tr" if number < CASES else "Ts"
        geometry = make_geometry(label.shape)
        write_image(raw / f"images{part}" / f"ball_{number}_0000.nii.gz", image, geometry)
        write_label(raw / f"labels{part}" / f"ball_{number}.nii.gz", label, geometry)
    description = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "shell": 7, "core": 9}}
    write_json(raw / "dataset.json", {**description, "numTraining": CASES, "file_ending": ".nii.gz"})
    return folder


def command(name, *arguments, expected=0):
    """Run a console script as a user does; its standard output."""
    code = f"import sys; from msseg.commands.{name} import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == expected, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(root):
    """The root after planning, preprocessing and one short training."""
    command("plan_and_preprocess", TASK, "--root", root, "--memory", "1GB", "--workers", 2)
    command("train", "7", "0", "--root", root, "--epochs", 1, "--recipe", "budget", "--device", "cpu")
    return root


@pytest.fixture(scope="module")
def predicted(trained, tmp_path_factory):
    """The folder of the test images' segmentations."""
    folder = tmp_path_factory.mktemp("predicted")
    command("predict", "-i", trained / "raw" / TASK / "imagesTs", "-o", folder, "--root", trained, "--device", "cpu")
    return folder


def test_the_line_learns_and_scores_its_own_predictions(trained, predicted):
    table = command("evaluate", "-p", predicted, "-r", trained / "raw" / TASK / "labelsTs")
    result = json.loads((predicted / "evaluation.json").read_text())
    assert len(result["cases"]) == TEST_CASES
    assert result["mean_foreground"]["dice"] > 0.7
    assert "shell" in table
    assert (predicted / "evaluation.csv").read_text().startswith("case,label,dice")


def test_outputs_have_the_data_sets_own_values_and_the_images_grid(predicted):
    label, geometry = read_label(predicted / "ball_6.nii.gz")
    assert set(np.unique(label)) <= {0, 7, 9}
    assert geometry.spacing_mm == (1.5, 1.0, 1.0)
    assert geometry.origin_mm == (-10.0, 5.0, 30.0)


def test_a_fold_leaves_checkpoint_log_curves_and_validation(trained):
    fold = trained / "models" / TASK / "3d_mss_unet" / "fold_0"
    for name in ("checkpoint_final.safetensors", "log.jsonl", "curves.png", "validation.json", "validation.csv"):
        assert (fold / name).stat().st_size > 0
    validated = json.loads((fold / "validation.json").read_text())
    assert len(validated["cases"]) == 2
    assert (fold.parent / "postprocessing.json").is_file()


def test_planning_again_keeps_every_case(called, trained):
    arguments = [TASK, "--root", trained, "--memory", "1GB", "--workers", 1]
    assert "0 cases preprocessed, 6 kept" in called("plan_and_preprocess", *arguments)


def test_training_again_says_that_it_is_complete(called, trained):
    arguments = [TASK, "0", "--root", trained, "--epochs", 1, "--recipe", "budget", "--device", "cpu"]
    assert "trained (epochs, 50 steps)" in called("train", *arguments, "--workers", 1)


def test_a_plan_edited_by_hand_is_honoured_and_a_contradiction_refused(called, trained):
    path = trained / "preprocessed" / TASK / "plan.json"
    before = path.read_text()
    try:
        plan = json.loads(before)
        plan["configurations"]["3d"]["batch_size"] = 3
        path.write_text(json.dumps(plan))
        called("plan_and_preprocess", TASK, "--root", trained, "--memory", "1GB", "--workers", 1)
        assert json.loads(path.read_text())["configurations"]["3d"]["batch_size"] == 3
        plan["configurations"]["3d"]["patch_size"] = [15, 16, 16]
        path.write_text(json.dumps(plan))
        called("plan_and_preprocess", TASK, "--root", trained, "--workers", 1, expected=1)
    finally:
        path.write_text(before)


def test_a_broken_image_is_reported_and_harms_no_other(called, trained, tmp_path):
    images = tmp_path / "in"
    images.mkdir()
    source = trained / "raw" / TASK / "imagesTs" / "ball_6_0000.nii.gz"
    (images / "good_0000.nii.gz").write_bytes(source.read_bytes())
    (images / "pointer_0000.nii.gz").write_text("version https://git-lfs.github.com/spec/v1\n")
    arguments = ["-i", images, "-o", tmp_path / "out", "--root", trained, "--device", "cpu", "--no-mirroring"]
    said = called("predict", *arguments, expected=1)
    assert "failed: pointer" in said
    assert (tmp_path / "out" / "good.nii.gz").is_file()
    assert not (tmp_path / "out" / "pointer.nii.gz").exists()


def test_check_only_names_every_problem_and_fails(called, root, tmp_path):
    raw = tmp_path / "raw" / TASK
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
        for path in (root / "raw" / TASK / part).iterdir():
            (raw / part / path.name).write_bytes(path.read_bytes())
    (raw / "dataset.json").write_bytes((root / "raw" / TASK / "dataset.json").read_bytes())
    (raw / "labelsTr" / "ball_0.nii.gz").unlink()
    (raw / "imagesTr" / "ball_1_0000.nii.gz").write_bytes(b"")
    arguments = [TASK, "--root", tmp_path, "--workers", 1]
    said = called("plan_and_preprocess", *arguments, "--check-only", expected=1)
    assert "ball_0" in said
    assert "ball_1" in said
    skipped = called("plan_and_preprocess", *arguments, "--memory", "1GB", "--skip-broken")
    assert "left out as broken: ball_1" in skipped or "left out as broken: ball_0, ball_1" in skipped


def test_sigterm_stops_training_cleanly_and_the_next_start_goes_on(trained):
    fold = trained / "models" / TASK / "3d_mss_unet" / "fold_1"
    code = "import sys; from msseg.commands.train import main; sys.exit(main(sys.argv[1:]))"
    arguments = [TASK, "1", "--root", str(trained), "--epochs", "2", "--recipe", "budget", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True)
    waited = time.monotonic()
    while '"event": "epoch"' not in (fold / "log.jsonl").read_text() if (fold / "log.jsonl").exists() else True:
        assert process.poll() is None
        assert time.monotonic() - waited < 300
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert (fold / "checkpoint_latest.safetensors").is_file()
    assert not (fold / "checkpoint_final.safetensors").exists()
    assert "trained (epochs, 100 steps)" in command("train", *arguments)
