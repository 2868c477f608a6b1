import json
import shutil

import pytest

from msseg.errors import CheckpointError
from msseg.instances.decision import Decision
from msseg.pipeline.inference_file import Inference, Member, read_inference, write_inference
from msseg.postprocessing.rules import LARGEST_TOGETHER, Rule


@pytest.fixture
def models(tmp_path):
    for model, fold in (("3d", "0"), ("3d", "1"), ("2d", "0")):
        (tmp_path / "models" / model / f"fold_{fold}").mkdir(parents=True)
    return tmp_path / "models"


@pytest.fixture
def written(models):
    members = (Member(models / "3d", ("0", "1")), Member(models / "2d", ("0",)))
    rules = (Rule(LARGEST_TOGETHER, (1, 2)),)
    inference = Inference(members, rules, Decision(foreground=0.4), "dice", {"chosen": "both", "value": None})
    write_inference(models / "inference.json", inference)
    return models / "inference.json", inference


def test_what_is_written_is_read_again(written):
    path, inference = written
    assert read_inference(path) == inference
    assert [row["model"] for row in json.loads(path.read_text())["members"]] == ["3d", "2d"]


def test_file_and_models_move_together(written, tmp_path):
    path, inference = written
    shutil.move(path.parent, tmp_path / "elsewhere")
    found = read_inference(tmp_path / "elsewhere" / "inference.json")
    assert [member.model for member in found.members] == [tmp_path / "elsewhere" / "3d", tmp_path / "elsewhere" / "2d"]
    assert found.rules == inference.rules and found.decision == inference.decision


def test_a_member_that_is_gone_is_named(written):
    path, _ = written
    shutil.rmtree(path.parent / "3d" / "fold_1")
    with pytest.raises(CheckpointError, match=r"folds 1 of .*3d are not there"):
        read_inference(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 9}, "version 9, expected 1"),
        ({"members": []}, "names no model"),
        ({"members": [{"model": "3d"}]}, "not a file of msseg_find_best"),
        ({"postprocessing": {"version": 1, "rules": [{"rule": "magic", "classes": [1]}]}}, "magic"),
        ({"decision": {"version": 1, "foreground": 2}}, "foreground"),
    ],
)
def test_a_malformed_file_says_what_is_wrong(written, changes, message):
    path, _ = written
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=message):
        read_inference(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_inference(tmp_path / "inference.json")
