"""Rules that mend a predicted label map, as data: a list of rows in `postprocessing.json`, applied in their order.

A row is a name of the table `RULES`, the classes it is about and its parameters. `docs/postprocessing.md` shows each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from msseg.errors import CheckpointError
from msseg.files import read_json, write_json
from msseg.postprocessing.components import fill_holes, find_components
from msseg.postprocessing.parameters import PARAMETERS
from msseg.postprocessing.selection import Components, at_least, attached, largest

RULES_VERSION = 1

Parameters = Mapping[str, float]
# A label map (z, y, x), classes, parameters and the volume of a voxel in mm³ to a label map.
RuleFunction = Callable[[np.ndarray, tuple[int, ...], Parameters, float], np.ndarray]


@dataclass(frozen=True)
class Rule:
    """One rule on `classes` (class indices); `dice_before` and `dice_after` say what it did on validation."""

    rule: str
    classes: tuple[int, ...]
    parameters: dict[str, float] = field(default_factory=dict)
    dice_before: dict[int, float] = field(default_factory=dict)
    dice_after: dict[int, float] = field(default_factory=dict)

    def __str__(self) -> str:
        values = "".join(f", {name} {value:g}" for name, value in self.parameters.items())
        return f"{self.rule} of {', '.join(map(str, self.classes))}{values}"


@dataclass(frozen=True)
class Removal:
    """A rule that removes components: those that `keep`, given parameters and mm³ of a voxel, leaves out."""

    keep: Callable[[Components, Parameters, float], np.ndarray]
    together: bool

    def __call__(
        self, label: np.ndarray, classes: tuple[int, ...], parameters: Parameters, voxel_mm3: float
    ) -> np.ndarray:
        anchors = anchors_of(parameters, classes, range(1, int(label.max(initial=0)) + 1))
        found = find_components(label, classes, self.together, counted_of(parameters), anchors)
        return label if found is None else found.kept(self.keep(found.components, parameters, voxel_mm3))


@dataclass(frozen=True)
class Filling:
    """A rule that fills holes with the class around them."""

    together: bool

    def __call__(
        self, label: np.ndarray, classes: tuple[int, ...], parameters: Parameters, voxel_mm3: float
    ) -> np.ndarray:
        largest_voxels = parameters.get("largest_mm3", math.inf) / voxel_mm3 * (1 + 1e-9)
        return fill_holes(label, classes, self.together, largest_voxels)


@dataclass(frozen=True)
class Several:
    """A rule that stands for others, in their order."""

    parts: Callable[[tuple[int, ...], Parameters], list[Rule]]

    def __call__(
        self, label: np.ndarray, classes: tuple[int, ...], parameters: Parameters, voxel_mm3: float
    ) -> np.ndarray:
        for part in self.parts(classes, parameters):
            label = RULES[part.rule].function(label, part.classes, part.parameters, voxel_mm3)
        return label


@dataclass(frozen=True)
class RuleRow:
    """A rule's function, and the names of the parameters that it must have and may have (`PARAMETERS`)."""

    function: Removal | Filling | Several
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def counted_of(parameters: Parameters) -> int | None:
    """The class whose voxels count as the size of a component, None where all do."""
    return int(parameters["counted_class"]) if "counted_class" in parameters else None


def anchors_of(parameters: Parameters, classes: Sequence[int], present: Sequence[int]) -> tuple[int, ...]:
    """The classes that components of `classes` are to touch: `to`, where it is 0 all others; none without `to`."""
    if "to" not in parameters:
        return ()
    return (int(parameters["to"]),) if parameters["to"] else tuple(one for one in present if one not in classes)


def _largest(components: Components, parameters: Parameters, voxel_mm3: float) -> np.ndarray:
    return largest(components, int(parameters.get("k", 1)))


def _at_least(components: Components, parameters: Parameters, voxel_mm3: float) -> np.ndarray:
    return at_least(components, parameters["smallest_mm3"] / voxel_mm3)


def _attached(components: Components, parameters: Parameters, voxel_mm3: float) -> np.ndarray:
    return attached(components)


def _kidneys(classes: tuple[int, ...], parameters: Parameters) -> list[Rule]:
    """The organ is the first class, what may be attached to it are the others."""
    organ, others = classes[0], classes[1:]
    k = parameters.get("k", 2)
    if not parameters.get("literal", 0):
        return [Rule(K_LARGEST_TOGETHER, classes, {"k": k, "counted_class": organ})]
    return [Rule(K_LARGEST_OF_EACH, (organ,), {"k": k}), Rule(ATTACHED_OF_EACH, others, {"to": organ})]


LARGEST_TOGETHER = "largest_component_together"
LARGEST_OF_EACH = "largest_component_of_each"
K_LARGEST_TOGETHER = "k_largest_together"
K_LARGEST_OF_EACH = "k_largest_of_each"
MINIMUM_SIZE_TOGETHER = "minimum_size_together"
MINIMUM_SIZE_OF_EACH = "minimum_size_of_each"
ATTACHED_TOGETHER = "attached_together"
ATTACHED_OF_EACH = "attached_of_each"
FILL_HOLES_TOGETHER = "fill_holes_together"
FILL_HOLES_OF_EACH = "fill_holes_of_each"
MSS_KIDNEYS = "mss_kidneys"

