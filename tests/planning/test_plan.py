from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest

from planning.errors import PlanError
from planning.networks import NETWORKS
from planning.plan import plan_from_json, plan_to_json
from planning.planner import make_plan


@pytest.fixture
def written(kits_like) -> dict:
    """A plan as it lies on disk."""
    return json.loads(json.dumps(plan_to_json(make_plan(kits_like))))


def edit(written: dict, path: str, value: object) -> dict:
    """The plan with one value set, or removed where `value` is ...; `path` is dotted."""
    edited = copy.deepcopy(written)
    *parents, last = path.split(".")
    place = edited
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return edited


def test_a_plan_survives_the_way_through_json(kits_like, written):
    assert plan_from_json(written, "plan.json") == make_plan(kits_like)


def test_the_version_comes_first(written):
    assert next(iter(written)) == "version"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("configurations.3d.batch_size", 4),
        ("configurations.3d.patch_size", [64, 160, 160]),
        ("configurations.3d.mirror_axes", [0, 1]),
        ("configurations.3d.mirror_axes", []),
        ("configurations.3d.features", [8, 16, 32, 64, 64, 64]),
        ("configurations.3d.network", "plain_unet"),
        ("configurations.3d.supervision_weights", [1, 0, 0, 0, 0]),
        ("configurations.3d.supervision_weights", [0.5, 0.5]),
        ("configurations.3d.network_options", {"dropout": 0.5, "activation": "prelu", "most_levels": None}),
        ("configurations.3d.encoder_convolutions", [1, 2, 3, 4, 5, 6]),
        ("configurations.3d.spacing_mm", [3, 1, 1]),
        ("class_weights", [0, 1, 1]),
        ("channels.0.lower", -200),
        ("default_configuration", "2d"),
    ],
)
def test_a_plan_edited_by_hand_is_honoured(written, path, value):
    edited = edit(written, path, value)
    assert json.loads(json.dumps(plan_to_json(plan_from_json(edited, "plan.json")))) == edited


def test_a_network_added_to_the_table_by_hand_can_be_read(written, monkeypatch):
    monkeypatch.setitem(NETWORKS, "own", replace(NETWORKS["mss_unet"], name="own"))
    plan = plan_from_json(edit(written, "configurations.3d.network", "own"), "plan.json")
    assert plan.configurations["3d"].row.name == "own"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 7, "version: found 7, expected 1"),
        ("version", ..., "version: found None"),
        ("colour", "red", "plan: found 'colour', expected only the fields"),
        ("class_weights", ..., "plan.class_weights: found None, expected a value: the field is missing"),
        ("class_weights", [1.0, 1.0], "expected 3 weights"),
        ("class_weights", [1.0, 1.0, -1.0], r"class_weights\[2\]: found -1.0, expected a number of at least 0"),
        ("class_weights", [0, 0, 0], "not all 0"),
        ("axis_order", [0, 1, 1], "an order of the axes"),
        ("labels", {"background": 0}, "at least one class"),
        ("labels", {"background": 0, "kidney": 1, "tumour": 1}, "distinct values"),
        ("channels", [], "at least one channel"),
        ("channels.0.normalisation", "hu", "one of ct, nonorm, zscore"),
        ("default_configuration", "4d", "found '4d', expected one of 3d, 2d"),
        ("configurations.3d.name", "2d", "expected '3d'"),
        ("configurations.3d.dimensions", 4, "one of 2, 3"),
        (
            "configurations.3d.patch_size",
            [56, 192, 190],
            r"found \[56, 192, 190\], expected multiples of \[8, 32, 32\]",
        ),
        ("configurations.3d.patch_size", [192, 192], "expected 3 values, one an axis"),
        ("configurations.3d.patch_size", [56.0, 192, 192], r"patch_size\[0\]: found 56.0, expected a whole number"),
        ("configurations.3d.patch_size", "large", "expected a list"),
        ("configurations.3d.batch_size", 0, "batch_size: found 0, expected a whole number of at least 1"),
        ("configurations.3d.batch_size", True, "found True, expected a whole number"),
        ("configurations.3d.spacing_mm.0", 0, r"spacing_mm\[0\]: found 0, expected a number above 0"),
        ("configurations.3d.spacing_mm.0", float("nan"), "expected a finite number"),
        ("configurations.3d.network", "u_net", "one of unet, wunet, "),
        ("configurations.3d.features", [30, 60], "features: found 2 entries, expected 6 entries"),
        ("configurations.3d.strides", [], "at least one step"),
        ("configurations.3d.kernel_sizes.0", [2, 3, 3], "odd edges"),
        ("configurations.3d.kernel_sizes.0", [3, 3], "3 values"),
        (
            "configurations.3d.supervision_weights",
            [0.5, 0.4],
            "found .0.5, 0.4., expected 1 to 5 weights, one a head of mss_unet, that sum to 1",
        ),
        ("configurations.3d.supervision_weights", [0.5, 0.5, 0.5, 0, 0], "that sum to 1"),
        ("configurations.3d.supervision_weights", [0.5, 0.5, 0, 0, 0, 0], "1 to 5 weights"),
        ("configurations.3d.encoder_convolutions", [2, 2], "found 2 entries, expected 6 entries: one a level"),
        ("configurations.3d.decoder_convolutions", [2] * 6, "found 6 entries, expected 5: one a stride"),
        ("configurations.3d.network_options", {"gird": "sharp"}, "3d.network_options: .*found 'gird', expected one of"),
        ("configurations.3d.network_options", {"grid": "round"}, "option grid: found 'round', expected one of plain"),
        ("configurations.3d.network_options", {"dropout": "much"}, "dropout: found 'much', expected a number of"),
        ("configurations.3d.network_options", {"dropout": [0.5]}, "network_options.dropout: found .0.5., expected"),
        ("configurations.3d.network_options", {"heads": "sharp"}, "heads: found 'sharp' on the grid 'plain', expected"),
        ("configurations.3d.network_options", {"encoder": "vgg16"}, "found 'vgg16' in 3D, expected 'blocks', or a 2D"),
        ("configurations.2d.network_options", {"encoder": "vgg16"}, "vgg16 has 5 levels at most, found 8"),
        ("configurations.3d.mirror_axes", [0, 3], "distinct axes below 3"),
        ("configurations.3d.mirror_axes", [0, 0], "distinct axes below 3"),
        ("configurations.3d.batch_dice", 1, "true or false"),
        ("configurations.3d.image_order", 2, "one of 0, 1, 3"),
        ("configurations.3d.label_order", 3, "one of 0, 1"),
        ("configurations.3d.image_order", True, "found True, expected one of 0, 1, 3"),
        ("configurations.3d.image_order", [3], "one of 0, 1, 3"),
        ("reasons.0.because", "", "a non-empty text"),
    ],
)
def test_a_plan_that_contradicts_itself_names_file_field_found_and_expected(written, path, value, message):
    with pytest.raises(PlanError, match=message) as error:
        plan_from_json(edit(written, path, value), "plan.json")
    assert str(error.value).startswith("plan.json: ")


@pytest.mark.parametrize("value", [None, [], "plan", 3])
def test_what_is_no_object_is_no_plan(value):
    with pytest.raises(PlanError, match="expected a plan, a JSON object"):
        plan_from_json(value, "plan.json")


def test_a_plan_without_reasons_is_a_plan(written):
    assert plan_from_json(edit(written, "reasons", ...), "plan.json").reasons == ()
