import math
from dataclasses import replace

import numpy as np
import pytest

from msseg.evaluation.bootstrap import mean_tally
from msseg.evaluation.comparison import Candidate, choose_highest, choose_simplest, compare, nested_figure


def candidate(values, *members):
    return Candidate(members, mean_tally(np.array(values, float)[:, None]))


def cases(count):
    return [f"case_{number:02d}" for number in range(count)]


BASE = np.random.default_rng(0).uniform(0.6, 0.9, 20)
NOISE = np.random.default_rng(1).normal(0, 0.05, 20)


def test_rows_stand_in_the_order_of_their_figures_with_paired_differences_to_the_best():
    rows = compare([candidate(BASE, "low"), candidate(BASE + 0.02, "high")], cases(20))
    assert [row.name for row in rows] == ["high", "low"]
    assert rows[0].to_best.value == 0 and rows[0].to_best.holds_zero
    assert rows[1].to_best.value == pytest.approx(-0.02)
    assert rows[1].to_best.upper == pytest.approx(-0.02)
    assert rows[0].figure.lower < BASE.mean() + 0.02 < rows[0].figure.upper


def test_an_ensemble_that_gains_in_every_case_is_taken():
    rows = compare([candidate(BASE, "a"), candidate(BASE - 0.1, "b"), candidate(BASE + 0.01, "a", "b")], cases(20))
    choice = choose_simplest(rows)
    assert choice.name == choice.best == "a + b"
    assert "-0.0100 (-0.0100 to -0.0100) off, an interval without 0" in choice.reason


def test_a_single_model_is_taken_where_the_ensembles_gain_may_be_chance():
    together = BASE + NOISE - NOISE.mean() + 0.001
    rows = compare([candidate(BASE, "a"), candidate(BASE - 0.1, "b"), candidate(together, "a", "b")], cases(20))
    assert choose_highest(rows).name == "a + b"
    choice = choose_simplest(rows)
    assert (choice.name, choice.best) == ("a", "a + b")
    assert "1 model instead of 2 lies -0.0010" in choice.reason and "holds 0" in choice.reason


def test_a_cascade_counts_as_the_two_models_that_it_takes():
    cascade = replace(candidate(BASE + NOISE - NOISE.mean() + 0.001, "cascade"), before=1)
    rows = compare([candidate(BASE, "a"), cascade], cases(20))
    choice = choose_simplest(rows)
    assert (choice.name, choice.best) == ("a", "cascade")
    assert "with 1 model instead of 2" in choice.reason


def test_of_equally_many_members_the_higher_figure_is_taken():
    rows = compare([candidate(BASE, "a"), candidate(BASE + NOISE - NOISE.mean() - 0.001, "b")], cases(20))
    assert choose_simplest(rows).name == "a"


def test_a_candidate_without_a_figure_comes_last_and_is_not_taken():
    rows = compare([candidate(np.full(20, np.nan), "a"), candidate(BASE, "b", "c")], cases(20))
    assert rows[-1].name == "a" and math.isnan(rows[-1].figure.value)
    assert choose_simplest(rows).name == "b + c"


def test_choosing_on_the_other_folds_shows_what_choosing_gained_by_chance():
    # Each fold likes the candidate that loses on the other one.
    folds = ["0"] * 2 + ["1"] * 2
    one, two = candidate([0.9, 0.9, 0.5, 0.5], "a"), candidate([0.5, 0.5, 0.8, 0.8], "b")
    assert compare([one, two], cases(4))[0].figure.value == pytest.approx(0.7)
    assert nested_figure([one, two], folds, cases(4), choose_highest) == pytest.approx(0.5)


def test_one_fold_alone_has_no_nested_figure():
    assert math.isnan(nested_figure([candidate([0.5, 0.6], "a")], ["0", "0"], cases(2), choose_highest))
