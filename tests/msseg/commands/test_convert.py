import numpy as np
import pytest
from PIL import Image

from msseg.commands import convert
from msseg.files import read_json, write_json
from msseg.machine import profile as profile_module
from planning.costs.machine import machine_to_json

MASK = np.array([[0, 0, 9, 9], [0, 0, 0, 0], [9, 0, 0, 0]], np.uint8)


@pytest.fixture
def pictures(tmp_path):
    """Two images with masks."""
    for folder, array in (("images", np.arange(12, dtype=np.uint8).reshape(3, 4)), ("masks", MASK)):
        (tmp_path / "pictures" / folder).mkdir(parents=True)
        for name in "ab":
            Image.fromarray(array).save(tmp_path / "pictures" / folder / f"{name}.png")
    return tmp_path / "pictures"


def run(*arguments):
    return convert.main([*map(str, arguments), "--workers", "1"])


def test_a_folder_is_converted_and_summed_up(pictures, tmp_path, capsys):
    assert run("--from", "folder", pictures, tmp_path / "set", "--labels", "background=0", "cell=9") == 0
    assert "2 cases converted" in capsys.readouterr().out
    assert read_json(tmp_path / "set/dataset.json")["labels"] == {"background": 0, "cell": 9}


def test_a_case_that_fails_makes_the_exit_code_non_zero(pictures, tmp_path, capsys):
    (pictures / "images/b.png").write_text("no image")
    assert run("--from", "folder", pictures, tmp_path / "set", "-q") == 1
    said = capsys.readouterr()
    assert said.out == "" and "1 cases converted" in said.err and "b.png" in said.err


def test_a_folder_of_another_kind_is_one_line(tmp_path, capsys):
    assert run("--from", "dsb2018", tmp_path, tmp_path / "set") == 1
    assert "no stage1_train/<id>/images" in capsys.readouterr().err


@pytest.mark.parametrize("label", ["cell", "=1", "cell=x"])
def test_a_malformed_label_is_refused(pictures, tmp_path, capsys, label):
    with pytest.raises(SystemExit) as stop:
        run("--from", "folder", pictures, tmp_path / "set", "--labels", label)
    assert stop.value.code == 2 and "expected NAME=VALUE" in capsys.readouterr().err


def test_a_conversion_is_explained_and_nothing_is_done(pictures, tmp_path, monkeypatch, make_machine, capsys):
    monkeypatch.setenv("MSSEG_CACHE", str(tmp_path / "cache"))
    write_json(profile_module._profile_path(None, profile_module.machine_identity()), machine_to_json(make_machine()))
    assert run("--from", "folder", pictures, tmp_path / "set", "--explain") == 0
    assert not (tmp_path / "set").exists()
    assert "wall time" in capsys.readouterr().out
