from __future__ import annotations

import pytest

from planning.weights import class_weights, halving_weights, paired_weights, uniform_weights


def test_kits_frequencies_give_the_papers_weights():
    weights = class_weights((80.0, 20.0))
    assert weights == pytest.approx((0.28, 0.28, 0.44), abs=0.005)
    assert weights[2] / (weights[1] + weights[2]) == pytest.approx(0.6, abs=0.02)


def test_equally_frequent_classes_weigh_the_same():
    assert class_weights((5.0, 5.0)) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_a_very_rare_class_weighs_four_times_the_most_frequent_at_most():
    assert class_weights((1e6, 1.0)) == pytest.approx((1 / 6, 1 / 6, 4 / 6))
    assert class_weights((1e6, 0.0)) == pytest.approx((1 / 6, 1 / 6, 4 / 6))


def test_the_order_of_the_classes_does_not_matter():
    assert class_weights((20.0, 80.0)) == pytest.approx((0.279, 0.442, 0.279), abs=0.001)


def test_a_single_class_weighs_as_much_as_the_background():
    assert class_weights((7.0,)) == (0.5, 0.5)


def test_uniform_weights_sum_to_one():
    assert uniform_weights(4) == (0.25,) * 4


def test_paired_weights_are_the_papers_at_five_levels():
    assert paired_weights(5) == pytest.approx((0.4, 0.2, 0.2, 0.1, 0.1))
    assert paired_weights(1) == (1.0,)
    assert paired_weights(3) == pytest.approx((0.5, 0.25, 0.25))
    assert paired_weights(6) == pytest.approx([w / 21 for w in (8, 4, 4, 2, 2, 1)])


def test_halving_weights_leave_the_coarsest_out():
    assert halving_weights(4) == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))
    assert halving_weights(1) == (1.0,)


@pytest.mark.parametrize("rule", [paired_weights, halving_weights])
@pytest.mark.parametrize("count", range(1, 9))
def test_supervision_weights_sum_to_one_and_never_grow(rule, count):
    weights = rule(count)
    assert len(weights) == count
    assert sum(weights) == pytest.approx(1)
    assert list(weights) == sorted(weights, reverse=True)
