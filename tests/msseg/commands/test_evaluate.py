from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from msseg.commands.evaluate import main


def _folders(tmp_path: Path) -> list[str]:
    """Folders of a predicted and a reference label map, whose tumours share 1 of 1 and 2 voxels."""
    for folder, values in (("pred", [1, 1, 1, 2]), ("ref", [1, 1, 2, 2])):
        (tmp_path / folder).mkdir()
        image = SimpleITK.GetImageFromArray(np.array(values, dtype=np.uint8).reshape(1, 2, 2))
        SimpleITK.WriteImage(image, str(tmp_path / folder / "case_00000.nii.gz"))
    return ["-p", str(tmp_path / "pred"), "-r", str(tmp_path / "ref"), "--workers", "1"]


def test_a_challenge_adds_its_line_and_its_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([*_folders(tmp_path), "--challenge", "kits19"]) == 0
    assert "As KiTS19 ranks: 0.8333 (mean Dice of kidney, tumour)." in capsys.readouterr().out
    written = json.loads((tmp_path / "pred" / "evaluation.json").read_text())
    assert written["labels"] == {"kidney": [1, 2], "tumour": 2}
    assert written["challenge"]["score"] == pytest.approx(5 / 6)


def test_labels_may_be_regions(tmp_path: Path):
    assert main([*_folders(tmp_path), "--labels", '{"all": [1, 2]}']) == 0
    written = json.loads((tmp_path / "pred" / "evaluation.json").read_text())
    assert written["summary"]["all"]["mean"]["dice"] == 1.0


def test_an_unknown_challenge_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folders = _folders(tmp_path)
    assert main([*folders, "--challenge", "kits"]) == 1
    assert "kits: no challenge whose ranking is known. Known are kits19" in capsys.readouterr().err
    assert main([*folders, "--challenge", "luna16"]) == 1
    assert "found folders, expected its one file" in capsys.readouterr().err


def test_a_list_of_candidates_is_scored_as_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    header = "seriesuid,coordX,coordY,coordZ,"
    candidates, annotations = tmp_path / "candidates.csv", tmp_path / "annotations.csv"
    candidates.write_text(f"{header}probability\na,1,2,3,0.5\n")
    annotations.write_text(f"{header}diameter_mm\na,1,2,3,8\n")
    arguments = ["-p", str(candidates), "-r", str(annotations)]
    assert main([*arguments, "--challenge", "luna16"]) == 0
    assert "As LUNA16 ranks: 1.0000" in capsys.readouterr().out
    assert json.loads((tmp_path / "evaluation.json").read_text())["figures"]["found"] == 1
    assert main([*arguments, "--challenge", "kits19"]) == 1
    assert "expected a folder of segmentations" in capsys.readouterr().err
