"""How a fold's validation cases come to a decision: what they leave while they are predicted, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msseg.data.cases import Case
from msseg.inference.outputs import Output, ProbabilityFiles
from msseg.pipeline.decisions import (
    Decided,
    Findings,
    ForegroundCounts,
    decide,
    read_counts,
    read_findings,
    write_findings,
)
from msseg.pipeline.object_search import BITS, CANDIDATES, search_objects, searched_cases
from planning.plan import Plan


@dataclass(frozen=True)
class FoldDecision:
    """What is looked for on a fold's `cases`; nothing where `metric` is None.

    Objects are made of the probabilities of the cases `searched`, of which the files are removed in the end. Where the
    fold has findings of objects with its present weights, `known`, they are not looked for again.
    """

    fold: Path
    plan: Plan
    cases: tuple[Case, ...]
    metric: str | None
    searched: tuple[Case, ...] = ()
    known: Findings | None = None

    @classmethod
    def of(cls, fold: Path, plan: Plan, cases: Sequence[Case], metric: str | None) -> FoldDecision:
        """What the metric needs of the cases."""
        if metric is None or plan.instances is None:
            return cls(fold, plan, tuple(cases), metric)
        known = read_findings(fold, plan)
        if known is not None and known.objects and known.candidates == CANDIDATES:
            return cls(fold, plan, tuple(cases), metric, known=known)
        return cls(fold, plan, tuple(cases), metric, tuple(searched_cases(cases)))

    def groups(self, cases: Sequence[Case]) -> list[tuple[list[Case], list[Output]]]:
        """The cases in groups, each with what is written beside their segmentations."""
        if self.metric is None:
            return [(list(cases), [])]
        names = {case.name for case in self.searched}
        searched = [case for case in cases if case.name in names]
        others = [case for case in cases if case.name not in names]
        return [(searched, [self._counts, self._files]), (others, [self._counts])]

    def decide(
        self, seconds: float, workers: int, quiet: bool = True, stop: Callable[[], bool] = lambda: False
    ) -> Decided | None:
        """The model's decision, written from all its folds, with objects as far as `seconds` allow."""
        if self.metric is None:
            return None
        objects = self.known.objects if self.known else None
        if self.searched:
            objects = search_objects(self.searched, self._files, seconds, workers, quiet, stop)
        findings = Findings(read_counts(self._counts, self.cases), CANDIDATES if objects else (), objects)
        write_findings(self.fold, self.plan, findings)
        for case in self.searched:
            self._files.path(case).unlink(missing_ok=True)
        return decide(self.fold.parent, self.plan, self.metric)

    @property
    def _counts(self) -> ForegroundCounts:
        return ForegroundCounts(self.fold / "validation")

    @property
    def _files(self) -> ProbabilityFiles:
        return ProbabilityFiles(self.fold / "validation", BITS)
