"""Submission files: written beside their place, checked, and put in place only where nothing is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from msseg.challenges.challenge import Challenge, Fault, SubmissionError, SubmissionOptions
from msseg.errors import DatasetError
from msseg.files import atomic_path


@dataclass(frozen=True)
class SubmissionReport:
    """A submission that lies in its place, and what there is to say about how it was made."""

    path: Path
    notes: tuple[str, ...]

    def summary(self) -> str:
        """The notes, a line each, and where the file is."""
        return "\n".join([*self.notes, f"{self.path}: written and checked."])


def submit(
    challenge: Challenge, predictions: Path, output: Path, options: SubmissionOptions | None = None
) -> SubmissionReport:
    """Write the submission of a folder of predictions; nothing appears, and nothing is replaced, where it has a fault.

    Raises SubmissionError with every fault of the file, DatasetError for predictions that cannot be taken.
    """
    options = options or SubmissionOptions()
    output, predictions = Path(output), Path(predictions)
    write, check = _parts(challenge)
    if output.is_dir():
        raise DatasetError(f"{output}: found a folder, expected the name of a file. Name one with -o.")
    if not predictions.is_dir():
        raise DatasetError(f"{predictions}: no such folder; expected one of predictions. Name it with -i.")
    with atomic_path(output) as temporary:
        notes = write(predictions, temporary, options)
        faults = check(temporary, options.images)
        if faults:
            raise SubmissionError([replace(fault, file=output) for fault in faults])
    return SubmissionReport(output, tuple(notes))


def check_submission(challenge: Challenge, path: Path, images: Path | None = None) -> list[Fault]:
    """Every fault of a submission file, none where the challenge would take it.

    `images` is the folder of the challenge's images, which tells names and sizes. Raises DatasetError for a file that
    is not there.
    """
    if not Path(path).is_file():
        raise DatasetError(f"{path}: no such file; expected a submission to check.")
    return _parts(challenge)[1](Path(path), None if images is None else Path(images))


_Write = Callable[[Path, Path, SubmissionOptions], list[str]]
_Check = Callable[[Path, Path | None], list[Fault]]


def _parts(challenge: Challenge) -> tuple[_Write, _Check]:
    if challenge.write is None or challenge.check is None:
        raise DatasetError(f"{challenge.name}: has no submission file; expected a challenge such as dsb2018.")
    return challenge.write, challenge.check
