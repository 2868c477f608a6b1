from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import pytest

from planning.counting import parameters
from planning.errors import PlanError
from planning.memory import feature_voxels, training_bytes
from planning.networks import NETWORKS, network_row
from planning.plan import Configuration, plan_to_json, validate_plan
from planning.planner import Budget, make_plan
from planning.regions import Region
from planning.rules import GIGABYTE
from planning.sizing import patch_batch
from planning.training_memory import step_memory


def test_mss_unet_has_the_authors_six_levels_and_plane(kits_like):
    configuration = make_plan(kits_like).configurations["3d"]
    assert configuration.network == "mss_unet"
    assert configuration.features == (30, 60, 120, 240, 320, 320)
    assert configuration.patch_size == (56, 192, 192)
    assert configuration.batch_size == 2
    assert configuration.supervision_weights == pytest.approx((0.4, 0.2, 0.2, 0.1, 0.1))
    assert configuration.batch_dice


def test_a_network_asked_for_is_planned_in_3d_and_2d(kits_like):
    plan = make_plan(kits_like, Budget(network="mss_unet"))
    assert {configuration.network for configuration in plan.configurations.values()} == {"mss_unet"}
    assert plan.configurations["2d"].features == (30, 60, 120, 240, 480, 480, 480, 480)


def test_the_schools_networks_end_at_five_levels_and_the_patch_follows(kits_like):
    planned = make_plan(kits_like, Budget(network="unet_sharp")).configurations
    for configuration in planned.values():
        assert len(configuration.features) == 5
        assert len(configuration.supervision_weights) == 8
        assert all(edge % 16 == 0 for edge in configuration.patch_size[-2:])
    assert planned["2d"].features == (32, 64, 128, 256, 512)


def test_options_are_planned_with_and_explained(kits_like):
    options = {"most_levels": 3, "heads": "last", "dropout": 0.2}
    plan = make_plan(kits_like, Budget(network="unet_sharp", options=options))
    configuration = plan.configurations["3d"]
    assert configuration.network_options == options
    assert len(configuration.strides) == 2 and configuration.supervision_weights == (1.0,)
    assert configuration.row.dropout == 0.2
    words = {reason.subject: reason.decision for reason in plan.reasons}
    assert words["configurations.3d.network_options"] == "most_levels=3, heads=last, dropout=0.2"


def test_an_encoder_of_2d_images_leaves_the_2d_configuration_alone(kits_like):
    plan = make_plan(kits_like, Budget(network="plain_unet", options={"encoder": "vgg16"}))
    assert list(plan.configurations) == ["2d"] == [plan.default_configuration]
    assert len(plan.configurations["2d"].features) == 5
    reason = next(reason for reason in plan.reasons if reason.subject == "default_configuration")
    assert reason.source == "the user" and "vgg16" in reason.because


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_planned_for_what_its_memory_holds(name, kits_like):
    row = network_row(name)
    for configuration in make_plan(kits_like, Budget(network=name)).configurations.values():
        dimensions, patch = configuration.dimensions, configuration.patch_size
        voxels = feature_voxels(row, patch, configuration.strides, 3)
        held = training_bytes(voxels, patch_batch(row, dimensions), dimensions, row)
        assert held <= row.reference_memory_bytes


def test_growing_the_batch_turns_four_times_the_memory_into_the_authors_batch(kits_like):
    grown = make_plan(kits_like, Budget(32 * GIGABYTE, grow="batch")).configurations["3d"]
    assert (grown.patch_size, grown.batch_size) == ((56, 192, 192), 8)


def test_growing_the_patch_leaves_the_batch(kits_like):
    grown = make_plan(kits_like, Budget(32 * GIGABYTE)).configurations["3d"]
    assert grown.batch_size == 2
    assert grown.patch_size > (56, 192, 192)


@pytest.mark.parametrize("memory", [2 * GIGABYTE, 8 * GIGABYTE])
def test_growth_does_not_matter_up_to_the_reference_memory(kits_like, memory):
    patch, batch = (make_plan(kits_like, Budget(memory, grow=grow)).configurations for grow in ("patch", "batch"))
    assert patch == batch


