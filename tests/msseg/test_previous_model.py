"""Where a cascade's second model finds its first one."""

from __future__ import annotations

from pathlib import Path

import pytest

from msseg.errors import CheckpointError
from msseg.previous_model import INSIDE, PreviousModel


def test_a_model_beside_is_found_wherever_both_are_and_one_that_came_along_goes_before_it(tmp_path: Path):
    for place in ("low", "cascade", "moved/low", "moved/cascade"):
        (tmp_path / place).mkdir(parents=True)
    previous = PreviousModel.of(tmp_path / "cascade", tmp_path / "low", [0, 1])
    assert previous == PreviousModel("../low", ("0", "1"))
    assert previous.folder(tmp_path / "moved/cascade") == tmp_path / "moved/low"
    (tmp_path / "moved/cascade" / INSIDE).mkdir()
    assert previous.folder(tmp_path / "moved/cascade") == tmp_path / "moved/cascade" / INSIDE


@pytest.mark.parametrize("place", [".", "../model", "fold_0/.."])
def test_a_model_that_names_itself_is_refused(tmp_path: Path, place: str):
    (tmp_path / "model/fold_0").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="names itself as the first model"):
        PreviousModel(place, ("0",)).folder(tmp_path / "model")
