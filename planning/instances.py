"""What single objects are called and valued, where a data set numbers them and the classes to learn are levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planning.json_fields import integer, record, refuse, text


@dataclass(frozen=True)
class InstancePlan:
    """The one foreground label of numbered objects: its `name`, and its `value` in semantic label files.

    Beside it, the classes of a fingerprint or plan (`labels`) are not labels but levels: background first, and every
    other level a part of an object.
    """

    name: str
    value: int


_read = record(InstancePlan, {"name": text, "value": integer})


def read_instances(value: Any, place: str) -> InstancePlan | None:
    """The entry in a JSON object, null where no objects are numbered. Raises PlanError where it is malformed."""
    if value is None:
        return None
    instances = _read(value, place)
    if instances.value == 0:
        raise refuse(f"{place}.value", 0, "another value than the background's")
    return instances


def semantic_labels(labels: Mapping[str, int], instances: InstancePlan | None) -> dict[str, int]:
    """Names and values in semantic label files: the labels themselves, or background and the objects' label."""
    if instances is None:
        return dict(labels)
    return {next(iter(labels)): 0, instances.name: instances.value}