def test_same_input_gives_the_same_plan_to_the_byte(kits_like):
    first, second = (json.dumps(plan_to_json(make_plan(kits_like))) for _ in range(2))
    assert first == second


def test_the_order_of_the_cases_does_not_matter(make_fingerprint):
    groups = [((40, 200, 220), (3.0, 0.8, 0.9), 3), ((60, 180, 210), (1.5, 0.7, 1.0), 4)]
    assert make_plan(make_fingerprint(groups)) == make_plan(make_fingerprint(groups[::-1]))


def test_patches_are_multiples_of_what_the_strides_need(make_fingerprint):
    for shape in [(17, 90, 91), (33, 34, 35), (100, 250, 60)]:
        for configuration in make_plan(make_fingerprint([(shape, (2.0, 1.0, 1.3), 9)])).configurations.values():
            for axis, edge in enumerate(configuration.patch_size):
                product = 1
                for stride in configuration.strides:
                    product *= stride[axis]
                assert edge % product == 0


def test_single_slices_get_a_2d_configuration_alone(make_fingerprint):
    plan = make_plan(make_fingerprint([((1, 300, 280), (1.0, 0.5, 0.5), 10)]))
    assert list(plan.configurations) == ["2d"] == [plan.default_configuration]


def test_a_single_slice_along_a_fine_last_axis_still_comes_first(make_fingerprint):
    plan = make_plan(make_fingerprint([((300, 280, 1), (0.5, 0.5, 0.1), 10)]))
    assert plan.axis_order == (2, 0, 1)
    assert list(plan.configurations) == ["2d"]


def test_single_slices_of_many_thicknesses_are_still_single_slices(make_fingerprint):
    plan = make_plan(make_fingerprint([((1, 300, 280), (float(thickness), 0.5, 0.5), 2) for thickness in range(2, 11)]))
    assert list(plan.configurations) == ["2d"]


def test_volumes_are_planned_in_3d_first(kits_like):
    plan = make_plan(kits_like)
    assert list(plan.configurations)[:2] == ["3d", "2d"]
    assert plan.default_configuration == "3d"
    assert plan.configurations["2d"].spacing_mm == plan.configurations["3d"].spacing_mm[1:]


def test_images_too_small_to_pool_get_a_padded_patch_with_one_decoder_level(make_fingerprint):
    configuration = make_plan(make_fingerprint([((7, 6, 5), (1.0, 1.0, 1.0), 4)])).configurations["3d"]
    assert configuration.patch_size == (12, 12, 12)
    assert configuration.strides == ((2, 2, 2),)
    assert configuration.supervision_weights == (1.0,)


def test_single_voxels_cannot_be_planned(make_fingerprint):
    with pytest.raises(PlanError, match="more than a single voxel"):
        make_plan(make_fingerprint([((1, 1, 1), (1.0, 1.0, 1.0), 4)]))


