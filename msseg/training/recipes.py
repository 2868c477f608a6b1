"""Recipes: how a network is trained, one row each. A plan says what is trained, a recipe how."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from msseg.errors import MssegError
from msseg.training.schedules import PlateauRule
from planning.plan import Configuration

_COLUMNS = 2  # the last axis of an array (z, y, x)


@dataclass(frozen=True)
class Recipe:
    """One way to train; `optimiser`, `schedule`, `loss` and `augmentation` name rows of their tables.

    `warmup` is a share of the whole training. `supervision` is "plan" for the plan's level weights or "halving"
    for 1, 1/2, 1/4, … with the coarsest left out. `average_decay` 0 keeps no moving average of the weights.
    `batch_size` and `base_features`, where given, take the place of the plan's. With `fitted_steps` and a budget the
    network is narrowed until so many steps fit. `patch_share` is the edge of the patches trained on as a share of the
    plan's, which the prediction keeps. `mirrors` is "plan" for the plan's axes or "lateral" for left and right alone.
    """

    name: str
    optimiser: str
    learning_rate: float
    weight_decay: float
    schedule: str
    loss: str
    augmentation: str
    optimiser_options: tuple[tuple[str, Any], ...] = ()
    warmup: float = 0.0
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
    base_features: int | None = None
    fitted_steps: int | None = None
    patch_share: float = 1.0
    mirrors: str = "plan"


RECIPES = {
    row.name: row
    for row in (
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
        ),
        # For minutes or hours instead of days, by the measurements in docs/benchmarks.md: many cheap steps (a narrow
        # network, small batches of smaller patches, anatomy mirrored only as it occurs) rather than few dear ones.
        Recipe(
            name="budget",
            optimiser="adamw",
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
            fitted_steps=2500,
            patch_share=0.85,
            mirrors="lateral",
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


def configured(configuration: Configuration, recipe: Recipe, axis_order: Sequence[int] = (0, 1, 2)) -> Configuration:
    """The configuration with what the recipe puts in place of the plan's: batch size, width, level weights, mirrors.

    `axis_order` is the plan's.
    """
    return replace(
        configuration,
        batch_size=recipe.batch_size or configuration.batch_size,
        features=scaled_features(configuration.features, recipe.base_features),
        supervision_weights=SUPERVISION[recipe.supervision](configuration.supervision_weights),
        mirror_axes=MIRRORS[recipe.mirrors](configuration, axis_order),
    )


def training_patch(configuration: Configuration, recipe: Recipe) -> tuple[int, ...]:
    """The edges of the patches that the recipe trains on, rounded to what the strides divide without rest."""
    divisors = [math.prod(stride[axis] for stride in configuration.strides) for axis in range(configuration.dimensions)]
    return tuple(
        max(divisor, min(edge, round(recipe.patch_share * edge / divisor) * divisor))
        for edge, divisor in zip(configuration.patch_size, divisors, strict=True)
    )


def _lateral(configuration: Configuration, axis_order: Sequence[int]) -> tuple[int, ...]:
    """The columns of a volume, along which medical scans run from side to side; images in 2D keep the plan's axes."""
    if configuration.dimensions == 2:
        return configuration.mirror_axes
    return tuple(axis for axis in configuration.mirror_axes if axis_order[axis] == _COLUMNS)


MIRRORS: dict[str, Callable[[Configuration, Sequence[int]], tuple[int, ...]]] = {
    "plan": lambda configuration, _axis_order: configuration.mirror_axes,
    "lateral": _lateral,
}


def scaled_features(planned: tuple[int, ...], base: int | None) -> tuple[int, ...]:
    """The planned widths, or those that double from `base` up to the widest planned one."""
    return planned if base is None else tuple(min(base * 2**level, max(planned)) for level in range(len(planned)))


def _halving(planned: tuple[float, ...]) -> tuple[float, ...]:
    """Weights 1, 1/2, 1/4, … of the decoder levels, the coarsest 0 unless it is the only one; their sum is 1."""
    count = len(planned)
    raw = [0.5**level if level < count - 1 or count == 1 else 0.0 for level in range(count)]
    return tuple(weight / sum(raw) for weight in raw)


SUPERVISION = {"plan": lambda planned: planned, "halving": _halving}


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """The row as JSON, for the checkpoint and the log."""
    value = asdict(recipe)
    value["optimiser_options"] = dict(recipe.optimiser_options)
    return value
