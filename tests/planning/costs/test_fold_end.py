from dataclasses import replace

import pytest

from planning.costs.estimate import Part
from planning.costs.evaluation import PairSize, pair_bytes
from planning.costs.fold_end import FoldEnd, fold_end_bytes, fold_end_parts, speeds_s
from planning.costs.training import training_bytes, training_estimate

PAIR = PairSize(voxels=1000, file_bytes=0, inflated_bytes=0)
PRESETS = {"exact": 4.0, "balanced": 2.0, "fast": 1.0}


def end_of(pairs=10, workers=2, **changes):
    end = FoldEnd((PAIR,) * pairs, 1, workers, predicting_s=40.0, predicting_bytes=500, preset_case_s=PRESETS)
    return replace(end, **changes)


def test_workers_of_both_pools_are_started_and_what_they_come_from_once(make_machine):
    parts = {part.name: part.wall_s for part in fold_end_parts(end_of(), make_machine())}
    assert parts["validation: predict"] == 40
    looking_s = 10 * 3 * 1000 / 1e6 / 2
    assert parts["validation: choose postprocessing"] == pytest.approx(1 + looking_s)
    assert parts["validation: evaluate"] > 3


def test_one_worker_starts_no_other_and_takes_no_memory_beside(make_machine):
    machine, alone = make_machine(), end_of(workers=1)
    parts = {part.name: part.wall_s for part in fold_end_parts(alone, machine)}
    assert parts["validation: choose postprocessing"] == pytest.approx(10 * 3 * 1000 / 1e6)
    assert parts["validation: evaluate"] < 1
    assert fold_end_bytes(alone, machine) == fold_end_bytes(None, machine) == 0


def test_workers_at_the_end_hold_themselves_and_a_pair_each(make_machine):
    assert fold_end_bytes(end_of(), make_machine()) == 2 * 600 + 2 * (600 + pair_bytes(PAIR))


@pytest.mark.parametrize(
    ("training_s", "left_s", "seconds"),
    [
        (119.0, 1e9, 0.0),  # a tenth is less than three times the exact case
        (120.0, 1e9, 1 + 7.0),  # the fastest preset once to warm up, and one case under all three
        (150.0, 1e9, 1 + 2 * 7.0),
        (1e6, 1e9, 1 + 8 * 7.0),  # never more than eight cases
        (1e6, 13.0, 1 + 7.0),  # what the budget leaves, less a second
        (1e6, 12.0, 0.0),
    ],
)
def test_speeds_are_measured_on_as_many_cases_as_fit_a_tenth_of_the_training(training_s, left_s, seconds):
    assert speeds_s(end_of(), training_s, left_s) == seconds


def test_no_more_cases_are_measured_than_there_are():
    assert speeds_s(end_of(pairs=2), 1e6, 1e9) == 1 + 2 * 7.0


def test_what_predicting_takes_comes_out_of_what_training_took(make_configuration, make_machine, training_work):
    machine, work = make_machine(), training_work(make_configuration())
    alone = training_bytes(work, machine)
    small, large = (replace(work, end=end_of(workers=1, predicting_bytes=size)) for size in (500, 10**9))
    assert training_bytes(small, machine) == alone
    assert training_bytes(large, machine) == machine.processes["train"].resident_bytes + 10**9


def test_the_parts_of_a_training_with_its_end_add_up(make_configuration, make_machine, training_work):
    machine, work = make_machine(), training_work(make_configuration(), end=end_of())
    estimate = training_estimate(work, machine)
    assert estimate.wall_s == pytest.approx(sum(part.wall_s for part in estimate.parts))
    assert Part("validation: predict", 40.0) in estimate.parts


def test_a_budget_holds_start_training_and_end_and_leaves_nothing_to_measure_speeds(
    make_configuration, make_machine, training_work
):
    work = training_work(make_configuration(), end=end_of(), epochs=None, budget_s=1000.0)
    assert training_estimate(work, make_machine()).wall_s == pytest.approx(1000)
