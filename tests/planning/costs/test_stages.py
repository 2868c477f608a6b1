from dataclasses import replace

import pytest

from planning.costs.cases import CaseSize
from planning.costs.estimate import Part, estimate_of, in_sequence
from planning.costs.evaluation import PairSize, evaluation_estimate
from planning.costs.machine import Correction
from planning.costs.network import kind_and_width, muon_products, network_seconds, uncorrected_seconds
from planning.costs.prediction import (
    RESERVED_BYTES,
    PredictedCase,
    PredictionWork,
    most_bytes_of_scores,
    prediction_estimate,
    weight_bytes,
)
from planning.costs.preparation import preparation_estimate
from planning.costs.short import export_estimate, networks_estimate, planning_estimate, pruning_estimate
from planning.costs.training import fitted_configuration, step_seconds, training_estimate
from planning.counting import multiply_adds
from planning.recording.tape import Tape
from planning.recording.units import Unit, convolution

SIZE = CaseSize("case", (10, 10, 10), 1, 1000, 2000, 100, 1000, (10, 10, 10), work_bytes=5000)


def prediction_work(configuration, cases=1, **changes):
    case = PredictedCase(SIZE, patches=8, work_bytes=7000)
    work = PredictionWork(configuration, in_channels=1, num_classes=2, networks=1, cases=(case,) * cases)
    return replace(work, **changes)


def test_parts_add_up_and_those_of_no_time_are_left_out():
    estimate = estimate_of([Part("a", 1.0), Part("nothing", 0.0), Part("b", 2.0)], ram_bytes=10.4)
    assert (estimate.wall_s, estimate.ram_bytes, [part.name for part in estimate.parts]) == (3.0, 10, ["a", "b"])


def test_in_sequence_times_add_up_and_the_largest_memory_counts():
    first, second = estimate_of([Part("a", 1.0)], 5, disk_bytes=2), estimate_of([Part("b", 2.0)], 4, disk_bytes=3)
    both = in_sequence([("first", first), ("second", second)])
    assert (both.wall_s, both.ram_bytes, both.disk_bytes) == (3.0, 5, 5)
    assert both.parts == (Part("first", 1.0), Part("second", 2.0))


@pytest.mark.parametrize(
    ("kernel", "stride", "kind"),
    [
        ((3, 3, 3), (1, 1, 1), "full"),
        ((1, 3, 3), (1, 1, 1), "planar"),
        ((3, 3, 3), (2, 2, 2), "strided"),
        ((1, 3, 3), (1, 2, 2), "strided"),
        ((1, 1, 1), (1, 1, 1), "pointwise"),
    ],
)
def test_a_convolution_is_told_by_its_taps(kernel, stride, kind):
    tape = Tape(batch=1)
    convolution(tape, "c", tape.leaf(4, (8, 8, 8)), Unit(16, kernel, stride, False, "none", "none"))
    found, width = kind_and_width(tape.operators[0])
    assert found == kind
    assert width == pytest.approx(8.0 if kind != "strided" else 16 / 2**0.5)


def test_a_network_takes_its_multiply_adds_over_the_rate(make_configuration, make_machine):
    configuration = make_configuration()
    machine = make_machine()  # its memory is so fast that nothing but products counts
    expected = multiply_adds(configuration, 1, 2) / 1e9
    assert network_seconds(configuration, 1, 2, machine.cpu).forward_s == pytest.approx(expected, rel=0.01)


def test_a_whole_network_corrects_the_sum_of_its_parts(make_configuration, make_machine):
    arithmetic = make_machine().cpu
    corrected = replace(arithmetic, corrections=(Correction(4, forward=2.0, step=3.0),))
    plain, twice = (network_seconds(make_configuration(), 1, 2, one) for one in (arithmetic, corrected))
    assert twice.forward_s == pytest.approx(2 * plain.forward_s)
    assert twice.step_s == pytest.approx(3 * plain.step_s)


