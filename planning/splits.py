"""Case names to folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planning.errors import PlanError

FOLDS = 5
# nnU-Net's seed, so that folds can be compared case by case (nnUNetTrainer.py, do_split).
SPLIT_SEED = 12345


@dataclass(frozen=True)
class Split:
    """One fold: sorted case names to train on and to validate on; `note` says what is unusual, else it is empty."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    note: str = ""


def make_splits(
    case_names: Sequence[str],
    folds: int = FOLDS,
    seed: int = SPLIT_SEED,
    groups: dict[str, str] | None = None,
) -> list[Split]:
    """The folds of a shuffled k-fold split over the sorted names, or over whole groups (case name → group).

    Without groups the folds are those of scikit-learn's `KFold(folds, shuffle=True, random_state=seed)`. With fewer
    units than folds each is left out once; a single one is trained and validated on. Raises PlanError on no cases,
    doubled names or a case without group.
    """
    names = sorted(case_names)
    if not names or len(set(names)) != len(names):
        raise PlanError(f"splits: found {len(names)} names, {len(set(names))} distinct, expected distinct case names.")
    group_of = {name: name for name in names} if groups is None else groups
    lacking = [name for name in names if name not in group_of]
    if lacking:
        raise PlanError(f"splits: found no group for {', '.join(lacking[:5])}, expected one for each case.")
    units = sorted({group_of[name] for name in names})
    if len(units) == 1:
        note = (
            "a single case or group: it is trained on and validated on, so the validation says nothing about new cases"
        )
        return [Split(tuple(names), tuple(names), note)]
    note = f"{len(units)} cases or groups for {folds} folds: each is left out once" if len(units) < folds else ""
    held_out = _shuffled_parts(units, min(folds, len(units)), seed)
    return [
        Split(
            tuple(name for name in names if group_of[name] not in part),
            tuple(name for name in names if group_of[name] in part),
            note,
        )
        for part in held_out
    ]


def _shuffled_parts(units: Sequence[str], parts: int, seed: int) -> list[set[str]]:
    """The units dealt into parts whose sizes differ by at most one, the larger first.

    RandomState, not a Generator: its stream is frozen, and it is the one scikit-learn shuffles with.
    """
    order = np.arange(len(units))
    np.random.RandomState(seed).shuffle(order)
    return [{units[index] for index in part} for part in np.array_split(order, parts)]
