"""What the words of the command line stand for; each reader refuses a malformed one in its own words."""

from __future__ import annotations

import argparse
import json
import math
import re


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    return _int_from(1, text)


def not_negative_int(text: str) -> int:
    """A whole number of at least 0."""
    return _int_from(0, text)


def share(text: str) -> float:
    """A number above 0 and at most 1."""
    value = _float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0 and at most 1")
    return value


def probability(text: str) -> float:
    """A number above 0 and below 1."""
    value = _float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a probability above 0 and below 1")
    return value


def distance_mm(text: str) -> float:
    """A finite number of at least 0."""
    value = _float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a distance in mm, such as 1.5")
    return value


def key_value(text: str) -> tuple[str, str | int | float | bool | None]:
    """The name and the value of `KEY=VALUE`: true, false, null, a number, else a text."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not key or not equals or not value:
        raise argparse.ArgumentTypeError(f"{text}: expected KEY=VALUE, such as heads=last")
    return key, _scalar(value)


def _scalar(text: str) -> str | int | float | bool | None:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if finite and not isinstance(value, (dict, list)) else text


_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?|mps")


def device_name(text: str) -> str:
    """The name of a device; whether the machine has it is seen when it is used."""
    if not _DEVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text}: expected auto, cpu, cuda, cuda:N or mps")
    return text


def _int_from(lowest: int, text: str) -> int:
    if not text.strip().lstrip("+").isdecimal() or int(text) < lowest:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least {lowest}")
    return int(text)


def _float(text: str) -> float:
    """The number, or NaN, which no range holds."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


_BYTE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "GIB": 2**30, "MIB": 2**20}


def byte_size(text: str) -> int:
    """Bytes of `8GB`, `500MB`, `8GiB` or a bare number of GB."""
    number = text.strip().upper().rstrip("BGIKMT")
    unit = text.strip().upper()[len(number) :] or "GB"
    unit = unit if unit.endswith("B") else f"{unit}B"
    try:
        size = int(float(number) * _BYTE_UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text}: expected a size such as 8GB") from None
    if size <= 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a size above zero")
    return size


_SECONDS = {"S": 1.0, "M": 60.0, "H": 3600.0, "D": 86400.0}


def duration_s(text: str) -> float:
    """Seconds of `45m`, `6h`, `90s` or `1d`."""
    number, unit = text.strip()[:-1], text.strip()[-1:].upper()
    try:
        seconds = float(number) * _SECONDS[unit]
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text}: expected a duration such as 45m or 6h") from None
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a duration above zero")
    return seconds
