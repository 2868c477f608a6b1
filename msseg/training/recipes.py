"""Recipes: how a network is trained, one row each. A plan says what is trained, a recipe how."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from msseg.errors import MssegError
from msseg.training.augmentation import augmentation_named, rotation_degrees
from msseg.training.schedules import PlateauRule
from planning.label_pairs import COLUMNS, side_axis, sides_of
from planning.plan import Configuration, Plan

_RIGHT_ANGLE = 90  # degrees
_WIDTHS_BY = 8  # channels that a processor takes at once


@dataclass(frozen=True)
class Recipe:
    """One way to train; `optimiser`, `schedule`, `loss` and `augmentation` name rows of their tables.

    `warmup` is a share of the whole training, `final_rate` the share of the learning rate that a falling schedule ends
    at. `loss_options` go to the loss; `presence_weight`, `point_weight` and `coarse_weight` weigh what networks with
    guidance or point rendering learn beside it. `supervision` is "plan" for the plan's weights of the heads or
    "halving" for 1, 1/2, 1/4, … by level with the coarsest left out. `average_decay` 0 keeps no moving average of the
    weights. `batch_size` and `base_features`, where given, take the place of the plan's; `largest_batch` takes as many
    patches as the plan's memory holds, up to so many. With `fitted_steps` and a budget the network is narrowed until so
    many steps fit. `patch_share` is the edge of the patches trained on as a share of the plan's, which the prediction
    keeps. `mirrors` is "plan" for the plan's axes, "lateral" for left and right of volumes alone, "horizontal" for left
    and right of slices too, or "none"; prediction mirrors as training did. `variations` says what is added to the
    augmentation: "plan" for the plan's variations, "plan_colour" for its colour alone, "none", or one by its name even
    where the plan does not have it.
    `padding` is "plan", or "zeros" or "mirror" around images in place of the plan's; prediction pads as training did.
    """

    name: str
    optimiser: str
    learning_rate: float
    weight_decay: float
    schedule: str
    loss: str
    augmentation: str
    optimiser_options: tuple[tuple[str, Any], ...] = ()
    loss_options: tuple[tuple[str, float | str], ...] = ()
    presence_weight: float = 1.0
    point_weight: float = 1.0
    coarse_weight: float = 1.0
    warmup: float = 0.0
    final_rate: float = 0.0
    plateau: PlateauRule | None = None
    supervision: str = "plan"
    average_decay: float = 0.0
    clip_norm: float = 12.0
    epochs: int = 1000
    steps_per_epoch: int = 250
    validation_batches: int = 50
    whole_volume_every: int = 25
    foreground_share: float = 0.33
    batch_size: int | None = None
    largest_batch: int | None = None
    base_features: int | None = None
    fitted_steps: int | None = None
    patch_share: float = 1.0
    mirrors: str = "plan"
    variations: str = "plan"
    padding: str = "plan"


RECIPES = {
    row.name: row
    for row in (
        # The MSS U-Net's paper, and its public code for AMSGrad, the weight decay and the plateau's figures. Its batch
        # of 8 is what its patch left room for, which here the plan decides.
        Recipe(
            name="mss",
            optimiser="adam",
            learning_rate=3e-4,
            weight_decay=3e-5,
            optimiser_options=(("amsgrad", True),),
            schedule="constant",
            plateau=PlateauRule(),
            loss="exp_log_dice_ce",
            augmentation="mss",
        ),
        # nnU-Net 2.8.1, nnUNetTrainer.py.
        Recipe(
            name="nnunet",
            optimiser="sgd",
            learning_rate=1e-2,
            weight_decay=3e-5,
            optimiser_options=(("momentum", 0.99), ("nesterov", True)),
            schedule="poly",
            supervision="halving",
            loss="dice_ce",
            augmentation="nnunet",
            variations="none",
            padding="zeros",
        ),
        # For minutes or hours instead of days, by the measurements in docs/benchmarks.md: many cheap steps (a narrow
        # network, small batches of smaller patches, anatomy mirrored only as it occurs) rather than few dear ones, each
        # taken by Muon, whose rate for kernels is 0.02 at this learning rate. Inverted images take longer to learn.
        Recipe(
            name="budget",
            optimiser="muon",
            learning_rate=3e-3,
            weight_decay=1e-2,
            optimiser_options=(("betas", (0.9, 0.99)),),
            schedule="cosine",
            warmup=0.05,
            supervision="halving",
            loss="dice_ce",
            augmentation="budget",
            average_decay=0.99,
            clip_norm=5.0,
            epochs=200,
            steps_per_epoch=50,
            validation_batches=2,
            whole_volume_every=20,
            batch_size=2,
            fitted_steps=1200,
            patch_share=0.85,
            mirrors="lateral",
            variations="plan_colour",
        ),
        # Render U-Net's paper, and for ANU-Net, whose paper from the same group names no optimiser. Printed: Adam, 1e-2
        # to 1e-4, no augmentation, the stop. Decided: the cosine between, no weight decay, at most 100 epochs.
        Recipe(
            name="render",
            optimiser="adam",
            learning_rate=1e-2,
            weight_decay=0.0,
            schedule="cosine",
            final_rate=1e-2,
            plateau=PlateauRule(smoothing=0.0, factor=1.0, stop_patience=20, stop_threshold=0.0),
            loss="hybrid",
            augmentation="none",
            variations="none",
            mirrors="none",
            epochs=100,
        ),
        # UNet#'s paper: all printed but the length of an epoch, there one pass over the data. Its 128 patches are of
        # 96 × 96 pixels.
        Recipe(
            name="unet_sharp",
            optimiser="adam",
            learning_rate=1e-3,
            weight_decay=1e-4,
            schedule="cosine",
            loss="sharp",
            augmentation="unet_sharp",
            variations="none",
            largest_batch=128,
            epochs=100,
        ),
        # The U-Net school's paper for its U-Net: printed are Adam, the rate, the epochs and steps, and the loss (its
        # base code has plain binary cross entropy: loss=bce); the batch of 2 is its base code's.
        Recipe(
            name="unet_school",
            optimiser="adam",
            learning_rate=1e-4,
            weight_decay=0.0,
            schedule="constant",
            loss="border_ce",
            augmentation="unet_school",
            variations="none",
            batch_size=2,
            mirrors="horizontal",
            epochs=10,
            steps_per_epoch=2000,
        ),
    )
}


def recipe_named(name: str) -> Recipe:
    """The row called `name`; MssegError lists the known ones."""
    if name not in RECIPES:
        raise MssegError(f"--recipe {name}: unknown. Known are: {', '.join(RECIPES)}.")
    return RECIPES[name]


def default_recipe(has_budget: bool) -> Recipe:
    """The paper's recipe, or the one that makes most of a limited time."""
    return RECIPES["budget" if has_budget else "mss"]


