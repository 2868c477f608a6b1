import json

import pytest

from msseg.files import write_json
from msseg.machine import cache_folder, known_machine, measured_machine
from msseg.machine import profile as profile_module
from msseg.machine.processes import held_bytes, memory_bytes
from msseg.machine.timing import least_seconds
from msseg.machine.watch import tree_bytes, watched
from planning.costs.machine import machine_to_json


@pytest.fixture
def measured(monkeypatch, make_machine):
    """Counts how often the machine would be measured."""
    calls = []

    def measure(identity):
        calls.append(identity)
        return make_machine()

    monkeypatch.setattr(profile_module, "measure_machine", measure)
    return calls


def test_a_machine_is_measured_once_and_said_so(tmp_path, measured):
    said = []
    first = measured_machine(tmp_path, announce=said.append)
    assert measured_machine(tmp_path, announce=said.append) == first == known_machine(tmp_path)
    assert len(measured) == 1
    assert said[0].startswith("measuring this machine once") and str(tmp_path) in said[0]


def test_it_is_measured_anew_when_asked_or_when_a_version_changed(tmp_path, measured, monkeypatch):
    measured_machine(tmp_path, announce=lambda _line: None)
    measured_machine(tmp_path, remeasure=True, announce=lambda _line: None)
    assert len(measured) == 2
    monkeypatch.setattr(profile_module, "_version", lambda name: f"{name} next")
    assert known_machine(tmp_path) is None


def test_a_damaged_profile_is_measured_anew(tmp_path, measured):
    measured_machine(tmp_path, announce=lambda _line: None)
    (path,) = tmp_path.glob("machine_*.json")
    path.write_text("{")
    assert known_machine(tmp_path) is None
    measured_machine(tmp_path, announce=lambda _line: None)
    assert json.loads(path.read_text())["name"] == "made up"


def test_other_threads_are_another_profile(tmp_path, measured, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    measured_machine(tmp_path, announce=lambda _line: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert known_machine(tmp_path) is None


def test_the_cache_lies_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MSSEG_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MSSEG_CACHE")
    assert cache_folder().name == "msseg"


def test_a_profile_of_the_present_format_is_read(tmp_path, measured, make_machine):
    path = profile_module._profile_path(tmp_path, profile_module.machine_identity())
    write_json(path, machine_to_json(make_machine(cores=3)))
    assert measured_machine(tmp_path).cores == 3
    assert not measured


def test_the_least_of_several_runs_is_taken():
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0, 23.0])
    assert least_seconds(lambda: None, repeats=3, longest_s=100, clock=lambda: next(clock)) == 2.0


def test_no_further_run_begins_once_enough_time_is_spent():
    runs = []
    clock = iter([0.0, 5.0, 10.0, 12.0])
    least_seconds(lambda: runs.append(1), repeats=3, longest_s=4, clock=lambda: next(clock))
    assert len(runs) == 2  # one to warm up


def test_a_process_holds_more_than_nothing_and_less_than_the_machine():
    resident, private = held_bytes()
    assert 0 < private <= resident < memory_bytes()


def test_watching_sees_time_and_memory():
    with watched() as found:
        held = bytearray(50_000_000)
    assert found.wall_s > 0
    assert found.peak_bytes > len(held)


def test_of_a_process_that_has_ended_nothing_is_held():
    assert tree_bytes(2**22 + 1) == 0
