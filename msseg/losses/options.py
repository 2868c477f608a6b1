"""Options of a loss: its own keyword parameters, checked by their types and ranges."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

from planning.errors import PlanError

Option = float | str

# Smallest and largest value by an option's name; others may be anything from 0 on.
_TINY = 1e-12
_RANGES: dict[str, tuple[float, float]] = {
    "alpha": (0.0, 1.0),
    "margin": (_TINY, 0.5),
    "sigma_px": (_TINY, math.inf),
    "smooth": (_TINY, math.inf),
}


def option_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """The options that a loss function takes: its keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY)


def checked_options(loss: str, function: Callable[..., Any], options: Mapping[str, Option]) -> dict[str, Option]:
    """The options, numbers as float; PlanError names the loss and option, what was found and what was expected."""
    hints = get_type_hints(function)
    known = option_names(function)
    for name in options:
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "none: this loss has no options"
            raise PlanError(f"option of loss {loss}: found {name!r}, expected {expected}.")
    return {name: _checked(f"option {name} of loss {loss}", name, hints[name], options[name]) for name in options}


def _checked(place: str, name: str, hint: Any, value: Option) -> Option:
    words = tuple(each for each in get_args(hint) if isinstance(each, str))
    if words:
        if value not in words:
            raise PlanError(f"{place}: found {value!r}, expected one of {', '.join(words)}.")
        return value
    low, high = _RANGES.get(name, (0.0, math.inf))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= float(value) <= high:
        raise PlanError(f"{place}: found {value!r}, expected {_in_words(low, high)}.")
    return float(value)


def _in_words(low: float, high: float) -> str:
    least = "above 0" if low == _TINY else f"of at least {low:g}"
    return f"a number {least}" + ("" if math.isinf(high) else f" and at most {high:g}")
