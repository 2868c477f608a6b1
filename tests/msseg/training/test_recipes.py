from __future__ import annotations

import json
from dataclasses import replace

import pytest

from msseg.errors import MssegError
from msseg.losses.table import LOSSES
from msseg.training.augmentation import AUGMENTATIONS
from msseg.training.optimisers import OPTIMISERS
from msseg.training.recipes import (
    MIRRORS,
    RECIPES,
    SUPERVISION,
    VARIED,
    configured,
    configured_in,
    default_recipe,
    recipe_named,
    recipe_to_json,
    training_patch,
)
from msseg.training.schedules import SCHEDULES


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_row_names_rows_that_exist(name):
    row = RECIPES[name]
    assert row.optimiser in OPTIMISERS
    assert row.schedule in SCHEDULES
    assert row.loss in LOSSES
    assert row.augmentation in AUGMENTATIONS
    assert row.supervision in SUPERVISION
    assert row.mirrors in MIRRORS
    json.dumps(recipe_to_json(row), allow_nan=False)


def test_the_papers_recipe_is_adam_with_a_plateau():
    row = recipe_named("mss")
    assert (row.optimiser, row.learning_rate, row.loss) == ("adam", 3e-4, "exp_log_dice_ce")
    assert row.plateau is not None
    assert (row.plateau.factor, row.plateau.patience, row.plateau.stop_patience) == (0.2, 30, 50)


def test_a_budget_has_its_own_default():
    assert default_recipe(has_budget=False).name == "mss"
    assert default_recipe(has_budget=True).name == "budget"


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(MssegError, match="mss, nnunet, budget, render, unet_sharp, unet_school"):
        recipe_named("adamax")


def test_a_recipe_replaces_batch_size_and_width_of_the_plan_up_to_its_cap(plan, recipe):
    planned = replace(plan.configurations["3d"], features=(30, 60, 120, 240, 320, 320))
    row = replace(recipe, batch_size=5, base_features=16)
    used = configured(planned, row)
    assert used.batch_size == 5
    assert used.features == (16, 32, 64, 128, 168, 168)
    untouched = configured(planned, replace(recipe, batch_size=None, base_features=None))
    assert untouched == planned


def test_a_share_of_the_patch_is_rounded_to_what_the_strides_divide(plan, recipe):
    strides = ((2, 2, 2), (2, 2, 2), (2, 2, 2))
    planned = replace(plan.configurations["3d"], patch_size=(40, 56, 40), strides=strides)
    assert training_patch(planned, replace(recipe, patch_share=0.85)) == (32, 48, 32)
    assert training_patch(planned, replace(recipe, patch_share=0.01)) == (8, 8, 8)
    assert training_patch(planned, replace(recipe, patch_share=1.0)) == (40, 56, 40)


def test_lateral_mirrors_follow_the_columns_of_the_files_through_the_axis_order(plan, recipe):
    planned = replace(plan.configurations["3d"], mirror_axes=(0, 1, 2))
    lateral = replace(recipe, mirrors="lateral")
    assert configured(planned, lateral, (0, 1, 2)).mirror_axes == (2,)
    assert configured(planned, lateral, (2, 0, 1)).mirror_axes == (0,)
    assert configured(replace(planned, mirror_axes=(0, 1)), lateral, (0, 1, 2)).mirror_axes == ()
    assert configured(planned, replace(recipe, mirrors="plan")).mirror_axes == (0, 1, 2)


def test_horizontal_mirrors_follow_the_columns_in_slices_too(plan, recipe):
    volume = replace(plan.configurations["3d"], mirror_axes=(0, 1, 2))
    slices = replace(volume, dimensions=2, mirror_axes=(0, 1))
    horizontal = replace(recipe, mirrors="horizontal")
    assert configured(volume, horizontal, (1, 2, 0)).mirror_axes == (1,)
    assert configured(slices, horizontal, (0, 1, 2)).mirror_axes == (1,)
    assert configured(slices, horizontal, (1, 2, 0)).mirror_axes == (0,)
    assert configured(slices, horizontal, (2, 0, 1)).mirror_axes == ()
    assert configured(volume, replace(recipe, mirrors="none")).mirror_axes == ()


