from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.checkpoint import FINAL, Checkpoint, load_checkpoint, load_model, save_checkpoint
from msseg.commands.prune import main
from msseg.data.store import write_case
from msseg.errors import CheckpointError, DatasetError, PlanError
from msseg.files import write_json
from msseg.inference.predictor import PredictionOptions, load_predictor
from msseg.networks import build_network
from msseg.pipeline.level_report import levels_table
from msseg.pipeline.levels import LevelMeter, LevelScore, smallest_within
from msseg.pipeline.pruning import PruningOptions, prune
from msseg.postprocessing.rules import LARGEST_TOGETHER, Rule, write_rules
from msseg.previous_model import PreviousModel
from planning.grids import Node
from planning.plan import Configuration, Plan
from planning.regions import Region

TASK = "Task05_Boxes"
CASES = ("box_0", "box_1", "box_2")


@pytest.fixture
def configuration(make_configuration: Callable[..., Configuration]) -> Configuration:
    """A UNet++ of four levels on slices."""
    return make_configuration(
        (8, 8),
        network="unet2p",
        features=(4, 4, 6, 6),
        strides=((2, 2),) * 3,
        kernel_sizes=((3, 3),) * 4,
        supervision_weights=(0.25, 0.25, 0.5),
    )


@pytest.fixture
def model(tmp_path: Path, configuration: Configuration, make_plan: Callable[..., Plan]) -> Path:
    """A model of two folds in a root that holds their validation cases."""
    plan = make_plan(configuration)
    folder = tmp_path / "models" / TASK / "2d_unet2p"
    for fold, cases in enumerate((CASES[:2], CASES[2:])):
        network = build_network(configuration, 1, 2, torch.Generator().manual_seed(fold))
        checkpoint = Checkpoint(
            network.state_dict(), plan, configuration.name, {"identity": {"validation_cases": list(cases)}}
        )
        save_checkpoint(folder / f"fold_{fold}" / FINAL, checkpoint)
    rng = np.random.default_rng(0)
    label = np.zeros((2, 12, 10), np.uint8)
    label[:, 3:7, 2:8] = 1
    for name in CASES:
        image = rng.normal(label, 0.1)[None].astype(np.float32)
        write_case(tmp_path / f"preprocessed/{TASK}/cases_2d", name, image, label, {}, {}, key="1")
    return folder


def test_a_pruned_model_predicts_as_the_branches_of_the_whole_one(model: Path) -> None:
    report = prune(model, options=PruningOptions(level=2))
    assert report.output == model.with_name("2d_unet2p_level2")
    image = np.random.default_rng(1).normal(size=(1, 1, 8, 8)).astype(np.float32)
    predictor = load_predictor(report.output, torch.device("cpu"), options=PredictionOptions(mirror=False))
    assert predictor.predict_array(image, (1, 1, 1)).shape == (1, 8, 8)
    x = torch.from_numpy(image)  # one slice as (b, c, y, x)
    for whole, small in zip(load_model(model).networks, load_model(report.output).networks, strict=True):
        assert torch.equal(small.main_output(x), whole.branch_outputs(x, [Node(0, 2)]).logits[0])


def test_a_pruned_checkpoint_says_where_it_comes_from(model: Path) -> None:
    checkpoint = load_checkpoint(prune(model, options=PruningOptions(level=1)).output / "fold_1" / FINAL)
    assert checkpoint.configuration.features == (4, 4)
    assert checkpoint.plan.reasons[-1].decision == "unet2p cut to level 1 of 3"
    pruned = checkpoint.metadata["pruned"]
    assert (pruned["level"], pruned["model"], pruned["measured"]) == (1, "2d_unet2p", None)
    assert checkpoint.metadata["identity"]["validation_cases"] == ["box_2"]


