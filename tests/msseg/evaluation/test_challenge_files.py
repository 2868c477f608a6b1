from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from msseg.errors import DatasetError
from msseg.evaluation.challenge_files import file_score_table, score_candidates, score_membranes

HEADER = "seriesuid,coordX,coordY,coordZ,"


def _write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def test_candidates_are_scored_with_all_that_lies_beside_the_annotations(tmp_path: Path):
    submission = _write(tmp_path / "pred.csv", HEADER + "probability", "a,0,0,0,0.5", "a,50,0,0,0.9", "x,0,0,0,1")
    folder = tmp_path / "reference"
    folder.mkdir()
    annotations = _write(folder / "annotations.csv", HEADER + "diameter_mm", "a,0,0,0,8")
    # Without the other lists, the mark at 50 mm and scan x count: 2 scans, 2 false marks.
    alone = score_candidates(submission, annotations)
    assert (alone.figures["scans"], alone.figures["false positives"]) == (2, 2)
    _write(folder / "annotations_excluded.csv", HEADER + "diameter_mm", "a,50,0,0,-1")
    _write(folder / "seriesuids.csv", "a", "b")
    score = score_candidates(submission, folder)
    assert (score.score, score.figures["scans"], score.figures["false positives"]) == (1.0, 2, 0)
    assert "As LUNA16 ranks: 1.0000 (mean sensitivity at 1/8" in file_score_table(score)


def test_a_missing_list_is_named(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"annotations\.csv: no such file"):
        score_candidates(tmp_path / "pred.csv", tmp_path)


def test_membranes_are_scored_at_the_best_threshold(tmp_path: Path):
    labels = np.full((2, 9, 9), 255, dtype=np.uint8)
    labels[:, :, 4] = 0
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    tifffile.imwrite(tmp_path / "pred.tif", np.where(labels > 0, 0.9, 0.55).astype(np.float32))
    score = score_membranes(tmp_path / "pred.tif", tmp_path / "labels.tif")
    assert (score.score, score.figures["threshold of V Rand"]) == (pytest.approx(1.0), 0.6)
    tifffile.imwrite(tmp_path / "pred.tif", labels)  # 8 bits: 255 is certain
    assert score_membranes(tmp_path / "pred.tif", tmp_path / "labels.tif").score == pytest.approx(1.0)


def test_stacks_that_do_not_fit_are_refused(tmp_path: Path):
    tifffile.imwrite(tmp_path / "labels.tif", np.ones((2, 9, 9), dtype=np.uint8))
    tifffile.imwrite(tmp_path / "pred.tif", np.ones((5, 9, 9), dtype=np.float32))
    with pytest.raises(DatasetError, match=r"\(5, 9, 9\) \(page, y, x\); expected \(2, 9, 9\)"):
        score_membranes(tmp_path / "pred.tif", tmp_path / "labels.tif")
    tifffile.imwrite(tmp_path / "labels.tif", np.zeros((5, 9, 9), dtype=np.uint8))
    with pytest.raises(DatasetError, match="a page without a cell"):
        score_membranes(tmp_path / "pred.tif", tmp_path / "labels.tif")
    (tmp_path / "labels.tif").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="expected a TIFF"):
        score_membranes(tmp_path / "pred.tif", tmp_path / "labels.tif")
