from __future__ import annotations

from dataclasses import replace

from planning.explain import PAGE_WIDTH, explain, product
from planning.planner import make_plan


def test_the_page_gives_every_reason_once(kits_like):
    plan = make_plan(kits_like)
    page = " ".join(explain(plan).split())
    for reason in plan.reasons:
        assert " ".join(reason.decision.split()) in page
        assert reason.source in page


def test_the_page_has_a_part_for_each_configuration(kits_like):
    lines = explain(make_plan(kits_like)).splitlines()
    parts = [line.removeprefix("Configuration ") for line in lines if line.startswith("Configuration")]
    assert parts == ["3d", "2d", "3d_lowres", "3d_cascade"]
    assert max(len(line) for line in lines) <= PAGE_WIDTH


def test_a_value_edited_by_hand_shows(kits_like):
    plan = make_plan(kits_like)
    edited = replace(plan.configurations["3d"], batch_size=5)
    page = explain(replace(plan, configurations={**plan.configurations, "3d": edited}))
    assert "batch 5." in page


def test_options_edited_by_hand_show(kits_like):
    plan = make_plan(kits_like)
    edited = replace(plan.configurations["3d"], network_options={"heads": "last", "dropout": 0.5})
    page = explain(replace(plan, configurations={**plan.configurations, "3d": edited}))
    assert "In force: mss_unet (heads=last, dropout=0.5), 6 levels" in page


def test_products_read_like_sizes():
    assert product((40, 56, 40)) == "40 × 56 × 40"
    assert product((3.0, 0.781625)) == "3 × 0.7816"
