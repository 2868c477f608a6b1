from __future__ import annotations

from pathlib import Path

import pytest

from msseg.data.dataset import read_dataset
from msseg.pipeline.demo import DEMOS


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_is_written_where_its_row_says(tmp_path: Path, name: str):
    demo = DEMOS[name]
    folder = demo.write(tmp_path / demo.task, 3, 1)
    assert (folder / demo.last_file(4)).is_file()
    dataset = read_dataset(folder)
    assert len(dataset.training) == 3 and dataset.instances is demo.instances
    images, references = ([path.name for path in (folder / part).iterdir()] for part in (demo.images, demo.references))
    assert len(images) == len(references) == 1
