from dataclasses import replace

import pytest

from planning.costs.cases import CaseSize, case_read_s, evaluate_s, examine_s, prepare_s, store_bytes
from planning.costs.machine import Process
from planning.costs.workers import PoolMemory, command_memory, pool_s, pool_start_s, start_parts

MEMORY = PoolMemory(alone=1100, main=1000, worker=600, server=20)

CASE = CaseSize(
    name="case",
    shape=(100, 100, 100),
    channels=2,
    image_file_bytes=3_000_000,
    image_bytes=4_000_000,
    label_file_bytes=1_000_000,
    label_bytes=1_000_000,
    new_shape=(100, 100, 200),
    work_bytes=500,
)


def test_a_compressed_file_is_read_and_inflated_by_what_goes_in_and_comes_out(make_machine):
    assert case_read_s(CASE, make_machine().cases) == pytest.approx(4 + 4 + 5)


def test_an_uncompressed_file_is_only_read(make_machine):
    assert case_read_s(replace(CASE, compressed=False), make_machine().cases) == pytest.approx(4)


def test_every_channel_is_measured_and_the_label_once(make_machine):
    assert examine_s(CASE, make_machine().cases) == pytest.approx(2 + 1)


def test_preparing_counts_the_larger_grid_for_resampling(make_machine):
    normalised, resampled, voted, located = 2, 2 * 2, 2, 2
    assert prepare_s(CASE, make_machine().cases) == pytest.approx(normalised + resampled + voted + located)


def test_a_case_that_only_turns_is_not_resampled(make_machine):
    turned = replace(CASE, shape=(1, 2, 1000), new_shape=(1000, 1, 2), label_bytes=0)
    assert prepare_s(turned, make_machine().cases) == pytest.approx(2 * 2000 / 1e6)


def test_the_store_holds_single_precision_labels_and_locations():
    # 1 000 000 voxels of each of two classes: ten thousand locations of 12 bytes, or 1 % of it where that is more
    assert store_bytes(CASE, num_classes=2) == 2 * 4 * 2_000_000 + 2_000_000 + 12 * 10_000


def test_more_labels_and_more_voxels_take_longer_to_evaluate(make_machine):
    rates = make_machine().cases
    assert evaluate_s(1000, 1, rates) < evaluate_s(1000, 4, rates) < evaluate_s(2000, 4, rates)


def test_a_pool_takes_an_even_share_but_never_less_than_its_longest_item():
    assert pool_s([1, 1, 1, 1], workers=2, cores=2) == 2
    assert pool_s([1, 1, 1, 1], workers=8, cores=2) == 2
    assert pool_s([3, 1], workers=2, cores=2) == 3
    assert pool_s([], workers=2, cores=2) == 0


def test_the_largest_cases_may_meet_in_memory():
    assert MEMORY.bytes_with([10, 30, 20], workers=2) == 1000 + 20 + 2 * 600 + 30 + 20


def test_one_worker_is_the_command_itself():
    assert MEMORY.bytes_with([10, 30, 20], workers=1) == 1100 + 30
    assert MEMORY.bytes_with([30], workers=4) == 1100 + 30


@pytest.mark.parametrize(("limit", "workers"), [(None, 4), (10_000, 4), (2270, 2), (2269, 1), (1130, 1), (1129, 0)])
def test_memory_leaves_as_many_workers_as_fit(limit, workers):
    assert MEMORY.affordable_workers([10, 30, 20, 20], 4, limit) == workers


def test_a_command_holds_less_beside_workers_of_which_the_largest_kind_counts(make_machine):
    sizes = {"prepare": 90, "prepare by workers": 50, "examining": 20, "preparing": 30, "server": 4}
    processes = {name: Process(1.0, size, size) for name, size in sizes.items()}
    held = command_memory("prepare", ("examining", "preparing"), processes)
    assert held == PoolMemory(alone=90, main=50, worker=30, server=2 * 4)


@pytest.mark.parametrize(
    ("workers", "items", "seconds"),
    [(1, 9, 0.0), (4, 1, 0.0), (2, 9, 2 + 2 * 1.0), (4, 9, 2 + 2 * 2.0), (4, 3, 2 + 2 * 1.5)],
)
def test_workers_of_two_kinds_start_one_after_the_other_and_share_the_cores(make_machine, workers, items, seconds):
    assert pool_start_s(("examining", "preparing"), workers, items, make_machine()) == seconds


def test_a_command_of_its_own_starts_no_workers(make_machine):
    machine = make_machine(processes={**make_machine().processes, "prepare": Process(3.0, 1, 1)})
    alone, pooled = (start_parts("prepare", ("preparing",), workers, 5, machine) for workers in (1, 2))
    assert [part.wall_s for part in alone] == [3.0, 0.0]
    assert [part.wall_s for part in pooled] == [1.0, 3.0]
