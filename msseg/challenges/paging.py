"""Files of many pages as sources of a case a page."""

from __future__ import annotations

from dataclasses import replace

from msseg.challenges.source import Source
from msseg.data.image import read_geometry
from msseg.data.problems import FileError, Problem

_FEWEST_DIGITS = 2


def page_names(name: str, pages: int) -> tuple[str, ...]:
    """`name_00`, `name_01`, …, with as many digits as the last page needs."""
    digits = max(_FEWEST_DIGITS, len(str(pages - 1)))
    return tuple(f"{name}_{number:0{digits}d}" for number in range(pages))


def paged(source: Source, single: bool = False) -> Source | Problem:
    """The source with a case for each page, or why its pages cannot be counted.

    `single` names the case of a file of one page by a number too.
    """
    try:
        pages = read_geometry(source.image).shape[0]
    except FileError as error:
        return error.as_problem(source.name)
    return replace(source, pages=page_names(source.name, pages)) if pages > 1 or single else source
