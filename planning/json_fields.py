"""Strict readers of JSON values: each gives the typed value or a `PlanError` that names place, found and expected."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from planning.errors import PlanError

T = TypeVar("T")
Reader = Callable[[Any, str], T]


def refuse(place: str, found: Any, expected: str) -> PlanError:
    """The error to raise for a value that does not fit; long values are cut."""
    shown = repr(found)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return PlanError(f"{place}: found {shown}, expected {expected}.")


def text(value: Any, place: str) -> str:
    """A non-empty string."""
    if not isinstance(value, str) or not value:
        raise refuse(place, value, "a non-empty text")
    return value


def flag(value: Any, place: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise refuse(place, value, "true or false")
    return value


def integer(value: Any, place: str) -> int:
    """A whole number; 2.0 is refused, as a hand edit would hardly mean it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse(place, value, "a whole number")
    return value


def at_least(lowest: int) -> Reader[int]:
    """A reader of whole numbers from `lowest` on."""

    def read(value: Any, place: str) -> int:
        if integer(value, place) < lowest:
            raise refuse(place, value, f"a whole number of at least {lowest}")
        return int(value)

    return read


def number(value: Any, place: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise refuse(place, value, "a finite number")
    return float(value)


def scalar(value: Any, place: str) -> str | int | float | bool | None:
    """A text, a finite number, a flag or null."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number(value, place)
    elif value is not None and not isinstance(value, (str, bool)):
        raise refuse(place, value, "a text, a number, true, false or null")
    return value


def optional(reader: Reader[T]) -> Reader[T | None]:
    """A reader of null, or of what `reader` reads."""
    return lambda value, place: None if value is None else reader(value, place)


def positive(value: Any, place: str) -> float:
    """A finite number above 0."""
    if number(value, place) <= 0:
        raise refuse(place, value, "a number above 0")
    return float(value)


def not_negative(value: Any, place: str) -> float:
    """A finite number of at least 0."""
    if number(value, place) < 0:
        raise refuse(place, value, "a number of at least 0")
    return float(value)


def one_of(*choices: Any) -> Reader[Any]:
    """A reader of one of the listed values, of the same type: `true` is not 1."""

    def read(value: Any, place: str) -> Any:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise refuse(place, value, "one of " + ", ".join(map(str, choices)))
        return value

    return read


def sequence(item: Reader[T]) -> Reader[tuple[T, ...]]:
    """A reader of lists whose items `item` reads."""

    def read(value: Any, place: str) -> tuple[T, ...]:
        if not isinstance(value, (list, tuple)):
            raise refuse(place, value, "a list")
        return tuple(item(one, f"{place}[{index}]") for index, one in enumerate(value))

    return read


def mapping(item: Reader[T]) -> Reader[dict[str, T]]:
    """A reader of objects with free names, whose values `item` reads; the order is kept."""

    def read(value: Any, place: str) -> dict[str, T]:
        if not isinstance(value, Mapping):
            raise refuse(place, value, "an object")
        return {text(name, place): item(one, f"{place}.{name}") for name, one in value.items()}

    return read


def record(kind: type[T], readers: Mapping[str, Reader[Any]]) -> Reader[T]:
    """A reader of objects that become the dataclass `kind`: no field may be unknown, none without default missing."""
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    optional = {
        field.name
        for field in fields
        if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    }

    def read(value: Any, place: str) -> T:
        if not isinstance(value, Mapping):
            raise refuse(place, value, "an object")
        for name in value:
            if name not in readers:
                raise refuse(place, name, "only the fields " + ", ".join(readers))
        for name in readers:
            if name not in value and name not in optional:
                raise refuse(f"{place}.{name}", None, "a value: the field is missing")
        return kind(**{name: readers[name](value[name], f"{place}.{name}") for name in readers if name in value})

    return read


def as_json(value: Any) -> Any:
    """`value` with dataclasses as objects and tuples as lists, equal to itself after a trip through JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: as_json(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(one) for one in value]
    return value
