import numpy as np
import pytest
import torch
from PIL import Image

from msseg.checkpoint import Checkpoint, save_checkpoint
from msseg.commands import submit
from msseg.data.geometry import Geometry
from msseg.files import write_json
from msseg.inference.probability_files import probabilities_path, write_probabilities
from msseg.machine import profile as profile_module
from planning.costs.machine import machine_to_json


@pytest.fixture
def predictions(tmp_path):
    """One mask of two objects."""
    (tmp_path / "pred").mkdir()
    Image.fromarray(np.array([[1, 0, 2], [1, 0, 2]], np.uint16)).save(tmp_path / "pred/a.png")
    return tmp_path / "pred"


def run(*arguments):
    return submit.main([str(one) for one in arguments])


def test_a_submission_is_written_and_can_be_checked_alone(predictions, tmp_path, capsys):
    assert run("--challenge", "dsb2018", "-i", predictions, "-o", tmp_path / "s.csv", "-r", predictions) == 0
    assert (tmp_path / "s.csv").read_text() == "ImageId,EncodedPixels\na,1 2\na,5 2\n"
    assert "2 objects in 1 images" in capsys.readouterr().out
    assert run("--challenge", "dsb2018", "--check", tmp_path / "s.csv", "-r", predictions) == 0
    assert "no fault found." in capsys.readouterr().out


def test_a_faulty_file_is_named_line_by_line(tmp_path, capsys):
    path = tmp_path / "s.csv"
    path.write_text("ImageId,EncodedPixels\na,1 2 3\nb,2 1 1 1\n")
    assert run("--challenge", "dsb2018", "--check", path) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{path}, line 2: an odd count") and said[1].startswith(f"{path}, line 3: the run at 1")


def test_the_challenge_of_a_file_to_check_is_found_from_the_file(tmp_path, capsys):
    path = tmp_path / "s.csv"
    path.write_text("ImageId,EncodedPixels\na,1 1\n")
    assert run("--check", path) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{path}: taken for a submission to dsb2018."


def test_threshold_and_score_of_candidates_are_taken(tmp_path):
    grid = Geometry((1, 1, 4), (1.0, 1.0, 1.0))
    nodule = np.array([0.2, 0.4, 0, 0.05], np.float32).reshape(grid.shape)
    path = probabilities_path("LIDC-IDRI-0001", tmp_path / "pred")
    write_probabilities(path, np.stack([1 - nodule, nodule]), grid, {"background": 0, "nodule": 1})
    arguments = ("--challenge", "lidc", "-i", tmp_path / "pred", "-o", tmp_path / "s.csv", "--score", "mean")
    assert run(*arguments, "--threshold", "0.01") == 0
    rows = (tmp_path / "s.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1::3] for row in rows] == [["0.5000", "0.300000"], ["3.0000", "0.050004"]]
    assert run(*arguments) == 0 and len((tmp_path / "s.csv").read_text().splitlines()) == 2


def test_a_container_is_written(tmp_path, monkeypatch, make_machine, make_plan, make_configuration):
    configuration = make_configuration()
    weights = tmp_path / "model/fold_0/checkpoint_final.safetensors"
    save_checkpoint(weights, Checkpoint({"w": torch.zeros(3)}, make_plan(configuration), configuration.name))
    monkeypatch.setenv("MSSEG_CACHE", str(tmp_path / "cache"))
    write_json(profile_module._profile_path(None, profile_module.machine_identity()), machine_to_json(make_machine()))
    arguments = (
        "--container",
        tmp_path / "c",
        "-m",
        tmp_path / "model",
        "--channels",
        "t2-mri",
        "adc",
        "--slug",
        "prostate",
    )
    assert run(*arguments, "--explain") == 0 and not (tmp_path / "c").exists()
    assert run(*arguments) == 0
    assert 'MSSEG_CHANNELS="t2-mri adc" MSSEG_SLUG="prostate"' in (tmp_path / "c/Dockerfile").read_text()
    assert (tmp_path / "c/model/fold_0/checkpoint_final.safetensors").read_bytes() == weights.read_bytes()


def test_many_faults_are_counted(tmp_path, capsys):
    path = tmp_path / "s.csv"
    path.write_text("ImageId,EncodedPixels\n" + "a,1\n" * 25)
    assert run("--challenge", "dsb2018", "--check", path, "-q") == 1
    assert capsys.readouterr().err.splitlines()[-1] == "and 5 more faults"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--challenge", "dsb2019", "-i", "pred", "-o", "s.csv"], "no such challenge. Known are dsb2018, isbi2012"),
        (["--challenge", "folder", "-i", "pred", "-o", "s.csv"], "has no submission file"),
        (["--challenge", "dsb2018", "-i", "pred"], "Name it with -o"),
        (["-i", "pred", "-o", "s.csv"], "Name it with --challenge"),
        (["--check", "pred/a.png"], "looks like a file of no challenge"),
        (["--container", "container"], "Name it with -m"),
        (["--container", "container", "-m", "pred"], "no trained fold"),
        (["--challenge", "dsb2018", "-i", "nowhere", "-o", "s.csv"], "no such folder"),
        (["--challenge", "dsb2018", "--check", "nowhere.csv"], "no such file"),
        (["--challenge", "dsb2018", "-i", "pred", "-o", "pred"], "found a folder"),
        (["--challenge", "dsb2018", "-i", "pred", "-o", "s.csv", "-r", "nowhere"], "Name them with -r"),
    ],
)
def test_what_cannot_be_done_is_one_line(predictions, monkeypatch, capsys, arguments, reason):
    monkeypatch.chdir(predictions.parent)
    assert run(*arguments) == 1
    assert reason in capsys.readouterr().err


def test_a_submission_is_explained_and_nothing_is_done(predictions, tmp_path, monkeypatch, make_machine, capsys):
    monkeypatch.setenv("MSSEG_CACHE", str(tmp_path / "cache"))
    write_json(profile_module._profile_path(None, profile_module.machine_identity()), machine_to_json(make_machine()))
    assert run("--challenge", "dsb2018", "-i", predictions, "-o", tmp_path / "s.csv", "--explain") == 0
    assert not (tmp_path / "s.csv").exists()
    assert "wall time" in capsys.readouterr().out
