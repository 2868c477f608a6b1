"""What a challenge is made of: a conversion of its data, a writer of its submission, and a check of the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msseg.errors import DatasetError

if TYPE_CHECKING:  # it loads numpy
    from msseg.challenges.source import Listing
    from msseg.evaluation.rankings import ChallengeMetric

Pages = Literal["slices", "channels", "images"]
Masks = Literal["auto", "instances", "semantic"]
Score = Literal["max", "mean"]

_FAULTS_NAMED = 20


@dataclass(frozen=True)
class Fault:
    """What is wrong in a submission file; `line` counts from 1, or pages where `unit` says so, None for the whole.

    `member` names the file of an archive that is meant.
    """

    file: Path
    line: int | None
    found: str
    expected: str
    remedy: str
    unit: str = "line"
    member: str = ""

    def __str__(self) -> str:
        place = f", {self.member}" if self.member else "" if self.line is None else f", {self.unit} {self.line}"
        return f"{self.file}{place}: {self.found}; expected {self.expected}. {self.remedy}"


class SubmissionError(DatasetError):
    """A submission file that its challenge would refuse; `faults` says where and why."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        return faults_text(self.faults)


@dataclass(frozen=True)
class ConversionOptions:
    """How data are converted: names and values of labels (else found), what pages of a file are, how much at once."""

    labels: dict[str, int] = field(default_factory=dict)
    pages: Pages = "slices"
    workers: int = 1
    quiet: bool = True


@dataclass(frozen=True)
class SubmissionOptions:
    """What a submission is written from: the folder of the images, where known, and what the masks' values mean.

    A candidate of a list is where the probability is above `threshold`; it has the largest there, or the mean.
    """

    images: Path | None = None
    masks: Masks = "auto"
    threshold: float = 0.1
    score: Score = "max"


@dataclass(frozen=True)
class Challenge:
    """One challenge by name.

    `list_cases(folder, options)` finds the cases of its data, of which `conversion.convert` makes a data set folder.
    `write(predictions, file, options)` writes a submission and returns what there is to say about it;
    `submission.submit` checks the file before it is put in place. `check(file, images)` lists every fault, and
    `recognise(file)` says whether a file looks like one of this challenge. None stands for what a challenge has not.
    """

    name: str
    title: str
    url: str
    list_cases: Callable[[Path, ConversionOptions], Listing] | None = None
    write: Callable[[Path, Path, SubmissionOptions], list[str]] | None = None
    check: Callable[[Path, Path | None], list[Fault]] | None = None
    recognise: Callable[[Path], bool] | None = None

    @property
    def metric(self) -> ChallengeMetric | None:
        """The figure by which this challenge ranks, by its row in `msseg.evaluation.rankings`; None without one."""
        from msseg.evaluation.rankings import RANKINGS, ChallengeMetric

        return ChallengeMetric(self.name) if self.name in RANKINGS else None


def faults_text(faults: list[Fault]) -> str:
    """The first twenty faults, a line each, and how many more there are."""
    lines = [str(fault) for fault in faults[:_FAULTS_NAMED]]
    rest = len(faults) - len(lines)
    return "\n".join([*lines, f"and {rest} more faults"] if rest else lines)
