"""Regions: sets of classes that may overlap (a tumour and its core), each with the class that it paints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planning.json_fields import at_least, integer, record, refuse, sequence, text


@dataclass(frozen=True)
class Region:
    """One region: its `name`, its classes (indices into the labels, ascending) and the one `painted` where it is found.

    The regions of a data set are painted in their order, later ones over earlier ones.
    """

    name: str
    classes: tuple[int, ...]
    painted: int


read_regions = sequence(record(Region, {"name": text, "classes": sequence(at_least(1)), "painted": integer}))


def validate_regions(regions: Sequence[Region], num_classes: int, place: str) -> None:
    """Raise PlanError for regions of other classes than 1 to `num_classes` - 1, that paint others, or that repeat."""
    for index, region in enumerate(regions):
        classes = region.classes
        if not classes or list(classes) != sorted(set(classes)) or classes[-1] >= num_classes:
            wanted = f"distinct classes from 1 to {num_classes - 1}, ascending"
            raise refuse(f"{place}[{index}].classes", list(classes), wanted)
        if region.painted not in classes:
            raise refuse(f"{place}[{index}].painted", region.painted, f"one of the region's classes {list(classes)}")
        for earlier in regions[:index]:
            if region.name == earlier.name or classes == earlier.classes:
                raise refuse(f"{place}[{index}]", region.name, f"another name and other classes than {earlier.name}")


def swapped_regions(regions: Sequence[Region], classes: Sequence[int]) -> tuple[int, ...] | None:
    """The region that each becomes where class c becomes `classes[c]`; None where one becomes what is no region."""
    places = {region.classes: place for place, region in enumerate(regions)}
    found = [places.get(tuple(sorted(classes[index] for index in region.classes))) for region in regions]
    known = tuple(place for place in found if place is not None)
    return known if len(known) == len(found) else None


def measured_labels(labels: Mapping[str, int], regions: Sequence[Region]) -> dict[str, int | tuple[int, ...]]:
    """What is measured of label files, names to values: every region with its values, else every foreground label."""
    values = list(labels.values())
    if regions:
        return {region.name: tuple(values[index] for index in region.classes) for region in regions}
    return dict(list(labels.items())[1:])
