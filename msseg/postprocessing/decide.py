"""Which rules helped on validation: one question after another, each answered from the tables of the cases.

The questions, their order and what each asks for stand in `msseg.postprocessing.candidates`; nothing here looks at a
voxel, so that choosing on some of the cases, to measure on the others, costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from msseg.postprocessing.candidates import QUESTIONS, Question
from msseg.postprocessing.rules import Rule
from msseg.postprocessing.tables import (
    CaseTable,
    Remains,
    after_rules,
    confusion,
    is_first_filling,
    untouched,
    without,
)
from planning.regions import Region

# Scores of a case, higher is better, from its `confusion`: one each target, NaN where a target counts nothing.
Score = Callable[[np.ndarray], np.ndarray]


def class_dice(confusion: np.ndarray) -> np.ndarray:
    """The Dice of each class from 1 on, from voxels by predicted (rows) and wanted class; NaN where neither has it."""
    return _dice(np.diagonal(confusion), confusion.sum(1), confusion.sum(0))[1:]


def dice_of(targets: Sequence[Sequence[int]]) -> Score:
    """A score: the Dice of unions of classes, such as ((1, 2), (2,)) for a kidney with its tumour, and the tumour."""

    def score(confusion: np.ndarray) -> np.ndarray:
        sums = [
            (confusion[np.ix_(union, union)].sum(), confusion[union].sum(), confusion[:, union].sum())
            for union in map(list, targets)
        ]
        return _dice(*np.array(sums).T)

    return score


def rules_score(regions: Sequence[Region]) -> Score:
    """What rules on classes are chosen by: the Dice of the regions, where there are any, else of the classes."""
    return dice_of([region.classes for region in regions]) if regions else class_dice


def choose_rules(tables: Sequence[CaseTable], score: Score = class_dice) -> list[Rule]:
    """The rules that raise the mean score of these cases, in the order in which they are to be applied.

    Greedy, in the order of `QUESTIONS`: a rule is kept where, upon those kept before, the mean over the targets of the
    mean over the cases rises, and what else its question asks for holds. The filling of holes is asked last and applied
    first. None where there are no cases.
    """
    if not tables:
        return []
    state = _start(tables, score)
    for question in QUESTIONS.values():
        for alternatives in question.groups(tables, state.rules):
            state = _answered(state, question, alternatives)
    return list(state.rules)


def scores_after(tables: Sequence[CaseTable], rules: Sequence[Rule], score: Score = class_dice) -> np.ndarray:
    """The scores (cases, targets) after the rules, which must be such as `choose_rules` gives; NaN as in the score."""
    return np.stack([score(confusion(table, after_rules(table, rules))) for table in tables])


def mean_score(scores: np.ndarray) -> float:
    """The mean over the targets of their mean over the cases (rows) that count; NaN where none does."""
    return _mean_of_known(_mean_over_cases(scores))


@dataclass(frozen=True)
class _State:
    """What the kept rules leave of each case, with its scores (cases, targets)."""

    tables: Sequence[CaseTable]
    score: Score
    rules: tuple[Rule, ...]
    remains: tuple[Remains, ...]
    scores: np.ndarray


def _start(tables: Sequence[CaseTable], score: Score) -> _State:
    remains = tuple(untouched(table) for table in tables)
    counts = [confusion(table, rest) for table, rest in zip(tables, remains, strict=True)]
    return _State(tables, score, (), remains, np.stack([score(one) for one in counts]))


def _answered(state: _State, question: Question, alternatives: Sequence[Rule]) -> _State:
    """The state with the best of the alternatives, of equals the first, or as it is where none is good enough."""
    best = state
    for rule in alternatives:
        tried = _with_rule(state, rule)
        if _is_better(state.scores, tried.scores, question) and (
            best is state or mean_score(tried.scores) > mean_score(best.scores)
        ):
            best = tried
    return best if best is state else _recorded(state, best)


def _with_rule(state: _State, rule: Rule) -> _State:
    fills = is_first_filling(rule, state.tables[0].num_classes)
    rules = (rule, *state.rules) if fills else (*state.rules, rule)
    remains = tuple(
        after_rules(table, rules) if fills else without(rest, rule, table)
        for table, rest in zip(state.tables, state.remains, strict=True)
    )
    if all(new is old for new, old in zip(remains, state.remains, strict=True)):
        return replace(state, rules=rules)
    scores = np.stack(
        [
            old_score if new is old else state.score(confusion(table, new))
            for table, new, old, old_score in zip(state.tables, remains, state.remains, state.scores, strict=True)
        ]
    )
    return replace(state, rules=rules, remains=remains, scores=scores)


def _is_better(before: np.ndarray, after: np.ndarray, question: Question) -> bool:
    if before is after or not mean_score(after) > mean_score(before):
        return False
    if question.none_falls and np.any(_mean_over_cases(after) < _mean_over_cases(before)):
        return False
    return not question.twice or _helps_without_any(before, after)


def _helps_without_any(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether the mean still rises whichever case is left out: what helps a single case is chance."""
    for case in np.flatnonzero(np.any(~_same(before, after), axis=1)):
        if not mean_score(np.delete(after, case, 0)) > mean_score(np.delete(before, case, 0)):
            return False
    return True


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a == b) | (np.isnan(a) & np.isnan(b))


def _recorded(before: _State, after: _State) -> _State:
    """The state whose new rule says what it did to the Dice of its classes."""
    (place,) = [at for at, rule in enumerate(after.rules) if rule not in before.rules]
    rule = after.rules[place]
    dice = [
        _mean_over_cases(
            np.stack([class_dice(confusion(*one)) for one in zip(state.tables, state.remains, strict=True)])
        )
        for state in (before, after)
    ]
    before_dice, after_dice = (
        {one: round(float(values[one - 1]), 6) for one in rule.classes if not np.isnan(values[one - 1])}
        for values in dice
    )
    noted = replace(rule, dice_before=before_dice, dice_after=after_dice)
    return replace(after, rules=(*after.rules[:place], noted, *after.rules[place + 1 :]))


def _dice(both: np.ndarray, predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    total = predicted + wanted
    return np.where(total > 0, 2 * both / np.maximum(total, 1), np.nan)


def _mean_over_cases(scores: np.ndarray) -> np.ndarray:
    """The mean over the first axis of what is not NaN; NaN where nothing is left."""
    known = ~np.isnan(scores)
    total = np.where(known, scores, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


def _mean_of_known(scores: np.ndarray) -> float:
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if known.size else float("nan")
