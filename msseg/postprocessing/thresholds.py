"""Which thresholds do best on validation: every metric as a ratio of sums, so that cases add up for all candidates.

A case says of each candidate what it adds to the numerator and to the denominator. Pooled Dice adds voxels; a mean over
cases adds the case's value and one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from msseg.evaluation.objects import ObjectCounts, object_metrics


@dataclass(frozen=True)
class Tallies:
    """What each case adds to a metric's numerator `part` and denominator `whole`: float64 (cases, candidates)."""

    part: np.ndarray
    whole: np.ndarray

    def values(self, of: np.ndarray | None = None) -> np.ndarray:
        """The metric for each candidate, over all cases, or those that the mask `of` names; 0 where nothing counts."""
        part, whole = (side if of is None else side[of] for side in (self.part, self.whole))
        return _ratio(part.sum(0), whole.sum(0))


@dataclass(frozen=True)
class Choice:
    """The best candidate of all cases, and what it is worth.

    `value` is its metric on the cases that it was chosen on, too good on new ones; `undecided` that of the candidate
    without a decision; `by_others` what comes out where each case is decided by the others, None for a single case.
    """

    index: int
    value: float
    undecided: float
    by_others: float | None
    cases: int


def choose(tallies: Tallies, default: int) -> Choice:
    """The best candidate; of equals the one that stands nearest to `default`, and `default` where nothing is gained.

    A candidate other than `default` is chosen only where deciding each case by the others gains too: what helps on a
    case alone is chance. ValueError where there are no cases.
    """
    cases = len(tallies.part)
    if cases == 0:
        raise ValueError("no cases to choose on")
    values = tallies.values()
    undecided, by_others = float(values[default]), _by_others(tallies, default)
    gains = by_others is not None and by_others > undecided
    index = _best(values, default) if gains else default
    return Choice(index, float(values[index]), undecided, by_others, cases)


def _best(values: np.ndarray, default: int) -> int:
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return int(best[np.abs(best - default).argmin()])


def _by_others(tallies: Tallies, default: int) -> float | None:
    """The metric where each case takes the candidate that is best on all other cases; None for a single case."""
    if len(tallies.part) < 2:
        return None
    parts, wholes = tallies.part.sum(0) - tallies.part, tallies.whole.sum(0) - tallies.whole
    chosen = [_best(_ratio(part, whole), default) for part, whole in zip(parts, wholes, strict=True)]
    rows = np.arange(len(chosen))
    part, whole = (side[rows, chosen].sum(keepdims=True) for side in (tallies.part, tallies.whole))
    return float(_ratio(part, whole)[0])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


@dataclass(frozen=True)
class ShareCounts:
    """Voxels of a case by the foreground's probability in equal steps, inside and outside of the reference: int64."""

    inside: np.ndarray
    outside: np.ndarray


def count_shares(shares: np.ndarray, reference: np.ndarray, steps: int) -> ShareCounts:
    """The counts of a map of shares (uint8, see `Foreground`) and the reference's class indices, both of one shape.

    What the reference ignores (-1) counts nowhere.
    """
    known = shares.reshape(-1) if reference.dtype.kind != "i" else shares[reference >= 0]
    everywhere = np.bincount(known, minlength=steps)
    inside = np.bincount(shares[reference > 0], minlength=steps)
    return ShareCounts(inside, everywhere - inside)


def share_tallies(cases: Sequence[ShareCounts], metric: str) -> Tallies:
    """What each case adds to a metric of `PIXEL_METRICS` for every threshold k / steps, k from 1 to steps - 1.

    Exact: voxels are foreground where their share is k or more.
    """
    inside, outside = (np.array([getattr(case, side) for case in cases], float) for side in ("inside", "outside"))
    true_positive, false_positive = (_from_each_step(side)[:, 1:] for side in (inside, outside))
    expected, all_voxels = (side.sum(1, keepdims=True) for side in (inside, inside + outside))
    part, whole = PIXEL_METRICS[metric](
        true_positive, false_positive, expected - true_positive, all_voxels - expected - false_positive
    )
    return Tallies(part, whole)


def _from_each_step(counts: np.ndarray) -> np.ndarray:
    return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]


Ratio = tuple[np.ndarray, np.ndarray]


def _dice(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray) -> Ratio:
    return 2 * tp, 2 * tp + fp + fn


def _mean_dice(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray) -> Ratio:
    part, whole = _dice(tp, fp, fn, tn)
    return _ratio(part, whole), (whole > 0).astype(float)


def _iou(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray) -> Ratio:
    return tp, tp + fp + fn


def _accuracy(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray) -> Ratio:
    return tp + tn, tp + fp + fn + tn


# Pooled over all voxels of all cases, but for the mean over cases.
PIXEL_METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Ratio]] = {
    "dice": _dice,
    "mean_dice": _mean_dice,
    "iou": _iou,
    "accuracy": _accuracy,
}


def _object_f1(counts: ObjectCounts) -> tuple[float, float]:
    """Pooled over all objects, at an IoU of 0.5, the first of the thresholds."""
    return 2.0 * counts.matched[0], float(counts.predicted + counts.expected)


def _dsb2018(counts: ObjectCounts) -> tuple[float, float]:
    """The mean over images; one without objects on either side does not count."""
    score = object_metrics(counts)["dsb2018"]
    return (0.0, 0.0) if score is None else (score, 1.0)


OBJECT_METRICS: Mapping[str, Callable[[ObjectCounts], tuple[float, float]]] = {
    "object_f1": _object_f1,
    "dsb2018": _dsb2018,
}
