import math

import numpy as np
import pytest

from msseg.evaluation.bootstrap import (
    Tally,
    difference,
    drawn_units,
    groups_in_order,
    interval,
    mean_tally,
)


def names(count):
    return [f"case_{number:03d}" for number in range(count)]


def column(values):
    return mean_tally(np.array(values, float)[:, None])


def test_a_figure_is_the_mean_over_labels_of_means_over_the_cases_that_define_them():
    values = np.array([[1.0, 0.5], [0.0, np.nan], [0.5, 0.7]])
    assert mean_tally(values).figure() == pytest.approx((0.5 + 0.6) / 2)


def test_a_label_that_no_case_defines_is_left_out_and_without_any_there_is_no_figure():
    assert mean_tally(np.array([[0.8, np.nan], [0.6, np.nan]])).figure() == pytest.approx(0.7)
    assert math.isnan(mean_tally(np.full((2, 1), np.nan)).figure())


def test_a_pooled_figure_is_a_ratio_of_sums():
    assert Tally(np.array([[3.0], [1.0]]), np.array([[4.0], [12.0]])).figure() == 0.25


def test_every_draw_takes_as_many_cases_as_there_are():
    drawn = drawn_units(names(7), draws=50)
    assert drawn.shape == (50, 7)
    assert (drawn.sum(1) == 7).all()


def test_two_cases_give_the_three_means_that_two_draws_can_have_as_often_as_they_should():
    figures = column([0.0, 1.0]).drawn(drawn_units(names(2), draws=20_000))
    share = [float(np.mean(figures == value)) for value in (0.0, 0.5, 1.0)]
    assert share == pytest.approx([0.25, 0.5, 0.25], abs=0.01)


def test_the_interval_of_many_cases_is_the_normal_distributions():
    values = np.random.default_rng(3).normal(0.8, 0.1, 900)
    found = interval(values.mean(), column(values).drawn(drawn_units(names(900), draws=4000)))
    half = 1.96 * values.std() / math.sqrt(900)
    assert found.lower == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.upper == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_equal_cases_of_a_group_are_as_sure_as_the_group_alone():
    groups = [f"patient_{number}" for number in range(20)]
    values = np.random.default_rng(1).uniform(0, 1, 20)
    alone = column(values).drawn(drawn_units(groups))
    fivefold = column(np.repeat(values, 5)).drawn(drawn_units(np.repeat(groups, 5).tolist()))
    assert fivefold == pytest.approx(alone)
    ungrouped = column(np.repeat(values, 5)).drawn(drawn_units(names(100)))
    assert ungrouped.std() == pytest.approx(alone.std() / math.sqrt(5), rel=0.1)


def test_a_constant_shift_is_certain_however_far_cases_differ():
    values = np.random.default_rng(2).uniform(0, 0.9, 30)
    found = difference(column(values + 0.05), column(values), drawn_units(names(30)))
    assert (found.value, found.lower, found.upper) == pytest.approx((0.05, 0.05, 0.05))
    assert not found.holds_zero


def test_draws_that_define_nothing_are_left_out_of_the_interval():
    tally = column([np.nan, 0.5])
    found = interval(tally.figure(), tally.drawn(drawn_units(names(2))))
    assert (found.lower, found.upper) == (0.5, 0.5)
    nothing = interval(float("nan"), np.full(3, np.nan))
    assert math.isnan(nothing.lower) and nothing.holds_zero


def test_the_same_seed_draws_the_same_cases():
    assert np.array_equal(drawn_units(names(9)), drawn_units(names(9)))
    assert not np.array_equal(drawn_units(names(9)), drawn_units(names(9), seed=1))


def test_without_cases_nothing_is_drawn():
    with pytest.raises(ValueError, match="no cases"):
        drawn_units([])


def test_without_groups_each_case_is_one():
    assert groups_in_order(["a", "b"], None) == ["a", "b"]
    assert groups_in_order(["a", "b"], {"a": "p", "b": "p"}) == ["p", "p"]
