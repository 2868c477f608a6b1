from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.checkpoint import FINAL, Checkpoint, save_checkpoint
from msseg.commands.speeds import main
from msseg.data.dataset import read_dataset
from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.errors import DatasetError
from msseg.files import read_json, write_json
from msseg.inference.predictor import Predictor, load_predictor
from msseg.inference.speeds import SPEEDS, SPEEDS_FILE, measured_speeds
from msseg.networks import build_network
from msseg.pipeline import speeds
from msseg.pipeline.speed_records import CaseSpeeds, write_fold, write_summary
from msseg.pipeline.speeds import TimeLimit, measure_fold, measure_speeds
from msseg.training.validation import Overlap
from planning.plan import Configuration, Plan

TASK = "Task05_Boxes"
GRID = Geometry((2, 12, 10), (1.0, 1.0, 1.0))
CASES = ("box_0", "box_1", "box_2")
CPU = torch.device("cpu")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A data set of three volumes with a box of value 7."""
    folder = tmp_path / "raw" / TASK
    rng = np.random.default_rng(0)
    label = np.zeros(GRID.shape, np.uint8)
    label[:, 3:7, 2:8] = 7
    for name in CASES:
        write_image(folder / f"imagesTr/{name}_0000.nii", rng.normal(label, 0.1)[None].astype(np.float32), GRID)
        write_label(folder / f"labelsTr/{name}.nii", label, GRID)
    labels = {"background": 0, "one": 7}
    write_json(folder / "dataset.json", {"channel_names": {"0": "MR"}, "labels": labels, "file_ending": ".nii"})
    return folder


@pytest.fixture
def save_fold(
    tmp_path: Path, make_configuration: Callable[..., Configuration], make_plan: Callable[..., Plan]
) -> Callable[..., Path]:
    """Writes a fold of an untrained network with the validation cases that are given; the model's folder."""

    def save(fold: int, cases: tuple[str, ...], seed: int = 0) -> Path:
        configuration = make_configuration((8, 8))
        network = build_network(configuration, 1, 2, torch.Generator().manual_seed(seed))
        metadata = {"identity": {"validation_cases": list(cases)}}
        model = tmp_path / "models" / TASK / "2d_plain_unet"
        checkpoint = Checkpoint(network.state_dict(), make_plan(configuration), configuration.name, metadata)
        save_checkpoint(model / f"fold_{fold}" / FINAL, checkpoint)
        return model

    return save


def case(name: str, predicted: int, both: int, **seconds: float) -> CaseSpeeds:
    """A case of half a megavoxel with a reference of 10 voxels, the same under every preset but for its seconds."""
    overlap = Overlap((both,), (predicted,), (10,))
    return CaseSpeeds(name, 0.5, dict.fromkeys(SPEEDS, overlap), {name: seconds.get(name, 1.0) for name in SPEEDS})


def test_the_models_table_is_of_the_cases_of_all_its_folds(save_fold):
    model = save_fold(0, CASES[:2])
    save_fold(1, CASES[2:])
    for fold, cases in (
        ("0", [case("a", 10, 10, exact=4.0, fast=1.0), case("b", 10, 5, exact=2.0, fast=0.5)]),
        ("1", [case("c", 0, 0, exact=6.0, fast=1.5)]),
    ):
        write_fold(model / f"fold_{fold}", load_predictor(model, CPU, [fold]), cases)
    assert write_summary(model)
    exact, fast = (measured_speeds(model)[name] for name in ("exact", "fast"))
    assert exact.dice == fast.dice == pytest.approx((1.0 + 0.5 + 0.0) / 3)
    assert (exact.cases, exact.seconds_per_case, exact.seconds_per_megavoxel) == (3, 4.0, 8.0)
    assert (fast.share_of_exact, exact.share_of_exact, fast.device) == (0.25, 1.0, "cpu")
    folds = read_json(model / SPEEDS_FILE)["folds"]
    assert list(folds) == ["0", "1"]
    assert {"threads", "processor"} <= set(folds["0"]["machine"]) and "torch" in folds["0"]["versions"]


