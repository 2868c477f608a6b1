"""The challenges by name; each is loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from msseg.challenges.challenge import Challenge
from msseg.errors import DatasetError


def _dsb2018() -> Challenge:
    from msseg.challenges.dsb2018 import DSB2018

    return DSB2018


def _isbi2012() -> Challenge:
    from msseg.challenges.isbi2012 import ISBI2012

    return ISBI2012


def _folder() -> Challenge:
    from msseg.challenges.folder import FOLDER

    return FOLDER


CHALLENGES: dict[str, Callable[[], Challenge]] = {"dsb2018": _dsb2018, "isbi2012": _isbi2012, "folder": _folder}


def find_challenge(name: str) -> Challenge:
    """The challenge of that name; DatasetError that lists the known ones for any other."""
    if name not in CHALLENGES:
        raise DatasetError(f"{name}: no such challenge. Known are {', '.join(CHALLENGES)}.")
    return CHALLENGES[name]()
