from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.errors import DatasetError
from msseg.evaluation.evaluate import Evaluation
from msseg.pipeline.evaluation import draw_pictures, evaluate

GRID = Geometry((4, 6, 8), (1.0, 1.0, 1.0))
REGIONS = {"whole": (1, 2), "core": (2,)}


@pytest.fixture
def evaluated(tmp_path: Path) -> Evaluation:
    """One case of regions, whose images are two channels in a file each."""
    label = np.zeros(GRID.shape, np.uint8)
    label[1:3, 1:5, 1:6], label[1:3, 2:4, 2:4] = 1, 2
    for room in ("predictions", "references"):
        write_label(tmp_path / room / "a.nii.gz", label, GRID)
    for channel in range(2):
        write_image(tmp_path / f"images/a_{channel:04d}.nii.gz", label[None].astype(np.float32), GRID)
    return evaluate(tmp_path / "predictions", tmp_path / "references", labels=REGIONS)


def test_pictures_of_regions_show_the_first_of_several_channels(evaluated, tmp_path):
    folders = [tmp_path / room for room in ("images", "predictions", "references", "pictures")]
    assert sorted(path.name for path in draw_pictures(evaluated, *folders)) == ["a.png", "overview.png"]


def test_a_case_without_an_image_is_named(evaluated, tmp_path):
    (tmp_path / "images/a_0000.nii.gz").rename(tmp_path / "images/b_0000.nii.gz")
    folders = [tmp_path / room for room in ("images", "predictions", "references", "pictures")]
    with pytest.raises(DatasetError, match="no image of a; expected one a case, or one a channel"):
        draw_pictures(evaluated, *folders)
