"""Prediction case by case by the processes of an executor."""

import json

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_image
from msseg.inference.predictor import PredictionOptions
from msseg.interrupts import StopRequest
from msseg.parallel import case_executor
from msseg.pipeline.prediction import RECORD, predict
from msseg.pipeline.spread_prediction import PredictionJob

GRID = Geometry((8, 8, 8), (1.0, 1.0, 1.0))
OPTIONS = PredictionOptions(mirror=False, branches="fast")


@pytest.fixture
def images(tmp_path):
    """Two images, and one that cannot be read."""
    generator = np.random.default_rng(0)
    for name in "ab":
        image = generator.normal(size=(1, *GRID.shape)).astype(np.float32)
        write_image(tmp_path / f"images/{name}_0000.nii.gz", image, GRID)
    (tmp_path / "images/c_0000.nii.gz").write_bytes(b"no image")
    return tmp_path / "images"


def test_workers_write_what_the_command_alone_writes(model_dir, images, tmp_path):
    alone = predict(images, tmp_path / "alone", model_dir, options=OPTIONS)
    with case_executor(1) as executor:
        spread = predict(images, tmp_path / "spread", model_dir, options=OPTIONS, executor=executor)
        again = predict(images, tmp_path / "spread", model_dir, options=OPTIONS, executor=executor)
    assert alone.written == spread.written == again.skipped == ("a", "b")
    assert spread.failed == alone.failed and list(spread.failed) == ["c"]
    for name in "ab":
        here, there = (read_label(tmp_path / folder / f"{name}.nii.gz")[0] for folder in ("alone", "spread"))
        np.testing.assert_array_equal(here, there)
    records = [json.loads((tmp_path / folder / RECORD).read_text()) for folder in ("alone", "spread")]
    assert records[0] == records[1]


def test_a_stop_leaves_the_cases_that_have_not_ended(model_dir, images, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    stop = StopRequest()
    stop.signal_name = "SIGINT"
    with ThreadPoolExecutor(1) as executor:
        report = predict(images, tmp_path / "out", model_dir, options=OPTIONS, executor=executor, stop=stop)
    assert len(report.written) + len(report.failed) == 1 and len(report.stopped) == 2


def test_each_command_is_a_job_of_its_own(tmp_path):
    from msseg.pipeline.prediction import OutputWish

    first, second = (PredictionJob(tmp_path, None, OPTIONS, True, "cpu", OutputWish(), tmp_path, False) for _ in "12")
    assert first != second
