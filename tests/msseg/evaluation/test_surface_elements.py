from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from msseg.evaluation.surface_elements import (
    SurfaceElements,
    element_areas_mm2,
    neighbourhood_codes,
    robust_hausdorff_mm,
    surface_dice,
    surface_elements,
)


def _ball(radius: float, shift: float = 0.0, size: int = 40) -> np.ndarray:
    z, y, x = np.ogrid[:size, :size, :size]
    centre = (size - 1) / 2
    return (z - centre) ** 2 + (y - centre) ** 2 + (x - centre - shift) ** 2 <= radius**2


def test_a_single_voxel_has_eight_elements_that_cut_its_corners():
    codes = neighbourhood_codes(np.ones((1, 1, 1), dtype=bool))
    assert codes.ravel().tolist() == [128, 64, 32, 16, 8, 4, 2, 1]
    # Each corner is cut by an equilateral triangle whose sides are half of a face's diagonal.
    assert element_areas_mm2((1, 1, 1))[codes] == pytest.approx(np.full((2, 2, 2), np.sqrt(3) / 8))


def test_a_face_between_half_a_cube_has_the_area_of_the_other_two_spacings():
    areas_mm2 = element_areas_mm2((3.0, 0.8, 1.1))
    lower_half, left_half, front_half = 0b00001111, 0b01010101, 0b00110011
    assert areas_mm2[[lower_half, left_half, front_half]] == pytest.approx([0.8 * 1.1, 3.0 * 0.8, 3.0 * 1.1])
    assert areas_mm2[[0, 255]].tolist() == [0, 0]


def test_a_pattern_and_its_complement_share_their_surface():
    areas_mm2 = element_areas_mm2((1.0, 2.0, 3.0))
    assert areas_mm2 == pytest.approx(areas_mm2[::-1])


def test_the_elements_of_a_ball_add_up_to_nearly_its_surface():
    ball = _ball(15.0)
    areas_mm2 = surface_elements(ball, ball, (1, 1, 1)).prediction_mm2
    assert areas_mm2.sum() == pytest.approx(4 * np.pi * 15**2, rel=0.1)


def test_share_within_the_tolerance_goes_by_area():
    elements = SurfaceElements(np.array([0.0, 2.0]), np.array([3.0, 1.0]), np.array([1.0, 5.0]), np.array([4.0, 2.0]))
    assert surface_dice(elements, 1.0) == pytest.approx((3 + 4) / 10)
    assert surface_dice(elements, 2.0) == pytest.approx((3 + 1 + 4) / 10)


def test_robust_hausdorff_is_where_the_share_of_the_area_is_reached():
    # 90 % of the prediction's area lies within 1 mm, 96 % within 3; of the reference's all at 2 mm.
    elements = SurfaceElements(np.array([7.0, 1.0, 3.0]), np.array([4.0, 90.0, 6.0]), np.array([2.0]), np.array([1.0]))
    assert robust_hausdorff_mm(elements) == 3.0
    assert robust_hausdorff_mm(elements, 90.0) == 2.0
    assert robust_hausdorff_mm(elements, 100.0) == 7.0


def test_a_shifted_block_lies_off_by_the_shift_on_two_sides():
    block, shifted = np.zeros((2, 12, 12, 12), dtype=bool)
    block[2:10, 2:10, 2:8] = shifted[2:10, 2:10, 4:10] = True
    elements = surface_elements(shifted, block, (1.0, 1.0, 0.5))
    assert elements.from_prediction_mm.max() == pytest.approx(1.0)
    assert surface_dice(elements, 1.0) == 1.0
    assert 0.4 < surface_dice(elements, 0.5) < 0.5  # the ends, more than half of the surface, lie off by 1 mm


def test_figures_are_those_that_the_surface_distance_package_gives():
    # surface-distance 0.1 on these masks: compute_surface_dice_at_tolerance(…, 1.0), compute_robust_hausdorff(…, 95),
    # and the sum of the reference's areas.
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.normal(size=(14, 22, 19)), 1.0)
    other = field + 0.4 * gaussian_filter(rng.normal(size=field.shape), 1.0)
    elements = surface_elements(other > 0.05, field > 0.06, (3.0, 0.8, 1.1))
    assert surface_dice(elements, 1.0) == pytest.approx(0.9674852066287143)
    assert robust_hausdorff_mm(elements) == pytest.approx(0.8)
    assert elements.reference_mm2.sum() == pytest.approx(6887.518741566629)
