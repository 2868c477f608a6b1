"""Labels of the left and the right of one thing: which they are, and what mirroring may do with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from planning.errors import PlanError
from planning.fingerprint import Fingerprint
from planning.plan import Configuration, Plan, Reason

COLUMNS = 2  # the last axis of a file's array (z, y, x)
_AXES = (0, 1, 2)
_SIDES = (("left", "right"), ("l", "r"), ("lh", "rh"))
# What has a left and a right that are no mirror images of each other.
_UNLIKE = frozenset({"heart", "cardiac", "atrium", "atria", "atrial", "ventricular", "coronary", "liver", "hepatic"})
_SOURCE = "rule of this project"

Pairs = tuple[tuple[int, int], ...]


class Sides(NamedTuple):
    """What a mirror along `axis` of a patch changes: class c becomes `classes[c]`, which becomes c."""

    axis: int
    classes: tuple[int, ...]


class PairDecision(NamedTuple):
    """The plan's pairs, the file axis from side to side (None: not known), and the file axes not to mirror along."""

    pairs: Pairs
    lateral_axis: int | None
    unmirrored: tuple[int, ...]
    reasons: tuple[Reason, ...]


def named_pairs(labels: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    """The (left, right) names that differ in the word for the side alone, in the order of the labels.

    A name may say left and right, l and r, or lh and rh, once, as a word of its own or one that a capital begins.
    """
    return tuple(pair for pair in _candidates(labels) if not _are_unlike(pair[0]))


def decide_pairs(fingerprint: Fingerprint) -> PairDecision:
    """The pairs, declared or by name, and whether mirrors can swap them; PlanError for a pair that is none."""
    declared = fingerprint.label_pairs
    names = named_pairs(fingerprint.labels) if declared is None else declared
    pairs = _indices(fingerprint.labels, names)
    axes = fingerprint.lateral_axes
    known = axes[0] if len(axes) == 1 else None
    if not pairs:
        return PairDecision((), None, (), _none_taken(fingerprint))
    unmirrored = () if known is not None else axes or _AXES
    reasons = (_pairs_reason(fingerprint, names), _axis_reason(axes))
    return PairDecision(pairs, known, unmirrored, reasons)


def side_axis(plan: Plan) -> int | None:
    """The file axis that is taken to run from side to side, None where that is not known and matters.

    Where labels have sides it is what the files told. Elsewhere it is assumed to be the columns, along which medical
    scans and photographs run from side to side as a rule; at worst a recipe then mirrors along another axis.
    """
    return plan.lateral_axis if plan.label_pairs else COLUMNS


def sides_of(plan: Plan, configuration: Configuration) -> Sides | None:
    """What mirroring the configuration's patches swaps, None where no axis of theirs swaps any classes."""
    if not plan.label_pairs or plan.lateral_axis is None:
        return None
    axis = plan.axis_order.index(plan.lateral_axis) - (len(plan.axis_order) - configuration.dimensions)
    if axis < 0:
        return None
    classes = list(range(len(plan.labels)))
    for left, right in plan.label_pairs:
        classes[left], classes[right] = right, left
    return Sides(axis, tuple(classes))


def _candidates(labels: Mapping[str, int]) -> list[tuple[str, str]]:
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for name in labels:
        words = _words(name)
        at = [(place, side) for place, word in enumerate(words) for side in _SIDES if word in side]
        if len(at) == 1:
            (place, side) = at[0]
            key = (*words[:place], "/".join(side), *words[place + 1 :])
            found.setdefault(key, {})[("left", "right")[side.index(words[place])]] = name
    return [(both["left"], both["right"]) for both in found.values() if len(both) == 2]


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word.lower() for word in re.split(r"[\W_]+", spaced) if word]


def _are_unlike(name: str) -> bool:
    words = set(_words(name))
    is_of_heart = "ventricle" in words and "lateral" not in words  # the brain's lateral ventricles are alike
    return is_of_heart or not _UNLIKE.isdisjoint(words)


def _indices(labels: Mapping[str, int], names: Sequence[Sequence[str]]) -> Pairs:
    order = list(labels)
    pairs = []
    for pair in names:
        if len(pair) != 2 or any(name not in order[1:] for name in pair):
            raise PlanError(f"label_pairs: found {list(pair)}, expected two of {', '.join(order[1:])}.")
        pairs.append((order.index(pair[0]), order.index(pair[1])))
    return tuple(pairs)


def _none_taken(fingerprint: Fingerprint) -> tuple[Reason, ...]:
    """Why names that look like pairs are none; nothing where no names do."""
    candidates = _candidates(fingerprint.labels)
    if not candidates:
        return ()
    because = "dataset.json declares so" if fingerprint.label_pairs is not None else _unlike_words(candidates)
    return (Reason("label_pairs", "no labels are swapped when images are mirrored", because, _SOURCE),)


def _pairs_reason(fingerprint: Fingerprint, names: Sequence[Sequence[str]]) -> Reason:
    shown = ", ".join(f"{left} and {right}" for left, right in names)
    decision = f"mirroring from side to side swaps {shown}"
    if fingerprint.label_pairs is not None:
        return Reason("label_pairs", decision, "dataset.json declares these pairs", "the user")
    because = "their names differ in the side alone, and a mirrored left is a right"
    unlike = [pair for pair in _candidates(fingerprint.labels) if pair not in names]
    return Reason("label_pairs", decision, "; ".join([because, *([_unlike_words(unlike)] if unlike else [])]), _SOURCE)


def _unlike_words(pairs: Sequence[Sequence[str]]) -> str:
    shown = ", ".join(f"{left} and {right}" for left, right in pairs)
    return f"{shown}: left and right of a heart or a liver are no mirror images of each other"


def _axis_reason(axes: Sequence[int]) -> Reason:
    if len(axes) == 1:
        because = "so the directions in the headers of all training images say"
        return Reason("lateral_axis", f"file axis {axes[0]} runs from side to side", because, _SOURCE)
    left_out = ", ".join(str(axis) for axis in axes or _AXES)
    because = "the training images run from side to side along several axes, or between two"
    if not axes:
        because = "some training image does not tell how it lies in the patient"
    decision = f"not known: no mirroring along the file axes {left_out}"
    return Reason("lateral_axis", decision, f"{because}, and a mirror that is guessed mixes the sides up", _SOURCE)
