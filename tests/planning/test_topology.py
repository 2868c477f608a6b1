from __future__ import annotations

import pytest

from planning.topology import axis_factors, largest_patch, plan_topology, shrunk


def test_a_cube_is_halved_while_eight_voxels_are_left():
    topology = plan_topology((1.0, 1.0, 1.0), (32, 32, 32))
    assert topology.strides == ((2, 2, 2),) * 3
    assert topology.kernel_sizes == ((3, 3, 3),) * 4
    assert topology.patch_size == (32, 32, 32)


def test_a_coarse_axis_waits_until_the_others_have_caught_up():
    # 4 mm against 1 mm: after one halving 4 against 2 is still twice as coarse, after two it is equal.
    topology = plan_topology((4.0, 1.0, 1.0), (16, 64, 64))
    assert topology.strides == ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert topology.kernel_sizes == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))


def test_a_lone_axis_is_halved_only_from_twelve_voxels_on():
    assert plan_topology((1.0, 1.0), (11, 4)).strides == ()
    assert plan_topology((1.0, 1.0), (12, 4)).strides == ((2, 1),)


def test_the_patch_is_rounded_up_to_what_the_strides_need():
    topology = plan_topology((1.0, 1.0, 1.0), (36, 50, 35.5))
    assert topology.divisors == (8, 8, 8)
    assert topology.patch_size == (40, 56, 40)


def test_a_network_that_ends_early_needs_fewer_multiples():
    whole, short = (plan_topology((1.0, 1.0), (130, 130), levels) for levels in (None, 3))
    assert (whole.divisors, whole.patch_size) == ((32, 32), (160, 160))
    assert (short.divisors, short.patch_size) == ((4, 4), (132, 132))
    assert len(short.kernel_sizes) == 3


def test_shrinking_keeps_to_the_most_levels():
    topology = plan_topology((1.0, 1.0), (256, 256), 5)
    smaller = shrunk(topology, (1.0, 1.0), (300.0, 300.0), 5)
    assert smaller is not None
    assert smaller.patch_size == (256, 240) and len(smaller.strides) == 4


def test_factors_of_no_strides_are_one():
    assert axis_factors((), 3) == (1, 1, 1)
    assert axis_factors(((1, 2, 2), (2, 2, 2)), 3) == (2, 4, 4)


@pytest.mark.parametrize(
    ("spacing", "median", "patch"),
    [
        ((1.0, 1.0, 1.0), (1000.0, 1000.0, 1000.0), (256, 256, 256)),
        ((1.0, 1.0, 1.0), (36.0, 50.0, 35.5), (36, 50, 35.5)),
        ((4.0, 1.0, 1.0), (1000.0, 1000.0, 1000.0), (102, 406, 406)),
        ((1.0, 4.0), (9999.0, 9999.0), (4096, 1024)),
    ],
)
def test_the_first_patch_has_equal_extent_in_mm_within_the_median_shape(spacing, median, patch):
    assert largest_patch(spacing, median) == patch


def test_shrinking_does_not_skip_the_sizes_that_a_smaller_divisor_allows():
    topology = plan_topology((1.0, 1.0), (256, 256))
    assert topology.divisors == (64, 64)
    smaller = shrunk(topology, (1.0, 1.0), (300.0, 300.0))
    assert smaller is not None
    assert smaller.patch_size == (256, 224)


def test_shrinking_takes_the_axis_that_covers_most_of_the_image():
    topology = plan_topology((1.0, 1.0), (64, 64))
    smaller = shrunk(topology, (1.0, 1.0), (70.0, 100.0))
    assert smaller is not None
    assert smaller.patch_size[0] < 64 == smaller.patch_size[1]


def test_nothing_is_smaller_than_one_halving():
    topology = plan_topology((1.0, 1.0), (12, 4))
    assert shrunk(topology, (1.0, 1.0), (12.0, 100.0)) is None
