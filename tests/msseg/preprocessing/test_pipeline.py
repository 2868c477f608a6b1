from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from msseg.data.dataset import Dataset, read_dataset
from msseg.data.store import open_case, stored_names
from msseg.preprocessing.pipeline import preprocess_dataset
from planning.plan import Plan, plan_to_json

PlanMaker = Callable[..., Plan]
ALL = tuple(f"case_{index}" for index in range(5))


@pytest.fixture
def dataset(box_folder: Path) -> Dataset:
    return read_dataset(box_folder)


def test_every_case_is_prepared_once(dataset: Dataset, make_plan: PlanMaker, tmp_path: Path) -> None:
    plan = make_plan(spacing_mm=(1.0, 1.0, 1.0))
    first = preprocess_dataset(dataset, plan, "3d", tmp_path / "store", workers=1)
    assert (first.prepared, first.kept, first.failed) == (ALL, (), {})
    again = preprocess_dataset(dataset, plan, "3d", tmp_path / "store", workers=1)
    assert (again.prepared, again.kept) == ((), ALL)
    case = open_case(tmp_path / "store", "case_0")
    assert case.image.shape == (1, 16, 10, 12)
    assert case.label is not None
    assert set(np.unique(case.label)) == {0, 1, 2}  # 7 in the file is class 2
    assert case.properties["spacing_before_mm"] == [2.0, 1.0, 1.0]


def test_only_a_changed_file_is_prepared_again(
    dataset: Dataset, make_plan: PlanMaker, tmp_path: Path, rewrite_box_case: Callable[[str, int], None]
) -> None:
    plan = make_plan()
    preprocess_dataset(dataset, plan, "3d", tmp_path / "store", workers=1)
    rewrite_box_case("case_2", 77)
    assert preprocess_dataset(dataset, plan, "3d", tmp_path / "store", workers=1).prepared == ("case_2",)


def test_what_preparing_does_not_read_of_a_plan_keeps_the_store(
    dataset: Dataset, make_plan: PlanMaker, tmp_path: Path
) -> None:
    plan = make_plan()
    preprocess_dataset(dataset, plan, "3d", tmp_path / "store", workers=1)
    configuration = replace(plan.configurations["3d"], batch_size=7, patch_size=(4, 4, 4), network="mss_unet")
    other = replace(make_plan(mean=3.0), configurations={"3d": configuration}, memory_bytes=1)
    assert preprocess_dataset(dataset, other, "3d", tmp_path / "store", workers=1).kept == ALL


@pytest.mark.parametrize(
    "change", [{"spacing_mm": (2.0, 1.0, 1.0)}, {"normalisation": "ct"}, {"axis_order": (1, 0, 2)}]
)
def test_a_plan_that_prepares_otherwise_makes_all_cases_stale(
    dataset: Dataset, make_plan: PlanMaker, tmp_path: Path, change: dict[str, object]
) -> None:
    preprocess_dataset(dataset, make_plan(), "3d", tmp_path / "store", workers=1)
    changed = preprocess_dataset(dataset, make_plan(**change), "3d", tmp_path / "store", workers=1)
    assert changed.prepared == ALL


def test_statistics_matter_to_ct_alone(dataset: Dataset, make_plan: PlanMaker, tmp_path: Path) -> None:
    preprocess_dataset(dataset, make_plan(normalisation="ct"), "3d", tmp_path / "store", workers=1)
    changed = make_plan(normalisation="ct", mean=5.0)
    assert preprocess_dataset(dataset, changed, "3d", tmp_path / "store", workers=1).prepared == ALL


def test_cases_that_do_not_belong_are_removed(dataset: Dataset, make_plan: PlanMaker, tmp_path: Path) -> None:
    preprocess_dataset(dataset, make_plan(), "3d", tmp_path / "store", workers=1)
    fewer = preprocess_dataset(dataset, make_plan(), "3d", tmp_path / "store", workers=1, skip=["case_1"])
    assert fewer.removed == ("case_1",)
    assert stored_names(tmp_path / "store") == ["case_0", "case_2", "case_3", "case_4"]


def test_a_case_that_fails_is_named_and_the_others_are_prepared(
    dataset: Dataset, make_plan: PlanMaker, tmp_path: Path
) -> None:
    dataset.training[1].image_paths[0].write_bytes(b"not an image")
    result = preprocess_dataset(dataset, make_plan(), "3d", tmp_path / "store", workers=1)
    assert list(result.failed) == ["case_1"]
    assert "case_1_0000.nii.gz" in result.failed["case_1"]
    assert len(result.prepared) == 4


KILLED_AFTER_TWO = """
import json, os, signal, sys
from pathlib import Path
from msseg.data.dataset import read_dataset
from msseg.preprocessing.pipeline import preprocess_dataset
from planning.plan import plan_from_json

def die_after_two(items):
    for count, item in enumerate(items, start=1):
        yield item
        if count == 2:
            os.kill(os.getpid(), signal.SIGKILL)

plan = plan_from_json(json.loads(sys.stdin.read()), "stdin")
preprocess_dataset(read_dataset(Path(sys.argv[1])), plan, "3d", Path(sys.argv[2]), 1, watch=die_after_two)
"""


def test_a_killed_run_is_taken_up_where_it_stopped(dataset: Dataset, make_plan: PlanMaker, tmp_path: Path) -> None:
    plan = make_plan()
    arguments = [sys.executable, "-c", KILLED_AFTER_TWO, str(dataset.folder), str(tmp_path / "killed")]
    killed = subprocess.run(arguments, input=json.dumps(plan_to_json(plan)), text=True)
    assert killed.returncode == -signal.SIGKILL
    rest = preprocess_dataset(dataset, plan, "3d", tmp_path / "killed", workers=1)
    assert (rest.kept, rest.prepared) == (("case_0", "case_1"), ("case_2", "case_3", "case_4"))
    preprocess_dataset(dataset, plan, "3d", tmp_path / "whole", workers=1)
    for name in stored_names(tmp_path / "whole"):
        files = [tmp_path / store / f"{name}.safetensors" for store in ("killed", "whole")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_what_a_killed_run_left_half_written_is_removed_in_time(
    dataset: Dataset, make_plan: PlanMaker, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    abandoned, active = store / ".writing-old.safetensors", store / ".writing-new.safetensors"
    abandoned.touch()
    active.touch()
    two_hours_ago = time.time() - 7200
    os.utime(abandoned, (two_hours_ago, two_hours_ago))
    preprocess_dataset(dataset, make_plan(), "3d", store, workers=1)
    assert not abandoned.exists() and active.exists()
    assert stored_names(store) == list(ALL)


def test_preprocessing_never_imports_torch() -> None:
    script = "import sys, msseg.preprocessing.pipeline; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