def test_auto_measures_every_level_on_the_validation_cases_of_all_folds(model: Path) -> None:
    report = prune(model, options=PruningOptions(tolerance=1.0))
    assert report.level == 1  # anything is within a tolerance of 1
    assert [score.level for score in report.scores] == [1, 2, 3]
    assert [score.cases for score in report.scores] == [3, 3, 3]
    assert sorted({score.parameters for score in report.scores}) == [score.parameters for score in report.scores]
    assert sorted({score.memory_bytes for score in report.scores}) == [score.memory_bytes for score in report.scores]
    written = json.loads((model / "pruning.json").read_text())
    assert written["kept"] == 1
    assert written["levels"][2]["dice"] == {"one": report.scores[2].mean_dice}
    assert (model / "pruning.png").stat().st_size > 10_000
    assert load_checkpoint(report.output / "fold_0" / FINAL).metadata["pruned"]["measured"]["tolerance"] == 1.0


def test_one_fold_can_be_pruned_alone(model: Path, tmp_path: Path) -> None:
    for number, named in enumerate((model / "fold_1", model / "fold_1" / FINAL)):
        report = prune(named, tmp_path / f"small {number}", PruningOptions(level=2))
        assert [path.name for path in report.output.iterdir()] == ["fold_1"]


def test_a_pruned_model_may_be_written_again_but_nothing_else_is_replaced(model: Path, tmp_path: Path) -> None:
    again = [prune(model, options=PruningOptions(level=level), output=tmp_path / "small").output for level in (1, 2)]
    assert load_model(again[1]).configuration.features == (4, 4, 6)
    with pytest.raises(CheckpointError, match="holds something else than a pruned model"):
        prune(model, model, PruningOptions(level=1))
    assert (model / "fold_0" / FINAL).is_file()
    assert not list(tmp_path.glob(".writing*"))


def test_postprocessing_is_kept_unmeasured_and_dropped_where_it_harms(model: Path) -> None:
    write_rules(model / "postprocessing.json", [Rule(LARGEST_TOGETHER, (1,))])
    report = prune(model, options=PruningOptions(level=1))
    assert (report.output / "postprocessing.json").is_file()
    assert "kept as it is" in report.postprocessing
    report = prune(model, options=PruningOptions(tolerance=1.0))
    measured = report.scores[0]
    assert measured.mended_dice is not None and measured.mean_dice is not None
    kept = measured.mended_dice >= measured.mean_dice
    assert (report.output / "postprocessing.json").is_file() == kept
    assert ("kept" if kept else "dropped") in report.postprocessing


def test_missing_cases_are_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / f"preprocessed/{TASK}/cases_2d/box_1.safetensors").unlink()
    with pytest.raises(DatasetError, match=r"1 validation cases are not there \(box_1\)"):
        prune(model)


def test_a_fold_without_validation_cases_asks_for_a_level(model: Path) -> None:
    path = model / "fold_0" / FINAL
    checkpoint = load_checkpoint(path)
    save_checkpoint(path, Checkpoint(checkpoint.weights, checkpoint.plan, "2d", {"identity": {}}))
    with pytest.raises(DatasetError, match="--level"):
        prune(path)


def test_the_command_prints_the_table_and_what_was_kept(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model), "--level", "auto", "--cases", "1", "--mode", "fast", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "s per case" in said and "pruning.png" in said and "level " in said


def test_the_command_refuses_what_is_no_level(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(model), "--level", "small"])
    assert "expected auto or a level" in capsys.readouterr().err
    assert main([str(model), "--level", "9"]) == 1
    assert "found level 9 to prune to, expected one of 1, 2, 3" in capsys.readouterr().err