def test_slow_memory_is_seen_where_nothing_is_multiplied(make_configuration, make_machine):
    arithmetic = make_machine().cpu  # the concatenation in front of the decoder's block
    slow = replace(arithmetic, copy_bytes_per_s=1e6)
    seconds = [uncorrected_seconds(make_configuration(), 1, 2, one, training=True) for one in (arithmetic, slow)]
    assert seconds[0] < seconds[1]


def test_preparing_two_cases_by_two_workers_takes_as_long_as_one(make_machine):
    one = preparation_estimate([SIZE], 2, 1, make_machine())
    two = preparation_estimate([SIZE] * 2, 2, 2, make_machine())
    starts = 2 + 2 * 1  # what workers are forked from, and one round of each kind of worker
    assert two.wall_s == pytest.approx(one.wall_s + starts)


def test_preparing_says_the_workers_that_memory_leaves(make_machine):
    estimate = preparation_estimate([SIZE] * 4, 2, 4, make_machine(), max_bytes=2200 + 2 * 5600)
    assert ("workers", "2 of 4 asked for") in estimate.settings
    assert estimate.ram_bytes == 1000 + 2 * 600 + 2 * 5600


def test_preparing_is_not_predicted_where_not_even_one_worker_fits(make_machine):
    assert preparation_estimate([SIZE], 2, 4, make_machine(), max_bytes=5999) is None


def test_evaluation_grows_with_pairs_and_labels(make_machine):
    pair = PairSize(1000, 100, 2000)
    few, many, more = (
        evaluation_estimate([pair] * count, labels, 1, make_machine()).wall_s
        for count, labels in ((1, 2), (2, 2), (2, 5))
    )
    assert few < many < more


def test_evaluation_is_not_predicted_where_no_worker_fits(make_machine):
    assert evaluation_estimate([PairSize(1000, 1, 1)], 2, 1, make_machine(), max_bytes=1000) is None


def test_prediction_takes_patches_times_networks_times_one_forward_pass(make_configuration, make_machine):
    configuration, machine = make_configuration(), make_machine()
    estimate = prediction_estimate(prediction_work(configuration, networks=3), machine)
    forward_s = network_seconds(configuration, 1, 2, machine.cpu).forward_s
    assert {part.name: part.wall_s for part in estimate.parts}["network"] == pytest.approx(8 * 3 * forward_s)


def test_a_cascade_takes_the_patches_and_weights_of_both_networks(make_configuration, make_machine):
    machine = make_machine()
    low = prediction_work(make_configuration(name="3d_lowres"), networks=5)
    second = prediction_work(make_configuration(name="3d_cascade", previous_stage="3d_lowres", previous_classes=1))
    both = replace(second, previous=low)
    parts = {part.name: part.wall_s for part in prediction_estimate(both, machine).parts}
    forward_s = network_seconds(low.configuration, 1, 2, machine.cpu).forward_s
    assert parts["network (3d_lowres)"] == pytest.approx(8 * 5 * forward_s)
    alone = {part.name: part.wall_s for part in prediction_estimate(second, machine).parts}
    assert parts["network"] == alone["network"] > 8 * forward_s, "it sees a plane more"
    assert parts["read and inflate"] == alone["read and inflate"]
    assert parts["normalise and resample"] == 2 * alone["normalise and resample"]
    extra = prediction_estimate(both, machine).ram_bytes - prediction_estimate(second, machine).ram_bytes
    prepared, class_maps = 4 * 1000, 1000 + 1000
    assert extra == pytest.approx(2.6 * weight_bytes(low) + prepared + class_maps, abs=1)
    assert dict(prediction_estimate(both, machine).settings)["patches"] == "16"
    assert both.of_one_fold().previous.networks == 1


