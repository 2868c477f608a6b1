"""All folds of two tiny networks, compared, and the choice predicted with: the commands as a user calls them."""

import json
import re
import shlex

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_image, write_label
from msseg.errors import CheckpointError, DatasetError, MssegError, ResourceError
from msseg.files import read_json, write_json
from msseg.folders import find_task
from msseg.parallel import case_executor
from msseg.pipeline.find_best import FindBestOptions, find_best
from msseg.pipeline.inference_file import Inference, Member, read_inference, write_inference
from msseg.pipeline.inference_prediction import predict_inference
from msseg.pipeline.planning import PlanningOptions, plan_and_preprocess
from msseg.pipeline.prediction import OutputWish

TASK = "Dataset003_Bars"
SHAPE = (4, 16, 18)
CASES = 6
TINY = ["--epochs", "1", "--recipe", "budget", "--device", "cpu", "--workers", "1", "--quiet"]
TINY += ["--set", "steps_per_epoch=2", "--set", "validation_batches=1", "--set", "base_features=4"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Six volumes of three patients with a bright bar, planned and preprocessed, and folders of two to predict."""
    root = tmp_path_factory.mktemp("root")
    raw = root / "raw" / TASK
    generator = np.random.default_rng(0)
    geometry = Geometry(SHAPE, (3.0, 1.0, 1.0))
    for number in range(CASES + 2):
        label = np.zeros(SHAPE, np.uint8)
        label[1:3, 4:11, 3 + number : 9 + number] = 5
        image = generator.normal(0, 1, SHAPE).astype(np.float32) + 3 * (label > 0)
        part, name = ("Tr" if number < CASES else "Ts"), f"p{number // 2}_{number}"
        write_image(raw / f"images{part}" / f"{name}_0000.nii.gz", image[None], geometry)
        write_label(raw / f"labels{part}" / f"{name}.nii.gz", label, geometry)
    description = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "bar": 5}}
    write_json(raw / "dataset.json", {**description, "numTraining": CASES, "file_ending": ".nii.gz"})
    plan_and_preprocess(TASK, root, PlanningOptions(memory_bytes=300_000_000, network="plain_unet"), workers=1)
    return root


@pytest.fixture(scope="module")
def trained(called, root):
    """All folds in 3D, and one of 2D; patients stay together, so there are three folds."""
    arguments = [TASK, "all-folds", "--root", root, "--group-by", "p\\d+", *TINY]
    called("train", *arguments)
    called("train", TASK, "1", "--root", root, "--configuration", "2d", *TINY)
    return root


@pytest.fixture(scope="module")
def compared(called, trained):
    """Both models complete and compared; what the command said before and after."""
    before = called("find_best", TASK, "--root", trained, "--device", "cpu", "--workers", "1")
    for line in re.findall(r"^  msseg_train (.*)$", before, re.M):
        called("train", *shlex.split(line), "--root", trained, "--device", "cpu", "--workers", "1", "--quiet")
    after = called("find_best", TASK, "--root", trained, "--device", "cpu", "--workers", "1", "--prefer", "highest")
    return trained, before, after


def files_of(root, pattern):
    return {path: path.stat().st_mtime_ns for path in (root / "models" / TASK).glob(pattern)}


def figures_of(said):
    """What was found, without how long it took."""
    return said[: said.index("Written:")]


def test_every_fold_is_trained_once_and_then_left_as_it_is(called, trained):
    files = files_of(trained, "3d*/fold_*/*")
    assert {path.parent.name for path in files} == {"fold_0", "fold_1", "fold_2"}
    arguments = [word for word in TINY if word != "--quiet"]
    said = called("train", TASK, "all-folds", "--root", trained, *arguments)
    assert "All folds are trained" in said and f"msseg_find_best {TASK}" in said
    again = files_of(trained, "3d*/fold_*/*")
    assert all(again[path] == when for path, when in files.items() if path.name != "log.jsonl")


def test_an_incomplete_model_is_named_with_the_commands_that_complete_it(compared):
    _, before, after = compared
    assert "2d_plain_unet: left out (fold 0: not trained; fold 2: not trained)" in before
    assert "left out (" not in after
    assert "2d_plain_unet + 3d_plain_unet" not in before and "2d_plain_unet + 3d_plain_unet" in after


def test_the_chosen_model_is_written_with_figures_and_its_command(compared):
    root, _, after = compared
    path = root / "models" / TASK / "inference.json"
    assert f"msseg_predict -i IMAGES -o SEGMENTATIONS --inference {path}" in after
    figures = read_json(path)["figures"]
    assert (figures["cases"], figures["groups"]) == (6, 3)
    assert [len(one["members"]) for one in figures["candidates"]].count(2) == 1
    best = figures["candidates"][0]
    assert best["to_best"] == 0 and best["interval"][0] <= best["figure"] <= best["interval"][1]
    assert figures["chosen"] == " + ".join(best["members"]) == figures["best"]


def test_a_probability_file_that_was_deleted_is_made_again_and_no_other(called, compared):
    root, _, after = compared
    files = files_of(root, "*/fold_*/validation_probabilities/*.npz")
    assert len(files) == 2 * CASES
    gone = sorted(files)[0]
    content = gone.read_bytes()
    gone.unlink()
    again = called("find_best", TASK, "--root", root, "--device", "cpu", "--workers", "1", "--prefer", "highest")
    assert figures_of(again) == figures_of(after) and gone.read_bytes() == content
    assert all(path.stat().st_mtime_ns == when for path, when in files.items() if path != gone)


def test_a_figure_is_that_of_the_validation_of_the_folds(compared):
    root, _, _ = compared
    folds = [
        read_json(path)["cases"] for path in sorted((root / "models" / TASK / "3d_plain_unet").glob("fold_*/v*.json"))
    ]
    dice = [case["labels"]["bar"]["dice"] for cases in folds for case in cases]
    figures = read_json(root / "models" / TASK / "inference.json")["figures"]["candidates"]
    single = next(one for one in figures if one["members"] == ["3d_plain_unet"])
    assert single["untreated"] == pytest.approx(np.mean(dice), abs=0.02)


@pytest.mark.parametrize("limit", [(), ("--max-ram", "2GB")])
def test_an_ensemble_predicts_the_mean_of_its_members(called, compared, tmp_path, limit, make_machine, monkeypatch):
    root, _, _ = compared
    monkeypatch.setattr("msseg.machine.measured_machine", lambda **_: make_machine())
    images, models = root / "raw" / TASK / "imagesTs", root / "models" / TASK
    members = [{"model": name, "folds": ["0", "1", "2"]} for name in ("2d_plain_unet", "3d_plain_unet")]
    rows = {"version": 1, "rules": []}
    value = {
        "version": 1,
        "members": members,
        "postprocessing": rows,
        "decision": None,
        "metric": "dice",
        "figures": {},
    }
    path = models / "pair.json"
    path.write_text(json.dumps(value))
    common = ["-i", images, "--device", "cpu", "--quiet"]
    for name in ("2d_plain_unet", "3d_plain_unet"):
        options = ["--no-postprocessing", "--no-decision", "--save-probabilities"]
        called("predict", *common, "-o", tmp_path / name, "-m", models / name, *options)
    called("ensemble", "-i", tmp_path / "2d_plain_unet", tmp_path / "3d_plain_unet", "-o", tmp_path / "by files")
    called("predict", *common, "-o", tmp_path / "at once", "--inference", path, *limit)
    for name in ("p3_6.nii.gz", "p3_7.nii.gz"):
        (expected, _), (found, geometry) = (read_label(tmp_path / room / name) for room in ("by files", "at once"))
        assert (expected != found).sum() <= 2  # voxels at which both classes tie but for rounding
        assert set(np.unique(found)) <= {0, 5} and geometry.spacing_mm == (3.0, 1.0, 1.0)
    assert not (tmp_path / "at once" / ".members").exists()
    said = called("predict", *common[:-1], "-o", tmp_path / "at once", "--inference", path, *limit)
    assert "0 written, 2 were there already" in said


def test_workers_of_an_executor_predict_members_as_the_command_alone(compared, tmp_path):
    root, _, _ = compared
    images, models = root / "raw" / TASK / "imagesTs", root / "models" / TASK
    names = ("2d_plain_unet", "3d_plain_unet")
    for members in (names, names[1:]):
        listed = tuple(Member(models / name, ("0", "1", "2")) for name in members)
        path = models / f"{len(members)}.json"
        write_inference(path, Inference(listed, (), None, "dice", {}))
        alone, spread = (tmp_path / f"{word} {len(members)}" for word in ("alone", "spread"))
        wish = OutputWish(probability_bits=8)
        predict_inference(images, alone, path, device="cpu", outputs=wish)
        with case_executor(1) as executor:
            report = predict_inference(images, spread, path, device="cpu", outputs=wish, executor=executor)
        assert len(report.written) == 2 and report.is_complete and not (spread / ".members").exists()
        for name in ("p3_6", "p3_7"):
            (expected, _), (found, _) = (read_label(room / f"{name}.nii.gz") for room in (alone, spread))
            assert (expected != found).sum() <= (2 if len(members) > 1 else 0)
            assert (spread / f"{name}.probabilities.npz").is_file()


def test_workers_of_an_executor_make_what_is_missing_and_compare(compared):
    root, _, _ = compared
    gone = sorted(files_of(root, "*/fold_*/validation_probabilities/*.npz"))[-1]
    content = gone.read_bytes()
    gone.unlink()
    options = FindBestOptions(ensembles=False, draws=20)
    with case_executor(1) as executor:
        spread = find_best(TASK, root, options, device="cpu", workers=1, executor=executor)
    assert gone.read_bytes() == content
    alone = find_best(TASK, root, options, device="cpu", workers=1)
    assert [(row.name, row.figure) for row in spread.rows] == [(row.name, row.figure) for row in alone.rows]


def test_a_limit_of_memory_is_kept_with_fewer_workers_or_refused(compared, make_machine, monkeypatch):
    root, _, _ = compared
    monkeypatch.setattr("msseg.machine.measured_machine", lambda **_: make_machine())
    options = FindBestOptions(ensembles=False, draws=20)
    report = find_best(TASK, root, options, device="cpu", workers=2, max_ram=2 * 10**9)
    assert report.path is not None
    with pytest.raises(ResourceError, match="--max-ram 60 MB: comparing needs at least"):
        find_best(TASK, root, options, device="cpu", workers=2, max_ram=6 * 10**7)


def test_one_member_predicts_as_its_model_does(called, compared, tmp_path):
    root, _, _ = compared
    report = find_best(TASK, root, FindBestOptions(ensembles=False), device="cpu", workers=1)
    assert len(report.rows) == 2
    chosen = read_inference(root / "models" / TASK / "inference.json")
    (member,) = chosen.members
    common = ["-i", root / "raw" / TASK / "imagesTs", "--device", "cpu", "--quiet"]
    called("predict", *common, "-o", tmp_path / "file", "--inference", report.path, "--no-postprocessing")
    options = ["--no-postprocessing", "--no-decision"]
    called("predict", *common, "-o", tmp_path / "model", "-m", member.model, "-f", *member.folds, *options)
    for name in ("p3_6.nii.gz", "p3_7.nii.gz"):
        assert np.array_equal(*(read_label(tmp_path / room / name)[0] for room in ("file", "model")))


def test_the_metric_may_be_a_challenges(compared):
    root, _, _ = compared
    options = FindBestOptions(challenge="decathlon", ensembles=False, draws=20)
    report = find_best(TASK, root, options, device="cpu", workers=1)
    assert report.metric == "decathlon" and 0 <= report.rows[-1].figure.value <= report.rows[0].figure.value <= 1


def test_without_a_complete_model_the_commands_are_the_error(root, tmp_path):
    task = find_task(TASK, root)
    assert task.preprocessed.is_dir()
    with pytest.raises(MssegError, match="--prefer dearest: unknown"):
        find_best(TASK, root, FindBestOptions(prefer="dearest"))


def test_a_task_without_folds_is_told_to_train(tmp_path, root):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / TASK).symlink_to(root / "raw" / TASK)
    with pytest.raises(DatasetError, match="all-folds"):
        find_best(TASK, tmp_path)
    write_json(
        tmp_path / "preprocessed" / TASK / "splits.json",
        {"group_by": None, "cases": ["p0_0"], "folds": [{"train": ["p0_1"], "validation": ["p0_0"]}]},
    )
    with pytest.raises(CheckpointError, match="no trained folds"):
        find_best(TASK, tmp_path)
