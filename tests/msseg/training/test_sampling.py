from __future__ import annotations

import numpy as np

from msseg.training.sampling import (
    choose_cases,
    choose_lower,
    forced_foreground,
    foreground_lower,
    grow_around,
    inside_and_padding,
    random_lower,
)


def test_the_last_third_of_a_batch_is_forced_to_foreground_as_nnunet_rounds_it():
    # index >= round(batch * (1 - 0.33)): 2 -> 1, 3 -> 2, 4 -> 3, 7 -> 5, 12 -> 8
    assert forced_foreground(2, 0.33) == (False, True)
    assert forced_foreground(3, 0.33) == (False, False, True)
    assert forced_foreground(4, 0.33) == (False, False, False, True)
    assert sum(forced_foreground(7, 0.33)) == 2
    assert sum(forced_foreground(12, 0.33)) == 4


def test_cases_are_drawn_uniformly_with_replacement():
    drawn = choose_cases(np.random.default_rng(0), 3, 3000)
    assert set(drawn) == {0, 1, 2}
    assert all(900 < drawn.count(case) < 1100 for case in range(3))


def test_random_patches_reach_both_ends_of_the_image_and_never_leave_it():
    generator = np.random.default_rng(0)
    corners = np.array([random_lower(generator, (10, 8, 9), (4, 8, 8)) for _ in range(200)])
    assert corners.min(axis=0).tolist() == [0, 0, 0]
    assert corners.max(axis=0).tolist() == [6, 0, 1]


def test_an_axis_shorter_than_the_patch_is_centred_in_it():
    assert random_lower(np.random.default_rng(0), (4, 5), (8, 8)) == (-2, -1)


def test_a_foreground_patch_has_a_voxel_of_the_drawn_class_at_its_centre():
    locations = {1: np.array([[5, 6, 7]]), 2: np.zeros((0, 3), int)}
    assert foreground_lower(np.random.default_rng(0), (20, 20, 20), (4, 4, 6), locations) == (3, 4, 4)


def test_a_foreground_patch_near_the_border_stays_inside_the_image():
    locations = {1: np.array([[0, 9, 3]])}
    assert foreground_lower(np.random.default_rng(0), (10, 10, 4), (4, 4, 6), locations) == (0, 6, -1)


def test_a_small_class_is_drawn_as_often_as_a_large_one():
    locations = {1: np.zeros((1000, 1), int), 2: np.full((1, 1), 50)}
    generator = np.random.default_rng(0)
    drawn = [foreground_lower(generator, (100,), (2,), locations) for _ in range(2000)]
    assert 900 < drawn.count((49,)) < 1100


def test_background_locations_are_no_foreground():
    assert foreground_lower(np.random.default_rng(0), (8, 8, 8), (2, 2, 2), {0: np.zeros((5, 3), int)}) is None


def test_a_case_without_foreground_gives_a_random_patch():
    lower = choose_lower(np.random.default_rng(0), (4, 4, 4), (4, 4, 4), {}, foreground=True)
    assert lower == (0, 0, 0)


def test_the_region_read_has_the_patch_in_its_middle():
    assert grow_around((2, 2), (4, 4), (6, 5)) == ((1, 2), (7, 7))


def test_a_region_over_the_edge_is_part_image_part_padding():
    lower, upper, padding = inside_and_padding((5, 5, 5), (-2, 3, 1), (4, 8, 4))
    assert lower == (0, 3, 1)
    assert upper == (4, 5, 4)
    assert padding == ((2, 0), (0, 3), (0, 0))


def test_a_region_wholly_outside_is_all_padding():
    lower, upper, padding = inside_and_padding((5,), (7,), (10,))
    assert lower == upper
    assert sum(padding[0]) == 3
    lower, upper, padding = inside_and_padding((5,), (-6,), (-2,))
    assert lower == upper
    assert sum(padding[0]) == 4
