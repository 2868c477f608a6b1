from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from msseg.commands import console
from msseg.data.cases import Case
from msseg.data.geometry import Geometry
from msseg.data.image import write_label
from msseg.errors import MssegError
from msseg.inference.collectors import SHARE_STEPS
from msseg.inference.outputs import ProbabilityFiles
from msseg.inference.probability_files import write_probabilities
from msseg.instances.decision import Decision, decision_from_json
from msseg.pipeline import decisions, object_search
from msseg.pipeline.decisions import (
    METRICS,
    NO_DECISION,
    Findings,
    ForegroundCounts,
    decide,
    deciding_metric,
    decision_from,
    read_findings,
    write_findings,
)
from msseg.pipeline.fold_decision import FoldDecision
from msseg.pipeline.object_search import CANDIDATES, search_objects, searched_cases
from msseg.postprocessing.thresholds import ShareCounts
from planning.instances import InstancePlan
from planning.plan import Plan

LEVELS = {"background": 0, "border": 1, "rim": 2, "core": 3}


@pytest.fixture
def flat(make_configuration, make_plan) -> Plan:
    """A plan of 2D images with one label."""
    return make_plan(make_configuration((8, 8)))


@pytest.fixture
def numbered(flat) -> Plan:
    """A plan of 2D images with numbered objects."""
    return dataclasses.replace(flat, labels=LEVELS, class_weights=(1.0,) * 4, instances=InstancePlan("cell", 1))


def counts(best: int, voxels: int = 100) -> ShareCounts:
    """A case whose foreground lies at shares from `best` on, its background below."""
    inside, outside = np.zeros(SHARE_STEPS, np.int64), np.zeros(SHARE_STEPS, np.int64)
    inside[best], outside[best - 1] = voxels, voxels
    return ShareCounts(inside, outside)


def fold_with(model: Path, number: int, plan: Plan, findings: Findings) -> Path:
    fold = model / f"fold_{number}"
    fold.mkdir(parents=True)
    (fold / "checkpoint_final.safetensors").write_bytes(b"weights")
    write_findings(fold, plan, findings)
    return fold


def test_the_metric_is_the_data_sets_unless_one_is_asked_for(flat, numbered, make_configuration, make_plan):
    volumes = make_plan(make_configuration())
    two = dataclasses.replace(flat, labels={"background": 0, "a": 1, "b": 2}, class_weights=(1.0,) * 3)
    assert [deciding_metric(plan, None) for plan in (flat, numbered, volumes, two)] == ["dice", "dsb2018", None, None]
    assert deciding_metric(volumes, "mean_dice") == "mean_dice"
    assert deciding_metric(numbered, "iou") == "iou" and deciding_metric(flat, NO_DECISION) is None
    for plan, wish, said in ((two, "dice", "has 2"), (flat, "dsb2018", "numbered objects"), (flat, "f2", "unknown")):
        with pytest.raises(MssegError, match=said):
            deciding_metric(plan, wish)


def test_the_command_line_knows_the_metrics():
    assert (*METRICS, NO_DECISION) == console.DECIDE_BY


def test_the_models_decision_follows_from_all_its_folds(tmp_path, flat):
    fold_with(tmp_path, 0, flat, Findings({"a": counts(90), "b": counts(90)}))
    decided = decide(tmp_path, flat, "dice")
    assert decided is not None and decided.decision == Decision(90 / 256, metric="dice", value=1.0)
    assert decided.choice.undecided == 0.0 and decided.choice.by_others == 1.0
    fold_with(tmp_path, 1, flat, Findings({"c": counts(60, 1000), "d": counts(60, 1000)}))
    decided = decide(tmp_path, flat, "dice")
    assert decided is not None and decided.decision.foreground == 60 / 256 and decided.choice.cases == 4
    written = decision_from_json(json.loads((tmp_path / "decision.json").read_text()), "decision.json")
    assert written == decided.decision
    said = decided.summary()
    assert "above a probability of 0.234" in said and "(optimistic)" in said and "0.0000 undecided" in said


def test_findings_of_other_weights_or_labels_have_no_say(tmp_path, flat):
    fold = fold_with(tmp_path, 0, flat, Findings({"a": counts(90), "b": counts(90)}))
    assert read_findings(fold, flat) is not None
    assert read_findings(fold, dataclasses.replace(flat, labels={"background": 0, "one": 8})) is None
    (fold / "checkpoint_final.safetensors").write_bytes(b"trained again")
    assert read_findings(fold, flat) is None and decide(tmp_path, flat, "dice") is None
    assert not (tmp_path / "decision.json").exists()


def table_for(best: Decision, score: float = 0.9) -> dict[str, list[tuple[float, float]]]:
    rows = [(score if one == best else 0.5, 1.0) for one in CANDIDATES]
    return {"dsb2018": rows, "object_f1": rows}


def test_objects_decide_together_with_the_foreground_or_after_it():
    both, after = Decision(0.4, 0.65, 20), Decision(0.7, 0.8, 40)
    tables = {name: table_for(both) for name in "ab"}
    shares = {name: counts(int(0.68 * 256)) for name in "ab"}
    decided = decision_from([Findings(shares, CANDIDATES, tables)], "dsb2018")
    assert decided.decision == Decision(0.4, 0.65, 20, "dsb2018", 0.9)
    assert "seeds above 0.65, objects of 20 pixels or more" in decided.summary()
    decided = decision_from([Findings(shares, CANDIDATES, {name: table_for(after) for name in "ab"})], "dice")
    assert decided.decision == Decision(int(0.68 * 256) / 256, 0.8, 40, "dice", 1.0)