def configured_in(plan: Plan, configuration: Configuration, recipe: Recipe) -> Configuration:
    """The plan's configuration with what the recipe puts in place of the plan's, its labels of left and right minded.

    A recipe that turns images beyond a right angle shows left where right is, and a mirror across the other axis of the
    plane as one from side to side. So where labels are swapped, the sides are then the only one mirrored of that plane.
    """
    used = configured(configuration, recipe, plan.axis_order, side_axis(plan))
    sides = sides_of(plan, configuration)
    row = augmentation_named(recipe.augmentation)
    turned = rotation_degrees(row, training_patch(configuration, recipe), configuration.dummy_2d) if row.rotation else 0
    if sides is None or (turned <= _RIGHT_ANGLE and not row.quarter_turn):
        return used
    plane = {configuration.dimensions - 2, configuration.dimensions - 1}
    kept = tuple(axis for axis in used.mirror_axes if axis == sides.axis or not {axis, sides.axis} <= plane)
    return replace(used, mirror_axes=kept)


def configured(
    configuration: Configuration,
    recipe: Recipe,
    axis_order: Sequence[int] = (0, 1, 2),
    lateral_axis: int | None = COLUMNS,
) -> Configuration:
    """The configuration with what the recipe puts in place of the plan's.

    That is batch size, width, level weights, mirrors and padding. `axis_order` is the plan's; `lateral_axis` the file
    axis that runs from side to side, the columns unless more is known, None where it is not.
    """
    return replace(
        configuration,
        batch_size=recipe.batch_size or configuration.batch_size,
        features=scaled_features(configuration.features, recipe.base_features),
        supervision_weights=SUPERVISION[recipe.supervision](configuration),
        mirror_axes=MIRRORS[recipe.mirrors](configuration, axis_order, lateral_axis),
        image_padding=PADDED[recipe.padding](configuration),
    )


