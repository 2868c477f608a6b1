from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from msseg.commands.plan_and_preprocess import main
from msseg.errors import DatasetError, PlanError
from msseg.files import read_json, write_json
from msseg.pipeline.planning import PlanningOptions, PlanningReport, plan_and_preprocess


def plan(folder: Path, **options: object) -> PlanningReport:
    root = folder.parent.parent / "a root"
    return plan_and_preprocess(folder, root, PlanningOptions(**options), workers=1)  # type: ignore[arg-type]


def command(folder: Path, *arguments: str) -> int:
    return main([str(folder), "--root", str(folder.parent.parent / "a root"), "--workers", "1", *arguments])


def spoil(folder: Path) -> None:
    (folder / "imagesTr/box_1_0000.nii").write_bytes(b"")
    (folder / "labelsTr/box_3.nii").unlink()


def test_the_raw_folder_is_left_as_it_was(boxes: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (boxes, *boxes.rglob("*"))}
    report = plan(boxes)
    assert report.complete
    assert {path: path.stat().st_mtime_ns for path in (boxes, *boxes.rglob("*"))} == before
    assert sorted(path.name for path in report.task.preprocessed.iterdir()) == [
        "cases_3d", "check.json", "examined", "fingerprint.json", "plan.json", "planned.json", "source.json",
        "splits.json",
    ]  # fmt: skip


def test_planning_again_does_nothing_anew(boxes: Path) -> None:
    first = plan(boxes)
    before = first.task.plan_path.stat().st_mtime_ns
    second = plan(boxes)
    assert second.preprocessed is not None
    assert (second.preprocessed.prepared, len(second.preprocessed.kept)) == ((), 5)
    assert second.task.plan_path.stat().st_mtime_ns == before


def test_check_only_says_that_all_is_well(boxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(boxes, "--check-only") == 0
    assert "5 cases checked, ready to use, 0 notes" in capsys.readouterr().out


def test_check_only_prints_every_problem_and_fails(boxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(boxes)
    assert command(boxes, "--check-only") == 1
    said = capsys.readouterr().out
    assert "an empty file (0 bytes)" in said
    assert "no such label file" in said
    assert "5 cases checked, 2 errors, 0 notes; see" in said


def test_quiet_still_says_that_the_check_failed(boxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(boxes)
    assert command(boxes, "--check-only", "--quiet") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1 and "2 errors" in said.err


def test_errors_stop_the_work_and_skipping_them_is_recorded(boxes: Path) -> None:
    spoil(boxes)
    with pytest.raises(DatasetError, match=r"found 2 errors.*--skip-broken"):
        plan(boxes)
    report = plan(boxes, skip_broken=True)
    assert report.complete
    assert report.skipped == ("box_1", "box_3")
    assert read_json(report.task.check_path)["skipped"] == ["box_1", "box_3"]
    assert [case["name"] for case in read_json(report.task.fingerprint_path)["cases"]] == ["box_0", "box_2", "box_4"]


def test_check_only_without_the_broken_cases_succeeds(boxes: Path) -> None:
    spoil(boxes)
    report = plan(boxes, check_only=True, skip_broken=True)
    assert report.complete
    assert "ready to use without box_1, box_3" in report.summary()


def test_an_edited_plan_is_honoured_until_replan(boxes: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = plan(boxes).task.plan_path
    edited = read_json(path)
    edited["configurations"]["3d"]["batch_size"] = 3
    write_json(path, edited)
    with caplog.at_level(logging.WARNING, "msseg"):
        assert plan(boxes, memory_bytes=10**9).plan.configurations["3d"].batch_size == 3  # type: ignore[union-attr]
    assert "edited by hand and is honoured" in caplog.text
    assert plan(boxes, replan=True).plan.configurations["3d"].batch_size == 2  # type: ignore[union-attr]


def test_another_option_of_the_network_plans_anew_and_the_same_does_not(boxes: Path) -> None:
    def planned_heads(**options: object) -> int:
        report = plan(boxes, network="unet2p", network_options=options)
        assert report.plan is not None
        return len(report.plan.configurations["3d"].supervision_weights)

    assert planned_heads() > 1
    assert planned_heads(heads="last") == 1
    path = plan(boxes, network="unet2p", network_options={"heads": "last"}).task.plan_path
    before = path.stat().st_mtime_ns
    assert planned_heads(heads="last") == 1
    assert path.stat().st_mtime_ns == before
    assert read_json(path.with_name("planned.json"))["budget"]["options"] == {"heads": "last"}


def test_the_command_hands_the_options_to_the_planner(boxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--network", "unet2p", "--network-option", "most_levels=2", "--reasons"]
    assert command(boxes, *asked) == 0
    assert "most_levels=2. Asked for" in capsys.readouterr().out
    assert command(boxes, "--network", "unet2p", "--network-option", "most_levels=two") == 1
    assert "most_levels: found 'two', expected null or a whole number" in capsys.readouterr().err


def test_a_plan_that_was_there_first_still_leaves_a_fingerprint(boxes: Path) -> None:
    task = plan(boxes).task
    made = task.plan_path.read_text()
    shutil.rmtree(task.preprocessed)
    task.preprocessed.mkdir()
    task.plan_path.write_text(made)
    assert plan(boxes).complete
    assert task.fingerprint_path.is_file()


def test_a_plan_of_other_labels_is_refused(boxes: Path) -> None:
    path = plan(boxes).task.plan_path
    edited = read_json(path)
    edited["labels"] = {"background": 0, "cube": 1}
    write_json(path, edited)
    with pytest.raises(PlanError, match=r"plan\.labels: found .*cube.*expected .*box.*--replan"):
        plan(boxes)


@pytest.mark.parametrize("text", ["[]", '{"version": NaN}', "{"])
def test_a_plan_that_is_none_is_one_line(boxes: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan(boxes).task.plan_path.write_text(text)
    assert command(boxes, "--quiet") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "plan.json" in error


def test_another_data_set_of_the_same_name_is_refused_and_a_moved_one_taken(boxes: Path) -> None:
    plan(boxes)
    other = boxes.parent.parent / "other" / boxes.name
    shutil.copytree(boxes, other)
    with pytest.raises(DatasetError, match="a data set of the same name"):
        plan(other)
    shutil.rmtree(boxes)
    report = plan(other)
    assert len(report.preprocessed.kept) == 5  # type: ignore[union-attr]


def test_a_failed_case_is_said_and_fails_the_command(
    boxes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from msseg.preprocessing import pipeline

    def refuse(*_arguments: object, **_options: object) -> None:
        raise DatasetError("box: no.")

    monkeypatch.setattr(pipeline, "preprocess_case", refuse)
    assert command(boxes, "-q") == 1
    assert "failed: box_4: box: no." in capsys.readouterr().err


def test_verbose_says_what_is_decided_and_what_it_took(boxes: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert command(boxes, "--verbose") == 0
    for words in ("5 cases, 1 workers", "plan.json: made for", "box_2: prepared", "of memory"):
        assert words in caplog.text


def test_malformed_descriptions_are_one_line(boxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for value in ([], None, 3, {"channel_names": 1}, {"channel_names": {"0": "MR"}, "labels": []}):
        (boxes / "dataset.json").write_text(json.dumps(value))
        assert command(boxes) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "dataset.json" in error
