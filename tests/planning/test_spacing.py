from __future__ import annotations

import numpy as np
import pytest

from planning.spacing import anisotropic_axis, axis_order, median_new_shape, new_shape, target_spacing


def test_target_spacing_is_the_median_of_each_axis():
    spacings = [(1.0, 2.0, 3.0), (2.0, 2.0, 3.0), (3.0, 1.0, 3.0)]
    assert target_spacing(spacings, [(90, 90, 90)] * 3) == (2.0, 2.0, 3.0)


def test_an_anisotropic_axis_takes_the_tenth_percentile():
    thick = [4.0, 5.0, 6.0, 7.0, 8.0]
    found = target_spacing([(z, 1.0, 1.0) for z in thick], [(20, 200, 200)] * 5)
    assert found == (pytest.approx(float(np.percentile(thick, 10))), 1.0, 1.0)


def test_an_anisotropic_axis_does_not_become_finer_than_the_others():
    found = target_spacing([(z, 1.0, 1.0) for z in [0.5, 0.5, 6.0, 7.0, 8.0]], [(20, 200, 200)] * 5)
    assert found == (1.00001, 1.0, 1.0)


@pytest.mark.parametrize(
    ("spacing", "shape", "axis"),
    [
        ((5.0, 1.0, 1.0), (20, 200, 200), 0),
        ((1.0, 5.0, 1.0), (200, 20, 200), 1),
        ((3.0, 1.0, 1.0), (20, 200, 200), None),
        ((5.0, 1.0, 1.0), (70, 200, 200), None),
        ((1.0, 1.0, 1.0), (10, 10, 10), None),
    ],
)
def test_an_axis_is_anisotropic_when_both_much_coarser_and_much_shorter(spacing, shape, axis):
    assert anisotropic_axis(spacing, shape) == axis


@pytest.mark.parametrize(
    ("spacing", "shape", "order"),
    [
        ((1.0, 1.0, 1.0), (9, 9, 9), (0, 1, 2)),
        ((1.0, 1.0, 3.0), (9, 9, 9), (2, 0, 1)),
        ((1.0, 3.0, 2.0), (9, 9, 9), (1, 0, 2)),
        ((1.0, 3.0, 2.0), (1, 9, 9), (0, 1, 2)),
    ],
)
def test_the_coarsest_or_single_slice_axis_comes_first(spacing, shape, order):
    assert axis_order(spacing, shape) == order


def test_new_shape_keeps_the_extent_and_never_vanishes():
    assert new_shape((100, 50, 2), (1.0, 2.0, 1.0), (2.0, 1.0, 9.0)) == (50, 100, 1)


def test_a_single_slice_stays_one():
    assert new_shape((1, 8), (5.0, 1.0), (1.0, 1.0)) == (1, 8)


def test_halves_round_to_the_even_neighbour():
    assert new_shape((5, 7), (1.0, 1.0), (2.0, 2.0)) == (2, 4)


def test_median_new_shape_may_end_in_a_half():
    assert median_new_shape([(10, 10), (13, 12)], [(1.0, 1.0)] * 2, (1.0, 1.0)) == (11.5, 11.0)
