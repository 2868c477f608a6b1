from __future__ import annotations

import pytest

from msseg.losses import LOSSES, build_loss
from msseg.losses.options import checked_options, option_names
from planning.errors import PlanError


def test_options_are_the_keywords_of_a_loss() -> None:
    assert option_names(LOSSES["hybrid"]) == ("mode", "alpha", "gamma", "smooth", "margin")
    assert option_names(LOSSES["bce"]) == ()


def test_whole_numbers_stand_for_real_ones() -> None:
    checked = checked_options("sharp", LOSSES["sharp"], {"lovasz_weight": 1, "preset": "half"})
    assert checked == {"lovasz_weight": 1.0, "preset": "half"}
    assert isinstance(checked["lovasz_weight"], float)


@pytest.mark.parametrize(
    ("loss", "options", "words"),
    [
        (
            "hybrid",
            {"modus": "sane"},
            r"loss hybrid: found 'modus', expected one of mode, alpha, gamma, smooth, margin",
        ),
        ("bce", {"gamma": 1.0}, "loss bce: found 'gamma', expected none"),
        ("hybrid", {"mode": "printed"}, "mode of loss hybrid: found 'printed', expected one of sane, focal, literal"),
        ("focal", {"gamma": "two"}, "found 'two', expected a number of at least 0"),
        ("focal", {"gamma": True}, "found True, expected a number"),
        ("focal", {"gamma": float("nan")}, "found nan, expected a number"),
        ("focal", {"alpha": 1.5}, "found 1.5, expected a number of at least 0 and at most 1"),
        ("hybrid", {"smooth": 0}, "found 0, expected a number above 0"),
        ("border_ce", {"sigma_px": -1.0}, "found -1.0, expected a number above 0"),
    ],
)
def test_wrong_option_is_named_with_what_was_found_and_expected(loss: str, options: dict, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        build_loss(loss, (1.0, 1.0), True, options)
