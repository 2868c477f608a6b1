"""The ignore label of a data set: the value of voxels that nobody annotated, which is no class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msseg.data.layouts import malformed

IGNORE_NAME = "ignore"


def without_ignored(source: Path, declared: Any) -> tuple[Any, int | None]:
    """The labels of a dataset.json without the one named "ignore" (in any case), and its value, None where none is.

    `declared` is of either layout: {"0": "background"} or {"background": 0}; what is no object is handed back as it is.
    Raises DatasetError where two labels have the name or its value is no integer.
    """
    if not isinstance(declared, Mapping):
        return declared, None
    found = {name: value for name, value in declared.items() if _is_ignored(name, value)}
    if len(found) > 1:
        raise malformed(source, f"{len(found)} ignore labels ({found})", "at most one label named ignore")
    for name, value in found.items():
        number = value if name.lower() == IGNORE_NAME else name
        return {other: declared[other] for other in declared if other != name}, _integer(source, number)
    return declared, None


def check_ignored(source: Path, ignore: int | None, labels: Mapping[str, int], instances: bool) -> None:
    """Raise DatasetError where an ignore value is not above every label's, as nnU-Net has it, or objects are numbered.

    Above all others it stays out of the way of a class that is added between.
    """
    if ignore is None:
        return
    if ignore <= max(labels.values()):
        raise malformed(source, f"ignore {ignore} beside the values {sorted(labels.values())}", "the highest value")
    if instances:
        found = f"the ignore label {ignore} with instances"
        raise malformed(source, found, "numbered objects in every pixel, or labels without instances")


def _is_ignored(name: Any, value: Any) -> bool:
    if isinstance(value, str) and str(name).lstrip("-").isdigit():
        name = value
    return str(name).lower() == IGNORE_NAME


def _integer(source: Path, value: Any) -> int:
    if isinstance(value, str) and value.isdigit():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise malformed(source, f"ignore with value {value!r}", "an integer value")
    return value
