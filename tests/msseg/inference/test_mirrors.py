from __future__ import annotations

import numpy as np
import pytest

from msseg.inference.mirrors import HALF, mirrored_axes
from msseg.inference.passes import Passes
from msseg.inference.sliding_window import make_window


@pytest.mark.parametrize(
    ("mirror", "axes", "expected"),
    [
        (True, (0, 1, 2), (0, 1, 2)),
        (False, (0, 1, 2), ()),
        (HALF, (0, 1, 2), (2,)),
        (HALF, (0, 1), (1,)),
        (HALF, (2,), ()),
        (HALF, (), ()),
    ],
)
def test_half_of_the_axes_are_the_last_ones_rounded_down(mirror, axes, expected):
    assert mirrored_axes(axes, mirror) == expected


def test_an_unknown_word_is_refused():
    with pytest.raises(ValueError, match="found 'quarter', expected True, False or 'half'"):
        mirrored_axes((0,), "quarter")


@pytest.mark.parametrize(("mirror", "views"), [(True, 8), (HALF, 2), (False, 1)])
def test_a_window_shows_as_many_views_as_its_axes_combine_to(make_configuration, mirror, views):
    image = np.zeros((1, 8, 8, 8), np.float32)
    shown = make_window(image, make_configuration(), 2, Passes([]), mirror=mirror).views
    assert len(shown) == views
    assert {axis for view in shown for axis in view.flips} <= ({-1} if mirror == HALF else {-3, -2, -1})