def test_a_fold_that_was_trained_again_drops_out_of_the_table(save_fold):
    model = save_fold(0, CASES[:2])
    save_fold(1, CASES[2:])
    for fold in ("0", "1"):
        write_fold(model / f"fold_{fold}", load_predictor(model, CPU, [fold]), [case("a", 10, 10)])
    save_fold(1, CASES[2:], seed=5)
    write_summary(model)
    assert measured_speeds(model)["exact"].cases == 1
    save_fold(0, CASES[:2], seed=5)
    assert not write_summary(model)
    assert not (model / SPEEDS_FILE).exists()


def test_presets_are_measured_on_the_images_own_grid_as_users_predict(raw, save_fold):
    model = save_fold(0, CASES)
    measured = measure_speeds(model, root=raw.parents[1])
    predictor = load_predictor(model, CPU, postprocess=False)
    image = np.random.default_rng(0)  # the images are those of `raw`, drawn again
    reference = np.zeros(GRID.shape, bool)
    reference[:, 3:7, 2:8] = True
    dice = []
    for _ in CASES:
        found = predictor.predict_array(image.normal(7 * reference, 0.1)[None].astype(np.float32), GRID.spacing_mm) == 7
        dice.append(2 * (found & reference).sum() / (found.sum() + reference.sum()))
    assert measured["exact"].dice == pytest.approx(np.mean(dice), abs=1e-6)
    assert list(measured) == list(SPEEDS)
    assert [one.cases for one in measured.values()] == [3, 3, 3]
    assert all(one.seconds_per_case > 0 for one in measured.values())
    assert measured == measured_speeds(model)


def test_few_cases_are_spread_evenly_and_each_preset_shows_them_its_own_way(raw, save_fold, monkeypatch):
    shown = []
    label = np.zeros(GRID.shape, np.uint8)
    monkeypatch.setattr(Predictor, "predict_array", lambda self, *_: shown.append(self.options.step) or label)
    model = save_fold(0, CASES)
    assert measure_fold(load_predictor(model, CPU), model / "fold_0", read_dataset(raw).training, most=2) == 2
    assert list(read_json(model / f"fold_0/{SPEEDS_FILE}")["cases"]) == ["box_0", "box_2"]
    steps = [speed.step for speed in SPEEDS.values()]
    assert shown == [steps[-1], *steps, *steps]  # the fastest first, to warm up


def test_no_case_is_begun_that_would_not_end_in_time(raw, save_fold, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(speeds.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(speeds.time, "perf_counter", lambda: now[0])

    def second_long(*_: object) -> np.ndarray:
        now[0] += 1.0
        return np.zeros(GRID.shape, np.uint8)

    monkeypatch.setattr(Predictor, "predict_array", second_long)
    model = save_fold(0, CASES)
    predictor, cases = load_predictor(model, CPU), read_dataset(raw).training

    def measured_within(seconds: float) -> int:
        now[0] = 0.0
        return measure_fold(predictor, model / "fold_0", cases, limit=TimeLimit(seconds, exact_case_s=1.0, start=0.0))

    # Three presets a case of a second each, and one second to warm up.
    assert [measured_within(seconds) for seconds in (2.9, 4.1, 7.1, 9.9, 10.1)] == [0, 1, 2, 2, 3]
    assert now[0] <= 10.1


def test_nothing_is_written_where_nothing_was_measured(raw, save_fold):
    model = save_fold(0, CASES)
    measure = {"limit": TimeLimit(-1.0, 0.0)}, {"stop": lambda: True}
    for arguments in measure:
        assert measure_fold(load_predictor(model, CPU), model / "fold_0", read_dataset(raw).training, **arguments) == 0
    assert not (model / "fold_0" / SPEEDS_FILE).exists()


def test_the_command_prints_the_table(raw, save_fold, capsys):
    model = save_fold(0, CASES)
    assert main([str(model), "--cases", "1", "--root", str(raw.parents[1]), "--device", "cpu"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["speed", *SPEEDS, "1"]
    assert said[1].endswith("1.00×")


def test_a_model_without_validation_cases_is_refused(raw, save_fold):
    with pytest.raises(DatasetError, match="no validation cases"):
        measure_speeds(save_fold("all", ()), root=raw.parents[1])


def test_cases_that_are_gone_are_named(raw, save_fold):
    model = save_fold(0, (*CASES, "box_9"))
    with pytest.raises(DatasetError, match=r"validation cases are gone \(box_9\)"):
        measure_speeds(model, root=raw.parents[1])
