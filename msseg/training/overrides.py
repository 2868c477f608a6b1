"""Single values of a recipe in place of its row's, each read as the kind its field has."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from msseg.errors import MssegError
from msseg.losses.options import checked_options
from msseg.losses.table import LOSSES
from msseg.training.augmentation import AUGMENTATIONS
from msseg.training.optimisers import OPTIMISERS
from msseg.training.recipes import MIRRORS, PADDED, RECIPES, SUPERVISION, VARIED, Recipe, recipe_to_json
from msseg.training.schedules import SCHEDULES, PlateauRule

_TABLES: dict[str, Mapping[str, Any]] = {
    "optimiser": OPTIMISERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "augmentation": AUGMENTATIONS,
    "supervision": SUPERVISION,
    "mirrors": MIRRORS,
    "variations": VARIED,
    "padding": PADDED,
}
_OPTIONS_OF = {"optimiser": "optimiser_options", "loss": "loss_options"}
_FREE = tuple(_OPTIONS_OF.values())
_RULE = "plateau"
# The smallest and the largest value of a number; the others are at least 0.
_AT_LEAST_ONE, _SHARE = (1, math.inf), (0, 1)
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("epochs", "steps_per_epoch", "whole_volume_every"), _AT_LEAST_ONE),
    **dict.fromkeys(("batch_size", "largest_batch", "base_features", "fitted_steps"), _AT_LEAST_ONE),
    **dict.fromkeys(("foreground_share", "warmup", "final_rate", "average_decay", "patch_share"), _SHARE),
}


def overridden(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with single values replaced, given as text or as what the text stands for.

    A dot leads into what has parts: `loss_options.NAME`, `optimiser_options.NAME`, `plateau.NAME`; `plateau` itself
    takes null. Another optimiser or loss leaves the options of the row's own behind. Raises MssegError that names the
    value, what was found and what was expected; PlanError for an option that the loss does not have.
    """
    for key, given in sorted(values.items(), key=lambda item: "." in item[0]):
        name, _, part = key.partition(".")
        changed: dict[str, Any] = {name: _changed(recipe, key, name, part, _read(given))}
        if name in _OPTIONS_OF and changed[name] != getattr(recipe, name):
            changed[_OPTIONS_OF[name]] = ()
        recipe = replace(recipe, **changed)
    checked_options(recipe.loss, LOSSES[recipe.loss], dict(recipe.loss_options))
    return recipe


def changes(recipe: Recipe) -> dict[str, Any]:
    """What differs from the row of the recipe's name, as JSON; nothing where there is no such row."""
    used, row = recipe_to_json(recipe), RECIPES.get(recipe.name)
    return {} if row is None else {key: value for key, value in used.items() if recipe_to_json(row)[key] != value}


def names() -> tuple[str, ...]:
    """What may be replaced; a name with a dot stands for all below it."""
    simple = [field.name for field in fields(Recipe) if field.name not in ("name", *_FREE)]
    return (*simple, *(f"{name}.NAME" for name in (*_FREE, _RULE)))


def _read(given: Any) -> Any:
    """What a text stands for: JSON or a number where it is one, else the text."""
    if not isinstance(given, str):
        return given
    for reader in (json.loads, float):
        try:
            return reader(given)
        except ValueError:
            continue
    return given


def _changed(recipe: Recipe, key: str, name: str, part: str, value: Any) -> Any:
    """The new value of the field `name`."""
    if part and name in _FREE:
        return tuple({**dict(getattr(recipe, name)), part: _frozen(value)}.items())
    if part and name == _RULE:
        return _changed_rule(recipe.plateau or PlateauRule(), key, part, value)
    kinds = {field.name: str(field.type) for field in fields(Recipe)}
    if part or name not in kinds or name in ("name", *_FREE):
        raise MssegError(f"--set {key}: found {key!r}, expected one of {', '.join(names())}.")
    if name == _RULE:
        return _expected(key, value, value is None, "null, or plateau.NAME for one of its values")
    if name in _TABLES:
        return _expected(key, value, value in list(_TABLES[name]), f"one of {', '.join(_TABLES[name])}")
    return _number(key, name, kinds[name], value)


def _changed_rule(rule: PlateauRule, key: str, part: str, value: Any) -> PlateauRule:
    kinds = {field.name: str(field.type) for field in fields(PlateauRule)}
    if part not in kinds:
        listed = ", ".join(f"{_RULE}.{name}" for name in kinds)
        raise MssegError(f"--set {key}: found {key!r}, expected one of {listed}.")
    return replace(rule, **{part: _number(key, part, kinds[part], value)})


def _number(key: str, name: str, kind: str, value: Any) -> Any:
    """The value, of the field's kind and within its range; a whole number is also a number with a fraction."""
    lowest, highest = _RANGES.get(name, (0, math.inf))
    is_of_kind, wanted = _KINDS[kind]
    inside = value is None or (_is_number(value) and lowest <= value <= highest and math.isfinite(value))
    limits = f"of at least {lowest}" if math.isinf(highest) else f"from {lowest} to {highest}"
    _expected(key, value, is_of_kind(value) and inside, f"{wanted} {limits}")
    return float(value) if kind == "float" else value


def _expected(key: str, value: Any, fits: bool, wanted: str) -> Any:
    if not fits:
        raise MssegError(f"--set {key}: found {value!r}, expected {wanted}.")
    return value


def _frozen(value: Any) -> Any:
    """A list as the tuple that optimisers take."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "int": (_is_whole, "a whole number"),
    "int | None": (lambda value: value is None or _is_whole(value), "null or a whole number"),
    "float": (_is_number, "a number"),
}
