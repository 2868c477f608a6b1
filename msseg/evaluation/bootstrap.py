"""How sure a mean over cases is: means of cases drawn again, the same draws for everything that is compared.

A figure is a mean over terms (labels) of a ratio of two sums over cases. The mean Dice adds up a case's Dice and one; a
pooled one would add up voxels. Cases that belong together (one patient) are drawn together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

DRAWS = 1000
SEED = 0
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure and the interval that holds `CONFIDENCE` of what it comes to on cases drawn again; NaN: not defined."""

    value: float
    lower: float
    upper: float

    @property
    def holds_zero(self) -> bool:
        """Whether 0 lies in the interval, so that the figure may be chance; so it may where nothing is defined."""
        return not (self.lower > 0 or self.upper < 0)


class Sample(Protocol):
    """Cases of which a figure is made, together or drawn again."""

    def figure(self) -> float:
        """The figure of all cases; NaN where it is not defined."""

    def drawn(self, counts: np.ndarray) -> np.ndarray:
        """The figure on each draw, float64 (draws,); `counts` (draws, cases) says how often each case is in it."""

    def of(self, cases: np.ndarray) -> Sample:
        """Some of the cases, by a mask."""

    def with_cases_of(self, other: Any, cases: np.ndarray) -> Sample:
        """The same with the cases of a mask taken from another sample of the same cases and kind."""


@dataclass(frozen=True)
class Tally:
    """What each case adds to a figure's sums: `part` and `whole`, float64 (cases, terms); a whole of 0 adds nothing."""

    part: np.ndarray
    whole: np.ndarray

    def figure(self) -> float:
        """The mean over terms of Σ part / Σ whole over all cases; NaN where no term is defined."""
        return float(_figures(self.part.sum(0), self.whole.sum(0)))

    def drawn(self, counts: np.ndarray) -> np.ndarray:
        """The figure on each draw; NaN where no drawn case defines it."""
        return _figures(counts @ self.part, counts @ self.whole)

    def of(self, cases: np.ndarray) -> Tally:
        """Some of the cases, by a mask."""
        return Tally(self.part[cases], self.whole[cases])

    def with_cases_of(self, other: Tally, cases: np.ndarray) -> Tally:
        """The same with the cases of a mask taken from another tally."""
        chosen = cases[:, None]
        return Tally(np.where(chosen, other.part, self.part), np.where(chosen, other.whole, self.whole))


def mean_tally(values: np.ndarray) -> Tally:
    """The tally of a mean over cases, term by term, of values (cases, terms); NaN is not defined and left out."""
    known = ~np.isnan(values)
    return Tally(np.where(known, values, 0.0), known.astype(float))


def drawn_units(groups: Sequence[str], draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """How often each case is in each draw: float64 (draws, cases).

    A draw takes as many groups as there are, with replacement, each with all its cases; a case without company is a
    group of its own name. ValueError where there are no cases.
    """
    if not groups:
        raise ValueError("no cases to draw from")
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    taken = np.random.default_rng(seed).integers(0, len(names), (draws, len(names)))
    counts = np.zeros((draws, len(names)))
    np.add.at(counts, (np.arange(draws)[:, None], taken), 1)
    return counts[:, group_of]


def interval(value: float, figures: np.ndarray) -> Interval:
    """The percentile interval of figures of draws, around `value` (Efron & Tibshirani 1993, chapter 13)."""
    known = figures[~np.isnan(figures)]
    if known.size == 0:
        return Interval(value, float("nan"), float("nan"))
    tail = 50 * (1 - CONFIDENCE)
    lower, upper = np.percentile(known, [tail, 100 - tail])
    return Interval(value, float(lower), float(upper))


def difference(one: Sample, other: Sample, counts: np.ndarray) -> Interval:
    """One figure less another on the same cases, paired: both are computed on each draw."""
    return interval(one.figure() - other.figure(), one.drawn(counts) - other.drawn(counts))


def groups_in_order(cases: Sequence[str], groups: Mapping[str, str] | None) -> list[str]:
    """The group of each case; its own name where there are none."""
    return list(cases) if groups is None else [groups[case] for case in cases]


def _figures(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The mean over the last axis of part / whole where that is defined; NaN where nothing is."""
    known = whole > 0
    ratio = np.divide(part, whole, out=np.zeros_like(part, dtype=float), where=known)
    count = known.sum(-1)
    total: np.ndarray = np.divide(ratio.sum(-1), count, out=np.full(count.shape, np.nan), where=count > 0)
    return total