def training_patch(configuration: Configuration, recipe: Recipe) -> tuple[int, ...]:
    """The edges of the patches that the recipe trains on, rounded to what the strides divide without rest."""
    divisors = [math.prod(stride[axis] for stride in configuration.strides) for axis in range(configuration.dimensions)]
    return tuple(
        max(divisor, min(edge, round(recipe.patch_share * edge / divisor) * divisor))
        for edge, divisor in zip(configuration.patch_size, divisors, strict=True)
    )


def _horizontal(configuration: Configuration, axis_order: Sequence[int], lateral_axis: int | None) -> tuple[int, ...]:
    """The axis of an image from side to side."""
    first = len(axis_order) - configuration.dimensions
    return tuple(axis for axis in configuration.mirror_axes if axis_order[first + axis] == lateral_axis)


def _lateral(configuration: Configuration, axis_order: Sequence[int], lateral_axis: int | None) -> tuple[int, ...]:
    """The axis of a volume from side to side; images in 2D keep the plan's axes."""
    if configuration.dimensions == 2:
        return configuration.mirror_axes
    return _horizontal(configuration, axis_order, lateral_axis)


MIRRORS: dict[str, Callable[[Configuration, Sequence[int], int | None], tuple[int, ...]]] = {
    "plan": lambda configuration, _axis_order, _lateral_axis: configuration.mirror_axes,
    "lateral": _lateral,
    "horizontal": _horizontal,
    "none": lambda _configuration, _axis_order, _lateral_axis: (),
}


# What lies around images by a recipe's `padding`.
PADDED: dict[str, Callable[[Configuration], str]] = {
    "plan": lambda configuration: configuration.image_padding,
    "zeros": lambda _configuration: "zeros",
    "mirror": lambda _configuration: "mirror",
}
# What a recipe's `variations` takes of the plan's.
VARIED: dict[str, Callable[[Configuration], tuple[str, ...]]] = {
    "plan": lambda configuration: configuration.variations,
    "plan_colour": lambda configuration: tuple(one for one in configuration.variations if one == "colour"),
    "none": lambda _configuration: (),
    "colour": lambda _configuration: ("colour",),
    "polarity": lambda _configuration: ("polarity",),
}


def scaled_features(planned: tuple[int, ...], base: int | None) -> tuple[int, ...]:
    """The planned widths, or those that double from `base` up to a widest one that is narrowed alike."""
    if base is None:
        return planned
    widest = max(_WIDTHS_BY, round(max(planned) * base / planned[0] / _WIDTHS_BY) * _WIDTHS_BY)
    return tuple(min(base * 2**level, max(base, widest)) for level in range(len(planned)))


def _halving(configuration: Configuration) -> tuple[float, ...]:
    """Weights 1, 1/2, 1/4, … of the heads by level, the coarsest level 0 unless it is the only one; their sum is 1.

    Several heads of one level weigh the same.
    """
    heads = configuration.row.supervised(len(configuration.features))[: len(configuration.supervision_weights)]
    coarsest = max(head.level for head in heads)
    raw = [0.5**head.level if head.level < coarsest or coarsest == 0 else 0.0 for head in heads]
    return tuple(weight / sum(raw) for weight in raw)


SUPERVISION: dict[str, Callable[[Configuration], tuple[float, ...]]] = {
    "plan": lambda configuration: configuration.supervision_weights,
    "halving": _halving,
}


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """The row as JSON, for the checkpoint and the log."""
    value = asdict(recipe)
    for options in ("optimiser_options", "loss_options"):
        value[options] = dict(value[options])
    return value
