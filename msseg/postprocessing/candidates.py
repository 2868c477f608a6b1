"""Which rules are worth a question: candidates from what the reference's objects are like.

All of it comes from the tables of the cases that decide, so that cases which are kept out have no say in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from msseg.postprocessing.rules import (
    ATTACHED_OF_EACH,
    FILL_HOLES_OF_EACH,
    K_LARGEST_OF_EACH,
    K_LARGEST_TOGETHER,
    LARGEST_OF_EACH,
    LARGEST_TOGETHER,
    MINIMUM_SIZE_OF_EACH,
    MINIMUM_SIZE_TOGETHER,
    Rule,
)
from msseg.postprocessing.tables import CaseTable, Parts, hanging_together

# Smallest sizes that are tried: these shares of the smallest object of the reference, these quantiles of all, and,
# since references have specks, these shares of the smallest among the largest objects of the cases.
_SHARES_OF_SMALLEST = (0.1, 0.5, 1.0)
_QUANTILES = (0.05, 0.1, 0.25)
_SHARES_OF_LARGEST = (0.001, 0.01, 0.1)
# Of the cases' numbers of objects, these quantiles are tried.
_NUMBER_QUANTILES = (1.0, 0.75, 0.5, 0.25)
# A class is asked to be attached to another where so much of its volume is, in the reference.
_ATTACHED_SHARE = 0.9
_MOST_COMPONENTS = 10

Alternatives = list[Rule]


@dataclass(frozen=True)
class Question:
    """Rules to choose between, group after group: of each group one at most is kept, the mildest stands first.

    `none_falls` asks of a rule that no class loses by it; `twice` that it helps without the case that it helps most
    too. nnU-Net asks neither of a single class.
    """

    groups: Callable[[Sequence[CaseTable], Sequence[Rule]], list[Alternatives]]
    none_falls: bool
    twice: bool


def _whole_largest(tables: Sequence[CaseTable], kept: Sequence[Rule]) -> list[Alternatives]:
    return [[Rule(LARGEST_TOGETHER, _all_classes(tables))]]


def _each_largest(tables: Sequence[CaseTable], kept: Sequence[Rule]) -> list[Alternatives]:
    return [[Rule(LARGEST_OF_EACH, (index,))] for index in _all_classes(tables)]


def _organs_with_what_is_attached(tables: Sequence[CaseTable], kept: Sequence[Rule]) -> list[Alternatives]:
    """The rule for kidneys and their tumours, for every class that is attached to one of more volume."""
    groups, volumes = [], _volumes(tables)
    for index, organ in ((one, other) for one, other in _attached_pairs(tables) if volumes[other] > volumes[one]):
        counts = [_objects_with(table, organ) for table in tables]
        rules = [
            Rule(K_LARGEST_TOGETHER, (organ, index), {"k": float(k), "counted_class": float(organ)})
            for k in _numbers(counts, 1)
        ]
        groups.append(rules)
    return groups


def _whole_k_largest(tables: Sequence[CaseTable], kept: Sequence[Rule]) -> list[Alternatives]:
    if any(rule.rule == LARGEST_TOGETHER for rule in kept):
        return []
    counts = [len(np.unique(hanging_together(table.reference))) for table in tables]
    return [[Rule(K_LARGEST_TOGETHER, _all_classes(tables), {"k": float(k)}) for k in _numbers(counts, 2)]]


def _each_k_largest(tables: Sequence[CaseTable], kept: Sequence[Rule]) -> list[Alternatives]:
    done = {index for rule in kept if rule.rule == LARGEST_OF_EACH for index in rule.classes}
    groups = []
    for index in (one for one in _all_classes(tables) if one not in done):
        counts = [int((table.reference.class_of == index).sum()) for table in tables]
        groups.append([Rule(K_LARGEST_OF_EACH, (index,), {"k": float(k)}) for k in _numbers(counts, 2)])
    return groups


def _attached(tables: Sequence[CaseTable], kept: Sequence[Rule]) -> list[Alternatives]:
    return [[Rule(ATTACHED_OF_EACH, (index,), {"to": float(other)})] for index, other in _attached_pairs(tables)]


def _whole_smallest(tables: Sequence[CaseTable], kept: Sequence[Rule]) -> list[Alternatives]:
    sizes = [_object_sizes(table) * table.voxel_mm3 for table in tables]
    return [[Rule(MINIMUM_SIZE_TOGETHER, _all_classes(tables), {"smallest_mm3": mm3}) for mm3 in _smallest(sizes)]]


def _each_smallest(tables: Sequence[CaseTable], kept: Sequence[Rule]) -> list[Alternatives]:
    groups = []
    for index in _all_classes(tables):
        sizes = [_sizes_of(table.reference, index) * table.voxel_mm3 for table in tables]
        groups.append([Rule(MINIMUM_SIZE_OF_EACH, (index,), {"smallest_mm3": mm3}) for mm3 in _smallest(sizes)])
    return groups


def _fillings(tables: Sequence[CaseTable], kept: Sequence[Rule]) -> list[Alternatives]:
    return [[Rule(FILL_HOLES_OF_EACH, _all_classes(tables))]]


# In the order in which they are asked; the first two are nnU-Net's.
QUESTIONS: dict[str, Question] = {
    "largest component of the foreground": Question(_whole_largest, none_falls=True, twice=False),
    "largest component of each class": Question(_each_largest, none_falls=False, twice=False),
    "organs with what is attached": Question(_organs_with_what_is_attached, none_falls=True, twice=True),
    "k largest of the foreground": Question(_whole_k_largest, none_falls=True, twice=True),
    "k largest of each class": Question(_each_k_largest, none_falls=False, twice=True),
    "attached to another class": Question(_attached, none_falls=False, twice=True),
    "smallest size in the foreground": Question(_whole_smallest, none_falls=True, twice=True),
    "smallest size of each class": Question(_each_smallest, none_falls=False, twice=True),
    "fill holes": Question(_fillings, none_falls=True, twice=True),
}


def _all_classes(tables: Sequence[CaseTable]) -> tuple[int, ...]:
    return tuple(range(1, tables[0].num_classes))


def _attached_pairs(tables: Sequence[CaseTable]) -> list[tuple[int, int]]:
    """Pairs of a class and another that nearly all of its volume touches, in the reference of these cases."""
    classes = tables[0].num_classes
    touching, total = np.zeros((classes, classes)), _volumes(tables)
    for table in tables:
        parts = table.reference
        volume = parts.sizes * table.voxel_mm3
        both = np.concatenate([parts.contacts, parts.contacts[:, ::-1]])
        pairs = np.unique(np.stack([both[:, 0], parts.class_of[both[:, 1]]], 1), axis=0)
        np.add.at(touching, (parts.class_of[pairs[:, 0]], pairs[:, 1]), volume[pairs[:, 0]])
    attached = (touching >= _ATTACHED_SHARE * total[:, None]) & (total[:, None] > 0)
    return [(int(index), int(other)) for index, other in np.argwhere(attached)]


def _volumes(tables: Sequence[CaseTable]) -> np.ndarray:
    """The volume of each class in the reference of all cases, in mm³."""
    volumes = np.zeros(tables[0].num_classes)
    for table in tables:
        volumes += table.voxel_mm3 * np.bincount(table.reference.class_of, table.reference.sizes, table.num_classes)
    return volumes


def _objects_with(table: CaseTable, organ: int) -> int:
    """The objects of the reference, of all classes together, that hold some of the class `organ`."""
    return len(np.unique(hanging_together(table.reference)[table.reference.class_of == organ]))


def _object_sizes(table: CaseTable) -> np.ndarray:
    """The voxels of the objects of the reference, of all classes together."""
    return np.bincount(hanging_together(table.reference), table.reference.sizes)


def _sizes_of(parts: Parts, index: int) -> np.ndarray:
    return parts.sizes[parts.class_of == index]


def _numbers(counts: Sequence[int], fewest: int) -> list[int]:
    """How many components may be kept: the most that a case has, then what most, half and few of the cases have."""
    known = [count for count in counts if count]
    if not known:
        return []
    wanted = np.quantile(known, _NUMBER_QUANTILES, method="lower")
    return [k for k in dict.fromkeys(wanted.astype(int).tolist()) if fewest <= k <= _MOST_COMPONENTS]


def _smallest(sizes_mm3: Sequence[np.ndarray]) -> list[float]:
    """Smallest sizes to try, in mm³ of three digits, ascending."""
    sizes = np.concatenate(sizes_mm3)
    if sizes.size == 0:
        return []
    largest = min(of_case.max() for of_case in sizes_mm3 if of_case.size)
    tried = [*(sizes.min() * share for share in _SHARES_OF_SMALLEST), *np.quantile(sizes, _QUANTILES)]
    tried += [largest * share for share in _SHARES_OF_LARGEST]
    return sorted({float(f"{mm3:.3g}") for mm3 in tried})
