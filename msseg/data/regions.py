"""Regions of a dataset.json in the form of nnU-Net v2: labels of several values, painted in a declared order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msseg.data.layouts import malformed
from msseg.data.problems import Problem

ORDER = "regions_class_order"
_BACKGROUND = 0
_EXAMPLE = '{"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}'


@dataclass(frozen=True)
class DeclaredRegions:
    """Names of the regions with their values, ascending, and the value painted for each, both in the file's order.

    `labels` are the single values of all regions, as a dataset.json without regions would declare them: background
    first, then by value, each named after the region that has it alone, else `label_<value>`.
    """

    values: dict[str, tuple[int, ...]]
    painted: tuple[int, ...]
    labels: dict[str, int]


def declared_regions(source: Path, labels: Any, order: Any) -> DeclaredRegions | None:
    """The regions of the entries `labels` and `regions_class_order`, None where no label has several values.

    `labels` without an ignore label. Raises DatasetError for regions that are malformed, hold the background, or are
    declared twice, and for an order that has not one value of each region.
    """
    if not isinstance(labels, Mapping) or not any(isinstance(value, list) for value in labels.values()):
        if order is not None:
            raise malformed(
                source, f"{ORDER} {order!r} without a region", f"labels of several values, such as {_EXAMPLE}"
            )
        return None
    background = [name for name, value in labels.items() if not isinstance(value, bool) and value == _BACKGROUND]
    if len(background) != 1:
        raise malformed(source, f"regions and {len(background)} labels of value 0", f"one background, as in {_EXAMPLE}")
    values = {name: _values(source, name, value) for name, value in labels.items() if name != background[0]}
    _refuse_twins(source, values)
    painted = _painted(source, values, order)
    return DeclaredRegions(values, painted, _single_values(source, background[0], values))


def painting_notes(source: Path, regions: DeclaredRegions) -> list[Problem]:
    """A note for each value that comes out as another where the regions it lies in are painted in their order."""
    notes = []
    for value in list(regions.labels.values())[1:]:
        members = zip(regions.values.values(), regions.painted, strict=True)
        after = [painted for inside, painted in members if value in inside][-1]
        if after != value:
            found, wanted = (
                f"label value {value} comes out as {after}",
                f"{value}, so that predictions hold every label",
            )
            remedy = f"Change {ORDER} or the order of the labels, unless that is meant."
            notes.append(Problem("", str(source), found, wanted, remedy, "note"))
    return notes


def _values(source: Path, name: str, value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(one, bool) or not isinstance(one, int) for one in values):
        raise malformed(source, f"the region {name!r} of {value!r}", "label values, such as [1, 2]")
    if _BACKGROUND in values:
        raise malformed(source, f"the region {name!r} of {value!r}", "values of the foreground: 0 is the background")
    if len(set(values)) < len(values):
        raise malformed(source, f"the region {name!r} of {value!r}", "no value twice")
    return tuple(sorted(values))


def _refuse_twins(source: Path, values: Mapping[str, tuple[int, ...]]) -> None:
    first: dict[tuple[int, ...], str] = {}
    for name, members in values.items():
        twin = first.setdefault(members, name)
        if twin != name:
            found = f"the regions {twin!r} and {name!r} of the same values {list(members)}"
            raise malformed(source, found, "other values for each region")


def _painted(source: Path, values: Mapping[str, Sequence[int]], order: Any) -> tuple[int, ...]:
    wanted = f"{len(values)} values, one of each of {', '.join(values)}: what is painted where the region is found"
    if order is None:
        raise malformed(source, f"regions without {ORDER}", wanted)
    if not isinstance(order, list) or len(order) != len(values):
        raise malformed(source, f"{ORDER} {order!r}", wanted)
    for painted, (name, members) in zip(order, values.items(), strict=True):
        if isinstance(painted, bool) or painted not in members:
            found = f"{ORDER} {order!r}, which paints {painted!r} for {name!r}"
            raise malformed(source, found, f"one of the region's values {list(members)} there")
    return tuple(order)


def _single_values(source: Path, background: str, values: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    alone = {members[0]: name for name, members in values.items() if len(members) == 1}
    every = sorted({value for members in values.values() for value in members})
    names = [alone.get(value, f"label_{value}") for value in every]
    for name in names:
        if names.count(name) > 1:
            raise malformed(
                source,
                f"the region {name!r}, as the value {name.removeprefix('label_')} is called",
                "another name for it",
            )
    return {background: _BACKGROUND} | dict(zip(names, every, strict=True))