def halved(configuration, network: str, weights: int) -> tuple[float, ...]:
    """The halving weights of `network` on four levels, whose plan weighs so many heads."""
    changed = replace(
        configuration,
        network=network,
        features=(4, 8, 16, 32),
        strides=((2, 2, 2),) * 3,
        kernel_sizes=((3, 3, 3),) * 4,
        supervision_weights=(1 / weights,) * weights,
    )
    return SUPERVISION["halving"](changed)


def test_halving_goes_by_level_and_leaves_the_coarsest_out(plan):
    planned = plan.configurations["3d"]
    assert halved(planned, "mss_unet", 3) == pytest.approx((2 / 3, 1 / 3, 0))
    assert halved(planned, "unet3p", 4) == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))
    assert halved(planned, "unet", 1) == (1.0,)


def test_halving_weighs_branches_of_one_level_alike(plan):
    planned = plan.configurations["3d"]
    assert halved(planned, "unet2p", 3) == pytest.approx((1 / 3,) * 3)
    # X03, X02, X01 at full resolution, then X12, X21, X30.
    expected = [weight / 3.75 for weight in (1, 1, 1, 0.5, 0.25, 0)]
    assert halved(planned, "unet_sharp", 6) == pytest.approx(expected)


def test_the_renders_rate_falls_along_a_cosine_to_a_hundredth():
    row = recipe_named("render")
    assert (row.learning_rate, row.learning_rate * row.final_rate) == (1e-2, pytest.approx(1e-4))
    assert row.plateau is not None
    assert (row.plateau.stop_patience, row.plateau.factor, row.plateau.smoothing) == (20, 1.0, 0.0)
    assert (row.augmentation, row.mirrors) == ("none", "none")


def test_the_sharp_and_the_schools_recipes_hold_their_papers_values():
    sharp, school = recipe_named("unet_sharp"), recipe_named("unet_school")
    assert (sharp.learning_rate, sharp.weight_decay, sharp.schedule) == (1e-3, 1e-4, "cosine")
    assert (sharp.largest_batch, sharp.epochs, sharp.loss) == (128, 100, "sharp")
    assert (school.learning_rate, school.schedule, school.batch_size) == (1e-4, "constant", 2)
    assert (school.epochs, school.steps_per_epoch, school.loss) == (10, 2000, "border_ce")


def test_padding_and_variations_are_the_plans_unless_the_recipe_says_otherwise(make_configuration):
    planned = make_configuration((8, 8), image_padding="mirror", variations=("colour", "polarity"))
    budget = RECIPES["budget"]
    assert configured(planned, budget).image_padding == "mirror"
    assert configured(planned, replace(budget, padding="zeros")).image_padding == "zeros"
    assert configured(planned, RECIPES["nnunet"]).image_padding == "zeros"
    chosen = {name: varying(planned) for name, varying in VARIED.items()}
    assert chosen == {
        "plan": ("colour", "polarity"),
        "plan_colour": ("colour",),
        "none": (),
        "colour": ("colour",),
        "polarity": ("polarity",),
    }
    assert VARIED["plan_colour"](replace(planned, variations=("polarity",))) == ()


def test_the_sides_that_are_known_go_before_the_columns_and_what_is_unknown_is_not_mirrored(plan, recipe):
    planned = replace(plan.configurations["3d"], mirror_axes=(0, 1, 2))
    lateral = replace(recipe, mirrors="lateral")
    assert configured_in(plan, planned, lateral).mirror_axes == (2,)
    paired = replace(plan, label_pairs=((1, 2),))
    assert configured_in(replace(paired, lateral_axis=1), planned, lateral).mirror_axes == (1,)
    assert configured_in(paired, replace(planned, mirror_axes=(0,)), lateral).mirror_axes == ()
    assert configured_in(replace(paired, lateral_axis=1), planned, RECIPES["mss"]).mirror_axes == (0, 1, 2)


def test_where_images_are_turned_all_the_way_round_their_plane_is_mirrored_from_side_to_side_alone(plan, recipe):
    volume = replace(plan.configurations["3d"], mirror_axes=(0, 1, 2))
    paired = replace(plan, label_pairs=((1, 2),), lateral_axis=2)
    turning = replace(recipe, augmentation="unet_sharp", mirrors="plan")
    assert configured_in(paired, volume, turning).mirror_axes == (0, 2)
    assert configured_in(plan, volume, turning).mirror_axes == (0, 1, 2)
    assert configured_in(replace(paired, lateral_axis=0), volume, turning).mirror_axes == (0, 1, 2)
