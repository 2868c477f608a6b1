"""Models and ensembles side by side on the same cases, and which of them is taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from msseg.evaluation.bootstrap import DRAWS, SEED, Interval, Sample, drawn_units, interval


@dataclass(frozen=True)
class Candidate:
    """A model, or an ensemble of `members`, on cases that are the same, in one order, for all candidates.

    `before` counts the models that predict first, for members that are cascades.
    """

    members: tuple[str, ...]
    sample: Sample
    before: int = 0

    @property
    def models(self) -> int:
        """The models that it takes to predict with it."""
        return len(self.members) + self.before

    @property
    def name(self) -> str:
        return " + ".join(self.members)


@dataclass(frozen=True)
class Row:
    """A candidate's figure, and its difference to the best candidate's, each with its interval; `models` it takes."""

    name: str
    members: tuple[str, ...]
    figure: Interval
    to_best: Interval
    models: int


@dataclass(frozen=True)
class Choice:
    """What is taken: its name, the name of the candidate of the highest figure, and why."""

    name: str
    best: str
    reason: str


def compare(candidates: Sequence[Candidate], groups: Sequence[str], draws: int = DRAWS, seed: int = SEED) -> list[Row]:
    """A row a candidate, the highest figure first; all on the same draws, of cases or of whole groups.

    `groups` has the group of each case. A candidate whose figure is not defined comes last.
    """
    counts = drawn_units(groups, draws, seed)
    ranked = sorted(candidates, key=_rank)
    figures = [one.sample.figure() for one in ranked]
    drawn = [one.sample.drawn(counts) for one in ranked]
    return [
        Row(one.name, one.members, interval(figure, its), interval(figure - figures[0], its - drawn[0]), one.models)
        for one, figure, its in zip(ranked, figures, drawn, strict=True)
    ]


def _rank(candidate: Candidate) -> tuple[float, int, str]:
    figure = candidate.sample.figure()
    return (math.inf if math.isnan(figure) else -figure, candidate.models, candidate.name)


def choose_simplest(rows: Sequence[Row]) -> Choice:
    """The best of the candidates of the fewest models that cannot be told from the best of all.

    It cannot be told where the interval of the paired difference holds 0. A cascade takes two models. Of equally many
    the highest figure is taken: a difference within its interval is no ground for taking the lower one.
    """
    best = rows[0]
    equal = [row for row in rows if row is best or _may_equal(row)]
    chosen = min(equal, key=lambda row: (row.models, rows.index(row)))
    return Choice(chosen.name, best.name, _simplest_reason(chosen, best, rows))


def _may_equal(row: Row) -> bool:
    return row.to_best.holds_zero and not math.isnan(row.figure.value)


def choose_highest(rows: Sequence[Row]) -> Choice:
    """The candidate of the highest figure, however small the difference."""
    best = rows[0]
    reason = f"{best.name} has the highest figure, {best.figure.value:.4f}{_next_best(rows)}."
    return Choice(best.name, best.name, reason)


CHOICES: Mapping[str, Callable[[Sequence[Row]], Choice]] = {"simplest": choose_simplest, "highest": choose_highest}


def nested_figure(
    candidates: Sequence[Candidate],
    folds: Sequence[str],
    groups: Sequence[str],
    choose: Callable[[Sequence[Row]], Choice],
    draws: int = DRAWS,
) -> float:
    """The figure where each fold's cases are those of the candidate that is chosen on the other folds' cases.

    What choosing itself gains by chance is not in it. NaN where there is one fold only.
    """
    fold_of, by_name = np.array(folds), {one.name: one.sample for one in candidates}
    nested = candidates[0].sample
    if len(set(folds)) < 2:
        return math.nan
    for fold in sorted(set(folds)):
        held_out = fold_of == fold
        others = [replace(one, sample=one.sample.of(~held_out)) for one in candidates]
        kept = [group for group, out in zip(groups, held_out, strict=True) if not out]
        nested = nested.with_cases_of(by_name[choose(compare(others, kept, draws)).name], held_out)
    return nested.figure()


def _simplest_reason(chosen: Row, best: Row, rows: Sequence[Row]) -> str:
    if chosen is best:
        simpler = [row for row in rows if row.models < best.models]
        if not simpler:
            return f"{best.name} has the highest figure, {best.figure.value:.4f}{_next_best(rows)}."
        return (
            f"{best.name} has the highest figure, {best.figure.value:.4f}; the best of fewer models, "
            f"{simpler[0].name}, lies {_difference(simpler[0].to_best)} off, an interval without 0."
        )
    models = f"{chosen.models} model{'s' if chosen.models > 1 else ''} instead of {best.models}"
    return (
        f"{best.name} has the highest figure, {best.figure.value:.4f}, but {chosen.name} with {models} lies "
        f"{_difference(chosen.to_best)} off, an interval that holds 0."
    )


def _next_best(rows: Sequence[Row]) -> str:
    return f"; next is {rows[1].name} at {_difference(rows[1].to_best)}" if len(rows) > 1 else ""


def _difference(one: Interval) -> str:
    return f"{one.value:+.4f} ({one.lower:+.4f} to {one.upper:+.4f})"