def test_a_folder_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "model.json", {})
    assert main([str(tmp_path / "model.json"), "--level", "1"]) == 1
    assert main([str(tmp_path), "--level", "1"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "expected a checkpoint in MODEL/fold_0/" in first
    assert "no trained fold" in second


def scored(level: int, dice: float | None) -> LevelScore:
    return LevelScore(level, 10**level, 1000, 0.1, 1, {"one": dice}, {"one": None}, dice, None)


def test_the_smallest_level_within_the_tolerance_of_the_best_is_kept() -> None:
    scores = [scored(1, 0.80), scored(2, 0.896), scored(3, 0.901), scored(4, 0.899)]
    assert smallest_within(scores, 0.005).level == 2
    assert smallest_within(scores, 0.004).level == 3
    assert smallest_within(scores, 0.2).level == 1
    assert smallest_within([scored(1, None), scored(2, None)], 0.005).level == 2


def test_a_level_without_a_score_has_a_dash_in_the_table() -> None:
    assert levels_table([scored(1, None)]).splitlines()[-1].split() == ["L1", "–", "–", "10", "0.100", "0.0"]


def test_scores_are_means_over_the_cases_that_have_the_class() -> None:
    meter = LevelMeter(1, ("one", "two"))
    reference = np.array([[[1, 1, 0, 0]]])
    meter.add(np.array([[[1, 1, 0, 0]]]), reference, seconds=1.0)  # Dice 1, IoU 1
    meter.add(np.array([[[1, 0, 1, 0]]]), reference, seconds=3.0)  # Dice 1/2, IoU 1/3
    score = meter.score()
    assert score.dice == {"one": 0.75, "two": None}
    assert score.iou == {"one": pytest.approx(2 / 3), "two": None}
    assert (score.mean_dice, score.mean_iou) == (0.75, pytest.approx(2 / 3))
    assert (score.seconds_per_case, score.cases, score.mended_dice) == (2.0, 2, None)


def test_regions_are_scored_as_unions_of_their_classes() -> None:
    regions = (Region("whole", (1, 2), 1), Region("core", (2,), 2))
    meter = LevelMeter(1, ("whole", "core"), regions=regions)
    meter.add(np.array([[[1, 2, 2, 0]]]), np.array([[[2, 2, 1, 1]]]), seconds=1.0)
    score = meter.score()
    assert score.dice == {"whole": pytest.approx(6 / 7), "core": 0.5}
    assert score.mean_dice == pytest.approx((6 / 7 + 0.5) / 2)


@pytest.fixture
def cascade(tmp_path: Path, make_configuration: Callable[..., Configuration], make_plan: Callable[..., Plan]) -> Path:
    """The second network of a cascade, a UNet++ of three levels, with the first beside it."""
    low = make_configuration(name="3d_lowres")
    full = make_configuration(
        name="3d_cascade",
        network="unet2p",
        features=(4, 4, 6),
        strides=((2, 2, 2),) * 2,
        kernel_sizes=((3, 3, 3),) * 3,
        supervision_weights=(0.5, 0.5),
        previous_stage="3d_lowres",
        previous_classes=1,
    )
    plan = make_plan(low, configurations={"3d_lowres": low, "3d_cascade": full})
    first, second = (tmp_path / "models" / TASK / name for name in ("3d_lowres_plain_unet", "3d_cascade_unet2p"))
    for folder, configuration in ((first, low), (second, full)):
        weights = build_network(configuration, 1, 2, torch.Generator().manual_seed(0)).state_dict()
        previous = PreviousModel.of(second, first, ["0"]) if folder == second else None
        whole = Checkpoint(weights, plan, configuration.name, previous=previous)
        save_checkpoint(folder / "fold_0" / FINAL, whole)
    return second


def test_a_pruned_cascade_finds_the_model_before_it_from_where_it_lies(cascade: Path, tmp_path: Path) -> None:
    prune(cascade, tmp_path / "elsewhere" / "small", PruningOptions(level=1))
    predictor = load_predictor(tmp_path / "elsewhere" / "small", torch.device("cpu"))
    assert predictor.previous is not None and predictor.previous.model.configuration.name == "3d_lowres"
    assert predictor.predict_array(np.ones((1, 8, 8, 8), np.float32), (1.0, 1.0, 1.0)).shape == (8, 8, 8)


def test_levels_of_a_cascade_are_not_measured_but_named(cascade: Path) -> None:
    with pytest.raises(PlanError, match=r"second network are not measured. Name one with --level \(1, 2\)"):
        prune(cascade)
