"""What the user asks of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msseg.training.overrides import overridden
from msseg.training.recipes import Recipe, default_recipe, recipe_named


@dataclass(frozen=True)
class TrainingOptions:
    """What the user asks of training; None leaves the choice to the plan and to the recipe.

    `network_options` replace single values of the network's row, `overrides` those of the recipe. `encoder_weights` is
    a file that a fresh training starts its encoder from. `decide_by` names the metric that thresholds of a model of one
    label are chosen by on validation, see `deciding_metric`. `budget_s` bounds all of it, the validation at the end
    included. `restart` forgets what was trained before. `previous_stage` is the model folder of a cascade's first
    stage, None: the one of the plan's network.
    """

    configuration: str | None = None
    network: str | None = None
    network_options: Mapping[str, Any] = field(default_factory=dict)
    encoder_weights: Path | None = None
    recipe: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    budget_s: float | None = None
    seed: int = 0
    restart: bool = False
    group_by: str | None = None
    augment: str | None = None
    decide_by: str | None = None
    previous_stage: Path | None = None

    def used_recipe(self) -> Recipe:
        """The recipe, with what was overridden; MssegError names what does not exist or does not fit."""
        has_budget = self.budget_s is not None
        recipe = recipe_named(self.recipe) if self.recipe else default_recipe(has_budget)
        return overridden(recipe, self.overrides)
