"""Labels of the left and the right of one thing: which they are, and what mirroring may do with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from planning.errors import PlanError
from planning.fingerprint import Fingerprint
from planning.plan import Configuration, Plan, Reason
from planning.regions import swapped_regions

COLUMNS = 2  # the last axis of a file's array (z, y, x)
_AXES = (0, 1, 2)
_SIDES = (("left", "right"), ("l", "r"), ("lh", "rh"))
# What has a left and a right that are no mirror images of each other.
_UNLIKE = frozenset({"heart", "cardiac", "atrium", "atria", "atrial", "ventricular", "coronary", "liver", "hepatic"})
_SOURCE = "rule of this project"

Pairs = tuple[tuple[int, int], ...]


class Sides(NamedTuple):
    """What a mirror along `axis` of a patch changes: class c becomes `classes[c]`, which becomes c.

    Likewise region r becomes `regions[r]`, where regions are scored.
    """

    axis: int
    classes: tuple[int, ...]
    regions: tuple[int, ...] = ()

    @property
    def outputs(self) -> tuple[int, ...]:
        """Which of a network's scores each becomes: of the regions, where there are any, else of the classes."""
        return self.regions or self.classes


class PairDecision(NamedTuple):
    """The plan's pairs, the file axis from side to side (None: not known), and the file axes not to mirror along."""

    pairs: Pairs
    lateral_axis: int | None
    unmirrored: tuple[int, ...]
    reasons: tuple[Reason, ...]


def pair_names(fingerprint: Fingerprint) -> tuple[tuple[str, str], ...]:
    """The (left, right) names of labels and regions: those that the data set declares, else those that names tell."""
    if fingerprint.label_pairs is not None:
        return fingerprint.label_pairs
    return named_pairs(_members(fingerprint))


def named_pairs(labels: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The (left, right) names that differ in the word for the side alone, in the order of the labels.

    A name may say left and right, l and r, or lh and rh, once, as a word of its own or one that a capital begins.
    """
    return tuple(pair for pair in _candidates(labels) if not _are_unlike(pair[0]))


def decide_pairs(fingerprint: Fingerprint) -> PairDecision:
    """The pairs, declared or by name, and whether mirrors can swap them; PlanError for a pair that is none."""
    names = pair_names(fingerprint)
    axes = fingerprint.lateral_axes
    known = axes[0] if len(axes) == 1 else None
    if not names:
        return PairDecision((), None, (), _none_taken(fingerprint))
    pairs = _class_pairs(fingerprint, names)
    if pairs is None:
        return PairDecision((), None, axes or _AXES, (_unswappable(fingerprint, names, axes or _AXES),))
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
    return Sides(axis, tuple(classes), swapped_regions(plan.regions, classes) or ())


def _candidates(labels: Iterable[str]) -> list[tuple[str, str]]:
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


def _members(fingerprint: Fingerprint) -> dict[str, tuple[int, ...]]:
    """The classes of every label of the foreground and of every region, by name."""
    labels = {name: (index,) for index, name in enumerate(fingerprint.labels) if index}
    return labels | {region.name: region.classes for region in fingerprint.regions}


def _class_pairs(fingerprint: Fingerprint, names: Sequence[Sequence[str]]) -> Pairs | None:
    """Pairs of classes whose exchange swaps the members of every named pair; None where that makes other regions."""
    members = _members(fingerprint)
    for pair in names:
        if len(pair) != 2 or any(name not in members for name in pair):
            raise PlanError(f"label_pairs: found {list(pair)}, expected two of {', '.join(members)}.")
    partner: dict[int, int] = {}
    pairs: list[tuple[int, int]] = []
    for one, other in sorted(names, key=lambda pair: len(members[pair[0]])):  # of single classes first
        left, right = ([c for c in members[name] if c not in partner] for name in (one, other))
        alone = [[c for c in mine if c not in theirs] for mine, theirs in ((left, right), (right, left))]
        for pair in zip(*alone, strict=False):
            pairs.append(pair)
            partner.update({pair[0]: pair[1], pair[1]: pair[0]})
    classes = [partner.get(index, index) for index in range(len(fingerprint.labels))]
    swapped = all(sorted(classes[c] for c in members[one]) == list(members[other]) for one, other in names)
    return tuple(pairs) if swapped and swapped_regions(fingerprint.regions, classes) is not None else None


def _unswappable(fingerprint: Fingerprint, names: Sequence[Sequence[str]], left_out: Sequence[int]) -> Reason:
    """Why nothing is mirrored from side to side; PlanError for pairs that dataset.json declares."""
    shown = ", ".join(f"{left} and {right}" for left, right in names)
    because = f"to swap {shown}, single labels would change places so that some region became what is none"
    if fingerprint.label_pairs is not None:
        raise PlanError(f"label_pairs: {because}. Expected regions that mirror each other; name fewer pairs, or none.")
    axes = ", ".join(map(str, left_out))
    return Reason("label_pairs", f"no mirroring along the file axes {axes}", because, _SOURCE)


def _none_taken(fingerprint: Fingerprint) -> tuple[Reason, ...]:
    """Why names that look like pairs are none; nothing where no names do."""
    candidates = _candidates(_members(fingerprint))
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
    unlike = [pair for pair in _candidates(_members(fingerprint)) if pair not in names]
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
