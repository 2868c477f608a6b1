"""Rules that mend a predicted label map, as data: a list of rows in `postprocessing.json`, applied in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from msseg.errors import CheckpointError
from msseg.files import read_json, write_json
from msseg.postprocessing.components import keep_largest

RULES_VERSION = 1

RuleFunction = Callable[[np.ndarray, tuple[int, ...], dict[str, float]], np.ndarray]


@dataclass(frozen=True)
class Rule:
    """One rule on `classes` (class indices); `dice_before` and `dice_after` say what it did on validation."""

    rule: str
    classes: tuple[int, ...]
    parameters: dict[str, float] = field(default_factory=dict)
    dice_before: dict[int, float] = field(default_factory=dict)
    dice_after: dict[int, float] = field(default_factory=dict)


def _largest_together(label: np.ndarray, classes: tuple[int, ...], parameters: dict[str, float]) -> np.ndarray:
    return keep_largest(label, classes, together=True)


def _largest_of_each(label: np.ndarray, classes: tuple[int, ...], parameters: dict[str, float]) -> np.ndarray:
    return keep_largest(label, classes)


LARGEST_TOGETHER = "largest_component_together"
LARGEST_OF_EACH = "largest_component_of_each"

RULES: dict[str, RuleFunction] = {
    LARGEST_TOGETHER: _largest_together,
    LARGEST_OF_EACH: _largest_of_each,
}


def apply_rules(label_zyx: np.ndarray, rules: Sequence[Rule]) -> np.ndarray:
    """The label map of class indices (z, y, x) after all rules, one after another; the input is left as it was.

    Raises CheckpointError at a rule that is not in the table.
    """
    for rule in rules:
        label_zyx = _function(rule.rule, "postprocessing")(label_zyx, rule.classes, rule.parameters)
    return label_zyx


def write_rules(path: Path, rules: Sequence[Rule]) -> None:
    """Write the rules as JSON, atomically; no rules are an empty list."""
    write_json(path, {"version": RULES_VERSION, "rules": [asdict(rule) for rule in rules]})


def read_rules(path: Path) -> list[Rule]:
    """The rules in a `postprocessing.json`. Raises CheckpointError where it is malformed or names an unknown rule."""
    value = read_json(path, CheckpointError)
    try:
        if value["version"] != RULES_VERSION:
            raise CheckpointError(f"{path}: version {value['version']}, expected {RULES_VERSION}. Update msseg.")
        rules = [_rule_from_json(row) for row in value["rules"]]
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise CheckpointError(
            f"{path}: not a list of postprocessing rules ({problem!r}). Evaluate the model anew or remove the file."
        ) from None
    for rule in rules:
        _function(rule.rule, str(path))
    return rules


def _rule_from_json(row: dict[str, Any]) -> Rule:
    return Rule(
        rule=row["rule"],
        classes=tuple(int(index) for index in row["classes"]),
        parameters={name: float(value) for name, value in row.get("parameters", {}).items()},
        dice_before={int(index): float(dice) for index, dice in row.get("dice_before", {}).items()},
        dice_after={int(index): float(dice) for index, dice in row.get("dice_after", {}).items()},
    )


def _function(name: str, where: str) -> RuleFunction:
    try:
        return RULES[name]
    except KeyError:
        raise CheckpointError(f"{where}: unknown rule {name!r}; known are {', '.join(sorted(RULES))}.") from None