def test_more_classes_more_networks_and_more_cases_never_cost_less(make_configuration, make_machine):
    work, machine = prediction_work(make_configuration()), make_machine()
    for larger in (
        replace(work, num_classes=9),
        replace(work, networks=5),
        replace(work, cases=work.cases * 3),
        replace(work, in_channels=4),
    ):
        more, less = prediction_estimate(larger, machine), prediction_estimate(work, machine)
        assert more.wall_s > less.wall_s
        assert more.ram_bytes >= less.ram_bytes


def test_what_scores_may_take_is_what_all_else_leaves(make_configuration, make_machine):
    work, machine = prediction_work(make_configuration()), make_machine()
    everything = prediction_estimate(work, machine).ram_bytes
    assert most_bytes_of_scores(work, machine, everything + RESERVED_BYTES) == 7000


def test_a_budget_bounds_a_training_and_epochs_add_up(make_configuration, make_machine, training_work):
    work, machine = training_work(make_configuration()), make_machine()
    step = step_seconds(work, machine)
    assert training_estimate(work, machine).wall_s == pytest.approx(1 + 20 * step.wall_s)
    bounded = replace(work, epochs=None, budget_s=600.0)
    assert training_estimate(bounded, machine).wall_s == pytest.approx(600)


def test_a_batch_is_made_beside_the_step_by_a_worker_and_before_it_without(
    make_configuration, make_machine, training_work
):
    machine = make_machine()
    alone = step_seconds(training_work(make_configuration()), machine)
    assert alone.batch_s == pytest.approx(2 * 8**3 / 1e6)
    assert alone.wall_s == pytest.approx(alone.network_s + alone.batch_s)
    beside = step_seconds(training_work(make_configuration(), batch_workers=1), machine)
    assert beside.wall_s == pytest.approx(max(beside.network_s, beside.batch_s))


def test_wider_networks_and_larger_batches_take_longer(make_configuration, make_machine, training_work):
    machine = make_machine()
    seconds = [
        step_seconds(training_work(make_configuration(**changes)), machine).network_s
        for changes in ({}, {"batch_size": 4}, {"batch_size": 4, "features": (8, 16)})
    ]
    assert seconds == sorted(seconds)
    assert seconds[0] < seconds[-1]


def test_muon_multiplies_every_kernel_by_its_gram_matrix(make_configuration, make_machine, training_work):
    configuration = make_configuration(features=(8, 16))
    encoder = [(8, 27), (8, 8 * 27), (16, 8 * 27), (16, 16 * 27)]
    decoder = [(16, 8 * 8), (8, 16 * 27), (8, 8 * 27)]  # up by 2, then two convolutions; the head is none
    products = sum(2 * m**2 * n + 15 * m**3 for m, n in encoder + decoder)
    assert muon_products(configuration, 1, 2) == products
    machine = make_machine()
    seconds = [
        step_seconds(training_work(configuration, optimiser=name), machine).network_s for name in ("sgd", "muon")
    ]
    assert seconds[1] - seconds[0] == pytest.approx(products / machine.cpu.product_per_s)


def test_a_budget_takes_the_widest_network_of_which_enough_steps_fit(make_configuration, make_machine, training_work):
    machine = make_machine()
    candidates = [make_configuration(features=features) for features in ((2, 4), (4, 8), (8, 16))]
    work = training_work(candidates[-1])
    seconds = [step_seconds(replace(work, configuration=one), machine).network_s for one in candidates]
    budget = replace(work, budget_s=100 * seconds[1])
    assert fitted_configuration(budget, candidates, 100, machine) == candidates[1]
    assert fitted_configuration(replace(work, budget_s=0.0), candidates, 100, machine) == candidates[0]


def test_short_commands_take_at_least_their_start(make_configuration, make_machine):
    machine, work = make_machine(), prediction_work(make_configuration())
    estimates = (
        planning_estimate(machine),
        networks_estimate(machine),
        export_estimate(work, machine),
        pruning_estimate([work, work], machine),
    )
    assert all(estimate.wall_s >= 1 for estimate in estimates)
