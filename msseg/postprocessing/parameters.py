"""The parameters that rules take: which values each may have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """Whether a value is allowed, and in words which are."""

    allows: Callable[[float], bool]
    expected: str


def _is_count(value: float) -> bool:
    return value >= 1 and value == int(value)


PARAMETERS: dict[str, Parameter] = {
    "k": Parameter(_is_count, "a whole number of components from 1 on"),
    "counted_class": Parameter(_is_count, "a class, by name or index"),
    "to": Parameter(lambda value: value == 0 or _is_count(value), "a class, by name or index, or 0 for all others"),
    "smallest_mm3": Parameter(lambda value: 0 < value < float("inf"), "a volume in mm³ above 0"),
    "largest_mm3": Parameter(lambda value: 0 < value < float("inf"), "a volume in mm³ above 0"),
    "literal": Parameter(lambda value: value in (0, 1), "0 or 1"),
}