def test_memory_that_no_patch_fits_is_an_error_that_tells_how_much_is_needed(kits_like):
    with pytest.raises(PlanError, match=r"found 1e-06 GB, expected at least 0\.\d+ GB"):
        make_plan(kits_like, Budget(1000))


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(network="u_net"), "found 'u_net', expected one of unet, wunet, unet2p, unet3p"),
        (Budget(grow="both"), "found 'both', expected one of patch, batch"),
        (Budget(memory_bytes=0), "found 0 bytes"),
        (Budget(network="unet", options={"gird": "sharp"}), "network option: found 'gird', expected one of"),
        (Budget(options={"grid": "round"}), "network option grid: found 'round', expected one of plain, nested"),
        (
            Budget(network="unet", options={"heads": "sharp"}),
            "found 'sharp' on the grid 'plain', expected last, decoder",
        ),
        (Budget(network="unet", options={"most_levels": 1}), "most_levels: found 1, expected at least 2"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused(kits_like, budget, message):
    with pytest.raises(PlanError, match=message):
        make_plan(kits_like, budget)


def test_dummy_2d_follows_the_proportions_of_the_patch(make_fingerprint):
    flat = make_plan(make_fingerprint([((20, 320, 320), (3.6, 0.6, 0.6), 30)])).configurations
    cube = make_plan(make_fingerprint([((90, 90, 90), (1.0, 1.0, 1.0), 30)])).configurations
    assert flat["3d"].dummy_2d and not flat["2d"].dummy_2d
    assert not cube["3d"].dummy_2d


def test_class_weights_come_from_volumes_and_are_uniform_without(kits_like):
    assert make_plan(kits_like).class_weights == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    cases = tuple(replace(case, voxels_per_class=(80_000, 20_000)) for case in kits_like.cases)
    assert make_plan(replace(kits_like, cases=cases)).class_weights == pytest.approx((0.28, 0.28, 0.44), abs=0.005)


def test_every_decision_has_its_reason(kits_like):
    plan = make_plan(kits_like)
    subjects = {reason.subject for reason in plan.reasons}
    general = {"axis_order", "spacing_mm", "class_weights", "default_configuration", "channels[0].normalisation"}
    # The spacing is explained once for all configurations, the features with the network, the orders together.
    together = {"name", "dimensions", "spacing_mm", "median_shape", "features", "network_options"}
    together |= {"encoder_convolutions", "decoder_convolutions", "previous_stage", "previous_classes"}
    decided = {field.name for field in fields(Configuration)} - together - {"label_order", "score_order"}
    general |= {"configurations.3d_lowres.spacing_mm", "configurations.3d_cascade.previous_stage"}
    names = ("2d", "3d", "3d_lowres")
    assert subjects == general | {f"configurations.{name}.{field}" for name in names for field in decided}
    assert all(reason.decision and reason.because and reason.source for reason in plan.reasons)


def test_the_axes_reason_names_the_coarsest_only_where_there_is_one(kits_like):
    equal = replace(kits_like, cases=tuple(replace(case, spacing_mm=(1.0, 1.0, 1.0)) for case in kits_like.cases))
    because = {reason.subject: reason.because for reason in make_plan(equal).reasons}
    assert because["axis_order"] == "all axes have the same spacing (1 mm), so they keep their order"
    because = {reason.subject: reason.because for reason in make_plan(kits_like).reasons}
    assert "axis 0 has the coarsest spacing (3 mm)" in because["axis_order"]


def test_2_5d_is_planned_where_it_is_asked_for_as_2d_with_a_slice_on_either_side(kits_like):
    plan = make_plan(kits_like, Budget(configuration="2.5d"))
    assert (list(plan.configurations)[:3], plan.default_configuration) == (["3d", "2d", "2.5d"], "2.5d")
    flat, stacked = plan.configurations["2d"], plan.configurations["2.5d"]
    assert stacked == replace(flat, name="2.5d", neighbour_slices=1)
    assert (flat.input_channels(2), stacked.input_channels(2)) == (2, 6)
    because = {reason.subject: reason for reason in plan.reasons}
    assert because["default_configuration"].source == "the user"
    assert because["configurations.2.5d.neighbour_slices"].decision == "1 on either side"


def test_a_configuration_asked_for_is_the_default_and_the_rules_word_is_kept(kits_like):
    plan = make_plan(kits_like, Budget(configuration="2d"))
    assert plan.default_configuration == "2d"
    reason = next(reason for reason in plan.reasons if reason.subject == "default_configuration")
    assert reason.because.startswith("it was asked for; the rules would take 3d")
    assert "2.5d" not in plan.configurations


@pytest.mark.parametrize(
    ("shape", "budget", "message"),
    [
        ((1, 256, 256), Budget(configuration="2.5d"), "found '2.5d', expected 2d, as the images are single slices"),
        ((40, 256, 256), Budget(configuration="4d"), "found '4d', expected one of 3d, 2d, 2.5d"),
        (
            (40, 256, 256),
            Budget(network="unet", options={"encoder": "vgg16"}, configuration="3d"),
            "found '3d', expected 2d or 2.5d, as the encoder is one of 2D images",
        ),
    ],
)
def test_a_configuration_that_the_images_do_not_allow_is_refused(make_fingerprint, shape, budget, message):
    with pytest.raises(PlanError, match=message):
        make_plan(make_fingerprint([(shape, (1.0, 1.0, 1.0), 9)]), budget)


def test_neighbours_cost_parameters_and_memory_of_the_first_convolution_alone(kits_like):
    plan = make_plan(kits_like, Budget(configuration="2.5d"))
    flat, stacked = plan.configurations["2d"], plan.configurations["2.5d"]
    assert parameters(stacked, 1, 3) - parameters(flat, 1, 3) == 2 * 9 * flat.features[0]
    assert step_memory(stacked, 1, 3).peak > step_memory(flat, 1, 3).peak


def test_a_patch_that_sees_a_twentieth_of_the_image_gets_the_stages_of_a_cascade(kits_like):
    plan = make_plan(kits_like, Budget(network="plain_unet"))
    full, coarse, cascade = (plan.configurations[name] for name in ("3d", "3d_lowres", "3d_cascade"))
    share = math.prod(full.patch_size) / math.prod(full.median_shape)
    assert 0.05 < share < 0.06
    assert math.prod(coarse.patch_size) >= 0.25 * math.prod(coarse.median_shape)
    assert not coarse.batch_dice and full.batch_dice
    assert replace(cascade, name="3d", previous_stage=None, previous_classes=0) == full
    assert (cascade.previous_stage, cascade.previous_classes, cascade.input_channels(1)) == ("3d_lowres", 2, 3)
    words = {reason.subject: reason for reason in plan.reasons}
    assert "5.8%" in words["configurations.3d_lowres.spacing_mm"].because
    assert words["configurations.3d_cascade.previous_stage"].decision == "3d_lowres"
    assert plan.default_configuration == "3d"


@pytest.mark.parametrize(("shape", "memory"), [((36, 50, 35), 8 * GIGABYTE), ((96, 152, 152), 8 * GIGABYTE)])
def test_a_patch_that_sees_enough_gets_none_and_its_plan_says_nothing_of_stages(make_fingerprint, shape, memory):
    fingerprint = make_fingerprint([(shape, (1.0, 1.0, 1.0), 60)])
    plan = make_plan(fingerprint, Budget(memory, "plain_unet"))
    assert list(plan.configurations) == ["3d", "2d"]
    assert "previous" not in json.dumps(plan_to_json(plan))
    with pytest.raises(PlanError, match=r"'3d_cascade', expected 3d or 2d or 2\.5d, as a patch sees enough"):
        make_plan(fingerprint, Budget(memory, "plain_unet", configuration="3d_cascade"))


def test_a_grid_that_was_planned_before_serves_another_network(kits_like):
    coarse_mm = (3.0, 1.6, 1.6)
    plan = make_plan(kits_like, Budget(network="unet_sharp", configuration="3d_cascade"), coarse_mm)
    coarse = plan.configurations["3d_lowres"]
    assert (coarse.spacing_mm, coarse.network, plan.default_configuration) == (coarse_mm, "unet_sharp", "3d_cascade")
    assert coarse.median_shape == (136, round(511 * 0.781625 / 1.6), round(511 * 0.781625 / 1.6))


def test_encoders_of_2d_images_leave_out_the_stages(kits_like):
    flat = make_plan(kits_like, Budget(network="plain_unet", options={"encoder": "vgg16"}))
    assert list(flat.configurations) == ["2d"]


def test_the_second_network_of_a_cascade_sees_a_plane_for_each_region(kits_like):
    regions = (Region("all", (1, 2), 1), Region("core", (2,), 2), Region("rest", (1,), 1))
    plan = make_plan(replace(kits_like, regions=regions), Budget(network="plain_unet"))
    assert plan.planes == ((1, 2), (2,), (1,))
    assert plan.configurations["3d_cascade"].previous_classes == 3
    assert plan.configurations["3d_lowres"].previous_classes == 0


@pytest.mark.parametrize(
    ("name", "changes"), [("3d", {"previous_classes": 2}), ("3d_cascade", {"previous_classes": 1})]
)
def test_planes_that_no_previous_stage_shows_are_refused(kits_like, name, changes):
    plan = make_plan(kits_like, Budget(network="plain_unet"))
    edited = {**plan.configurations, name: replace(plan.configurations[name], **changes)}
    with pytest.raises(PlanError, match=f"plan.configurations.{name}.previous_classes: found"):
        validate_plan(replace(plan, configurations=edited), "edited")
