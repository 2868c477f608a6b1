"""Which challenge a submission file is for, by what it looks like."""

from __future__ import annotations

from pathlib import Path

from msseg.challenges.challenge import Challenge
from msseg.challenges.table import CHALLENGES
from msseg.errors import DatasetError


def guess_challenge(path: Path) -> Challenge:
    """The one challenge whose submissions look like this file; DatasetError for none, several, or no file."""
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; expected a submission to check.")
    known = [load() for load in CHALLENGES.values()]
    fitting = [challenge for challenge in known if challenge.recognise is not None and challenge.recognise(path)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        found, names = "looks like a file of several challenges", [challenge.name for challenge in fitting]
    else:
        found, names = "looks like a file of no challenge", [one.name for one in known if one.check is not None]
    raise DatasetError(f"{path}: {found}; expected one. Name it with --challenge: {', '.join(names)}.")