def test_where_no_objects_were_looked_at_pixels_decide():
    decided = decision_from([Findings({"a": counts(90), "b": counts(90)})], "dsb2018")
    assert decided.decision == Decision(90 / 256, metric="dice", value=1.0)
    assert decided.summary().endswith("No time was left to look at objects by dsb2018: give more.")


def disc_case(folder: Path, name: str, files: ProbabilityFiles, core: float) -> Case:
    """A case of two discs that touch; between their cores, of the height `core`, lies a rim of a lower one."""
    y, x = np.mgrid[:40, :60]
    ids = np.zeros((1, 40, 60), np.uint8)
    ids[0, (y - 20) ** 2 + (x - 19) ** 2 < 121] = 1
    ids[0, (y - 20) ** 2 + (x - 40) ** 2 < 121] = 2
    centre = np.minimum((y - 20) ** 2 + (x - 19) ** 2, (y - 20) ** 2 + (x - 40) ** 2)[None] < 30
    fore = np.where(ids > 0, 0.95, 0.02)
    inner = np.where(centre, core, 0.45 * fore)
    probabilities = np.stack([1 - fore, np.zeros_like(fore), fore - inner, inner]).astype(np.float32)
    probabilities = np.clip(probabilities, 0, 1)
    geometry = Geometry(ids.shape, (1.0, 1.0, 1.0))
    write_label(folder / f"{name}.nii", ids, geometry)
    case = Case(name, (folder / f"{name}_0000.nii",), label_path=folder / f"{name}.nii")
    write_probabilities(files.path(case), probabilities / probabilities.sum(0), geometry, LEVELS, 8)
    return case


def test_the_search_finds_seeds_that_part_objects_that_touch(tmp_path):
    files = ProbabilityFiles(tmp_path / "validation", 8)
    cases = [disc_case(tmp_path, name, files, core=0.9) for name in "abc"]
    tables = search_objects(cases, files, seconds=60)
    assert sorted(tables) == ["a", "b", "c"]
    scores = {one: part for one, (part, _) in zip(CANDIDATES, tables["a"]["dsb2018"], strict=True)}
    assert scores[Decision(0.5, 0.65)] > 0.9 > scores[Decision(0.5, 0.35)]
    assert scores[Decision(0.5, 0.65)] == scores[Decision(0.5, 0.65, 80)]
    decided = decision_from([Findings({name: counts(128) for name in "abc"}, CANDIDATES, tables)], "object_f1")
    assert decided.decision.value == 1.0


def test_a_search_without_time_leaves_cases_out(tmp_path, monkeypatch):
    files = ProbabilityFiles(tmp_path / "validation", 8)
    cases = [disc_case(tmp_path, name, files, core=0.9) for name in "abc"]
    assert search_objects(cases, files, seconds=-1.0) == {}
    now = [0.0]
    monkeypatch.setattr(object_search.time, "time", lambda: now.__setitem__(0, now[0] + 1.0) or now[0])
    # A case looks at the clock once and before each of its 24 watersheds; the start looks at it too.
    assert list(search_objects(cases, files, seconds=25.5)) == ["a"]


def test_at_most_so_many_cases_are_searched_evenly_spread():
    cases = [Case(f"{number:03}", (Path("x.png"),)) for number in range(200)]
    chosen = searched_cases(cases)
    assert len(chosen) == 40 and (chosen[0].name, chosen[-1].name) == ("000", "199")
    assert searched_cases(cases[:7]) == cases[:7]


def test_a_fold_keeps_what_it_found_and_removes_the_probabilities(tmp_path, numbered):
    fold = tmp_path / "model/fold_0"
    files = ProbabilityFiles(fold / "validation", 8)
    cases = [disc_case(tmp_path, name, files, core=0.9) for name in "ab"]
    (fold / "checkpoint_final.safetensors").write_bytes(b"weights")
    for case in cases:
        one = counts(128)
        record = {"inside": one.inside.tolist(), "outside": one.outside.tolist()}
        ForegroundCounts(fold / "validation").path(case).write_text(json.dumps(record))
    looking = FoldDecision.of(fold, numbered, cases, "dsb2018")
    assert [len(beside) for _, beside in looking.groups(cases)] == [2, 1]
    decided = looking.decide(seconds=60, workers=1)
    assert decided is not None and decided.decision.metric == "dsb2018" and decided.choice.cases == 2
    assert not list(fold.glob("validation/*.npz"))
    again = FoldDecision.of(fold, numbered, cases, "object_f1")
    assert again.searched == () and [len(beside) for _, beside in again.groups(cases)] == [2, 1]
    assert again.groups(cases)[0][0] == []
    same = again.decide(seconds=-1.0, workers=1)
    assert same is not None and same.decision.metric == "object_f1"


def test_nothing_is_looked_for_without_a_metric(tmp_path, flat):
    looking = FoldDecision.of(tmp_path / "fold_0", flat, [], None)
    assert looking.groups([]) == [([], [])] and looking.decide(10.0, 1) is None
    assert decisions.decide(tmp_path, flat, "dice") is None
