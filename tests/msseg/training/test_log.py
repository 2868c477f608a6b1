from __future__ import annotations

from msseg.training.log import append_entry, latest_by_step, read_log


def test_entries_come_back_in_order(tmp_path):
    path = tmp_path / "log.jsonl"
    append_entry(path, {"event": "epoch", "step": 1})
    append_entry(path, {"event": "epoch", "step": 2})
    assert [entry["step"] for entry in read_log(path)] == [1, 2]


def test_a_half_line_left_by_a_kill_spoils_itself_only(tmp_path):
    path = tmp_path / "log.jsonl"
    append_entry(path, {"event": "epoch", "step": 1})
    with path.open("ab") as stream:
        stream.write(b'{"event": "epo')
    assert [entry["step"] for entry in read_log(path)] == [1]
    append_entry(path, {"event": "epoch", "step": 2})
    assert [entry["step"] for entry in read_log(path)] == [1, 2]


def test_a_missing_log_is_empty(tmp_path):
    assert read_log(tmp_path / "log.jsonl") == []


def test_of_a_step_trained_twice_the_last_entry_counts():
    entries = [
        {"event": "epoch", "step": 4, "loss": 1.0},
        {"event": "epoch", "step": 8, "loss": 0.9},
        {"event": "warning", "step": 8},
        {"event": "epoch", "step": 8, "loss": 0.8},
    ]
    assert [entry["loss"] for entry in latest_by_step(entries, "epoch")] == [1.0, 0.8]
