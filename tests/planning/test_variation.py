from __future__ import annotations

from dataclasses import replace

import pytest

from planning.planner import make_plan
from planning.variation import polarity_shares, variations


def with_contrasts(fingerprint, contrasts):
    case = fingerprint.cases[0]
    cases = tuple(replace(case, name=f"{i}", contrast=contrast) for i, contrast in enumerate(contrasts))
    return replace(fingerprint, cases=cases)


@pytest.fixture
def slices(make_fingerprint):
    return make_fingerprint([((1, 256, 320), (1.0, 1.0, 1.0), 20)])


def test_images_clearly_brighter_and_clearly_darker_are_counted_against_all_that_were_measured(slices):
    assert polarity_shares(with_contrasts(slices, [2.0, 0.4, -0.5, -3.0, None])) == (0.25, 0.5)
    assert polarity_shares(slices) is None


@pytest.mark.parametrize(
    ("contrasts", "expected"),
    [
        ([2.0] * 19 + [-2.0], ("polarity",)),
        ([2.0] * 20 + [-2.0], ()),
        ([-2.0] * 20, ()),
        ([0.4, -0.4] * 10, ()),
        ([None] * 3, ()),
    ],
)
def test_both_polarities_must_be_there_in_earnest(slices, contrasts, expected):
    assert variations(with_contrasts(slices, contrasts)) == expected


def test_the_plan_says_what_varies_and_why(slices):
    mixed = replace(
        with_contrasts(slices, [2.0] * 6 + [-2.0] * 4),
        channels=("red", "green", "blue"),
        intensities=slices.intensities * 3,
    )
    plan = make_plan(mixed)
    assert plan.configurations["2d"].variations == ("colour", "polarity")
    because = {reason.subject: reason for reason in plan.reasons}["configurations.2d.variations"]
    assert because.decision == "colour and polarity"
    assert "brighter than its background in 60% of the images, clearly darker in 40%" in because.because


def test_volumes_of_one_channel_vary_in_nothing(kits_like):
    assert all(not configuration.variations for configuration in make_plan(kits_like).configurations.values())


def test_images_are_continued_by_their_mirror_where_they_are_single_slices(slices, kits_like):
    assert make_plan(slices).configurations["2d"].image_padding == "mirror"
    assert {one.image_padding for one in make_plan(kits_like).configurations.values()} == {"zeros"}