RULES: dict[str, RuleRow] = {
    LARGEST_TOGETHER: RuleRow(Removal(_largest, together=True)),
    LARGEST_OF_EACH: RuleRow(Removal(_largest, together=False)),
    K_LARGEST_TOGETHER: RuleRow(Removal(_largest, together=True), ("k",), ("counted_class",)),
    K_LARGEST_OF_EACH: RuleRow(Removal(_largest, together=False), ("k",)),
    MINIMUM_SIZE_TOGETHER: RuleRow(Removal(_at_least, together=True), ("smallest_mm3",)),
    MINIMUM_SIZE_OF_EACH: RuleRow(Removal(_at_least, together=False), ("smallest_mm3",)),
    ATTACHED_TOGETHER: RuleRow(Removal(_attached, together=True), ("to",)),
    ATTACHED_OF_EACH: RuleRow(Removal(_attached, together=False), ("to",)),
    FILL_HOLES_TOGETHER: RuleRow(Filling(together=True), (), ("largest_mm3",)),
    FILL_HOLES_OF_EACH: RuleRow(Filling(together=False), (), ("largest_mm3",)),
    MSS_KIDNEYS: RuleRow(Several(_kidneys), (), ("k", "literal")),
}


def parts_of(rule: Rule) -> list[Rule]:
    """The rules that `rule` stands for, itself where it stands for no others."""
    function = rule_row(rule.rule, "postprocessing").function
    return function.parts(rule.classes, rule.parameters) if isinstance(function, Several) else [rule]


def apply_rules(label_zyx: np.ndarray, rules: Sequence[Rule], spacing_mm: Sequence[float] | None = None) -> np.ndarray:
    """The label map of class indices (z, y, x) after all rules, one after another; the input is left as it was.

    Without a spacing a voxel counts as 1 mm³, as in images that tell no size. The input itself comes back where nothing
    changes. Raises CheckpointError at a rule that is not in the table.
    """
    voxel_mm3 = 1.0 if spacing_mm is None else math.prod(spacing_mm)
    for rule in rules:
        row = rule_row(rule.rule, "postprocessing")
        label_zyx = row.function(label_zyx, rule.classes, rule.parameters, voxel_mm3)
    return label_zyx


def write_rules(path: Path, rules: Sequence[Rule]) -> None:
    """Write the rules as JSON, atomically; no rules are an empty list."""
    write_json(path, rules_to_json(rules))


def rules_to_json(rules: Sequence[Rule]) -> dict[str, Any]:
    """The rules as a JSON object with its version."""
    return {"version": RULES_VERSION, "rules": [asdict(rule) for rule in rules]}


def read_rules(path: Path, names: Sequence[str] = ()) -> list[Rule]:
    """The rules in a `postprocessing.json`, as written or by hand; see `rules_from_json`."""
    return rules_from_json(read_json(path, CheckpointError), str(path), names)


def rules_from_json(value: Any, place: str, names: Sequence[str] = ()) -> list[Rule]:
    """The rules in a JSON object; `place` names the file in messages.

    `names` are the classes' in their order, background first: then rows may name classes, and classes are checked.
    Raises CheckpointError where it is malformed or names an unknown rule, parameter or class.
    """
    try:
        if value["version"] != RULES_VERSION:
            raise CheckpointError(f"{place}: version {value['version']}, expected {RULES_VERSION}. Update msseg.")
        return [_rule_from_json(row, place, names) for row in value["rules"]]
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise CheckpointError(
            f"{place}: not a list of postprocessing rules ({problem!r}). Evaluate the model anew or remove the file."
        ) from None


def rule_row(name: str, place: str) -> RuleRow:
    """The row of a rule. Raises CheckpointError at a name that is not in the table."""
    try:
        return RULES[name]
    except KeyError:
        raise CheckpointError(f"{place}: unknown rule {name!r}; known are {', '.join(sorted(RULES))}.") from None


def _rule_from_json(row: Mapping[str, Any], place: str, names: Sequence[str]) -> Rule:
    rule = Rule(
        rule=row["rule"],
        classes=tuple(_class_index(one, place, names) for one in row["classes"]),
        parameters={
            name: float(_class_index(value, place, names) if isinstance(value, str) else value)
            for name, value in row.get("parameters", {}).items()
        },
        dice_before={int(index): float(dice) for index, dice in row.get("dice_before", {}).items()},
        dice_after={int(index): float(dice) for index, dice in row.get("dice_after", {}).items()},
    )
    check_rule(rule, place)
    return rule


def check_rule(rule: Rule, place: str) -> None:
    """Raise CheckpointError at an unknown rule, no classes, or parameters that it lacks, does not know or refuses."""
    row = rule_row(rule.rule, place)
    where, known = f"{place}: {rule.rule}", (*row.required, *row.optional)
    missing = [name for name in row.required if name not in rule.parameters]
    unknown = [name for name in rule.parameters if name not in known]
    if missing or unknown:
        found = f"no parameter {missing[0]!r}" if missing else f"unknown parameter {unknown[0]!r}"
        raise CheckpointError(f"{where}: {found}; expected {', '.join(known) or 'none'}.")
    for name, value in rule.parameters.items():
        if not PARAMETERS[name].allows(value):
            raise CheckpointError(f"{where}: {name} is {value:g}; expected {PARAMETERS[name].expected}.")
    if not rule.classes or rule.parameters.get("to") in rule.classes:
        raise CheckpointError(f"{where}: classes {list(rule.classes)}; expected one or more, without the one in `to`.")


def _class_index(value: Any, place: str, names: Sequence[str]) -> int:
    """A class's index, given as such or by name."""
    index = list(names).index(value) if value in names else value
    if not isinstance(index, int) or index < 1 or (names and index >= len(names)):
        known = ", ".join(f"{name} ({index})" for index, name in enumerate(names) if index) or "indices from 1 on"
        raise CheckpointError(f"{place}: class {value!r}; expected {known}.")
    return index
