"""What there is to know of a predicted case to answer every question about rules: its components, in a small table.

All rules but the filling of holes remove components. How large each is, which others it touches and how its voxels are
labelled in the reference gives the outcome of any sequence of them exactly, without looking at a voxel again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from msseg.postprocessing.components import (
    component_boxes,
    fill_holes,
    foreground_box,
    numbered,
    slabs,
    without_rim,
)
from msseg.postprocessing.rules import (
    FILL_HOLES_OF_EACH,
    Removal,
    Rule,
    anchors_of,
    counted_of,
    parts_of,
    rule_row,
)
from msseg.postprocessing.selection import Components


@dataclass(frozen=True)
class Parts:
    """The components of each class of a label map, in the order of the array.

    `class_of` and `sizes` (voxels) have one entry each; `contacts` (n, 2) are pairs of components of different classes
    that touch, corners included. `overlap` (n, 3) has rows of component, class in the reference, voxels, without those
    that the reference ignores; empty for the parts of a reference.
    """

    class_of: np.ndarray
    sizes: np.ndarray
    contacts: np.ndarray
    overlap: np.ndarray


@dataclass(frozen=True)
class CaseTable:
    """A case: the parts of its prediction, of the same with all holes of each class filled, and of its reference.

    `filled` is None where there is no hole.
    """

    num_classes: int
    voxel_mm3: float
    plain: Parts
    filled: Parts | None
    reference: Parts


def case_table(
    prediction: np.ndarray, reference: np.ndarray, num_classes: int, spacing_mm: Sequence[float] | None = None
) -> CaseTable:
    """The table of a case from two maps (z, y, x) of class indices; without a spacing a voxel counts as 1 mm³.

    What the reference ignores (-1) is part of the components, as rules will see them, and of nothing that is scored.
    """
    filled = fill_holes(prediction, range(1, num_classes))
    expected = reference if reference.dtype.kind == "u" else np.maximum(reference, 0)
    return CaseTable(
        num_classes=num_classes,
        voxel_mm3=1.0 if spacing_mm is None else float(math.prod(spacing_mm)),
        plain=label_parts(prediction, reference),
        filled=None if filled is prediction else label_parts(filled, reference),
        reference=label_parts(expected),
    )


def label_parts(label: np.ndarray, reference: np.ndarray | None = None) -> Parts:
    """The parts of a label map, with their overlap where there is a reference."""
    box = foreground_box(label)
    if box is None:
        return Parts(*(np.zeros(shape, np.int64) for shape in (0, 0, (0, 2), (0, 3))))
    label = label[box]
    wanted = np.broadcast_to(np.uint8(0), label.shape) if reference is None else reference[box]
    padded = numbered(label)
    class_of, overlap = _class_and_overlap(without_rim(padded), label, wanted)
    return Parts(
        class_of=class_of,
        sizes=_totals(overlap[:, 0], overlap[:, 2], len(class_of)),
        contacts=_contacts(padded, class_of),
        overlap=overlap[overlap[:, 1] >= 0] if reference is not None else np.zeros((0, 3), np.int64),
    )


def _class_and_overlap(numbers: np.ndarray, label: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each component's class, and rows of component, class that is wanted there (-1: nobody knows), voxels."""
    class_of = np.zeros(int(numbers.max()) + 1, np.int64)
    lowest = 0 if wanted.dtype.kind == "u" else min(int(wanted.min()), 0)
    width = int(wanted.max()) + 1 - lowest
    keys, voxels = [], []
    for slab in slabs(numbers.shape):
        inside = numbers[slab] > 0
        found = numbers[slab][inside].astype(np.int64)
        class_of[found] = label[slab][inside]
        key = found * width + wanted[slab][inside] - lowest
        starts = np.flatnonzero(np.diff(key, prepend=-1))  # runs of equal voxels: few, against voxels
        keys.append(key[starts])
        voxels.append(np.diff(starts, append=key.size))
    distinct, row = np.unique(np.concatenate(keys), return_inverse=True)
    total = _totals(row, np.concatenate(voxels), len(distinct))
    return class_of[1:], np.stack([distinct // width - 1, distinct % width + lowest, total], 1)


def _contacts(padded: np.ndarray, class_of: np.ndarray) -> np.ndarray:
    """Pairs of components that touch, sorted; looked for around those of all classes but the one that takes most room.

    Where their boxes together are larger than the map, it is looked at whole.
    """
    if len(np.unique(class_of)) < 2:
        return np.zeros((0, 2), np.int64)
    boxes = [tuple(slice(side.start, side.stop + 2) for side in box) for box in component_boxes(padded)]
    volumes = np.array([math.prod(side.stop - side.start for side in box) for box in boxes])
    visited = class_of != np.bincount(class_of, volumes).argmax()
    views = [padded] if volumes[visited].sum() > padded.size else [padded[boxes[at]] for at in np.flatnonzero(visited)]
    pairs: set[tuple[int, int]] = set()
    for view in views:
        pairs |= cc3d.region_graph(np.ascontiguousarray(view), connectivity=26)
    return np.array(sorted(pairs), np.int64).reshape(-1, 2) - 1


def _totals(entry: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """The sum of the values of each entry; whole numbers up to 2^53 are exact."""
    return np.bincount(entry, values, count).astype(np.int64)


@dataclass(frozen=True)
class Remains:
    """What is left of a case after some rules: its parts, and a mask of those that are still there."""

    parts: Parts
    there: np.ndarray


def untouched(table: CaseTable, fills: bool = False) -> Remains:
    """All parts of a case, of the map with its holes filled where `fills`."""
    parts = table.filled if fills and table.filled is not None else table.plain
    return Remains(parts, np.ones(len(parts.class_of), bool))


def without(remains: Remains, rule: Rule, table: CaseTable) -> Remains:
    """What is left after one more rule that removes components; ValueError at one that fills holes."""
    for part in parts_of(rule):
        removal = rule_row(part.rule, "postprocessing").function
        if not isinstance(removal, Removal):
            raise ValueError(f"{part.rule}: a table of components does not tell what it does, but as the first rule")
        remains = _without(remains, part, removal, table)
    return remains


def after_rules(table: CaseTable, rules: Sequence[Rule]) -> Remains:
    """What the rules leave of a case, as `apply_rules` would, voxel by voxel.

    Holes may be filled by the first rule alone, of every class by itself and of any size; ValueError otherwise.
    """
    fills = bool(rules) and is_first_filling(rules[0], table.num_classes)
    remains = untouched(table, fills)
    for rule in rules[1:] if fills else rules:
        remains = without(remains, rule, table)
    return remains


def is_first_filling(rule: Rule, num_classes: int) -> bool:
    """Whether it is the rule that a table knows the outcome of: all holes of each class."""
    return rule.rule == FILL_HOLES_OF_EACH and rule.classes == tuple(range(1, num_classes)) and not rule.parameters


def _without(remains: Remains, rule: Rule, removal: Removal, table: CaseTable) -> Remains:
    parts, there = remains.parts, remains.there
    members = np.flatnonzero(there & np.isin(parts.class_of, rule.classes))
    if members.size == 0:
        return remains
    group = hanging_together(parts, members) if removal.together else np.arange(len(members))
    counted = counted_of(rule.parameters)
    sizes = parts.sizes[members] * (True if counted is None else parts.class_of[members] == counted)
    anchors = anchors_of(rule.parameters, rule.classes, range(1, table.num_classes))
    anchor = there & np.isin(parts.class_of, anchors)
    touching = np.isin(members, parts.contacts[anchor[parts.contacts[:, ::-1]]])
    count = int(group.max()) + 1
    components = Components(
        group=np.zeros(count, np.int64) if removal.together else parts.class_of[members],
        sizes=_totals(group, sizes, count),
        attached=np.bincount(group, touching, count) > 0 if anchors else None,
        anchored=bool(anchor.any()),
    )
    keep = removal.keep(components, rule.parameters, table.voxel_mm3)[group]
    if keep.all():
        return remains
    there = there.copy()
    there[members[~keep]] = False
    return Remains(parts, there)


def hanging_together(parts: Parts, members: np.ndarray | None = None) -> np.ndarray:
    """The object that each part is in, numbered from 0 in their order; of `members` alone, where some are given."""
    members = np.arange(len(parts.class_of)) if members is None else members
    place = np.full(len(parts.class_of), -1)
    place[members] = np.arange(len(members))
    edges = place[parts.contacts]
    edges = edges[(edges >= 0).all(1)]
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (len(members), len(members)))
    group: np.ndarray = connected_components(graph, directed=False)[1]
    return group


def confusion(table: CaseTable, remains: Remains) -> np.ndarray:
    """Voxels (num_classes, num_classes) by class in what is left (rows) and in the reference (columns).

    Background that both agree on is not counted: [0, 0] is 0.
    """
    classes = table.num_classes
    component, wanted, voxels = remains.parts.overlap.T
    there = remains.there[component]
    rows = remains.parts.class_of[component] * classes + wanted
    counts = _totals(rows[there], voxels[there], classes**2).reshape(classes, classes)
    counts[0, 1:] = _totals(table.reference.class_of, table.reference.sizes, classes)[1:] - counts[:, 1:].sum(0)
    return counts


def table_to_json(table: CaseTable) -> dict[str, Any]:
    """The table as a JSON object."""
    return {
        "num_classes": table.num_classes,
        "voxel_mm3": table.voxel_mm3,
        "plain": _parts_to_json(table.plain),
        "filled": None if table.filled is None else _parts_to_json(table.filled),
        "reference": _parts_to_json(table.reference),
    }


def table_from_json(value: dict[str, Any]) -> CaseTable:
    """The table in a JSON object that `table_to_json` made; KeyError, TypeError or ValueError where it is not."""
    return CaseTable(
        num_classes=int(value["num_classes"]),
        voxel_mm3=float(value["voxel_mm3"]),
        plain=_parts_from_json(value["plain"]),
        filled=None if value["filled"] is None else _parts_from_json(value["filled"]),
        reference=_parts_from_json(value["reference"]),
    )


def _parts_to_json(parts: Parts) -> dict[str, Any]:
    return {name: getattr(parts, name).tolist() for name in ("class_of", "sizes", "contacts", "overlap")}


def _parts_from_json(value: dict[str, Any]) -> Parts:
    shapes = {"class_of": (-1,), "sizes": (-1,), "contacts": (-1, 2), "overlap": (-1, 3)}
    return Parts(**{name: np.array(value[name], np.int64).reshape(shape) for name, shape in shapes.items()})
