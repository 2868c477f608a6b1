"""Which rules helped on validation: nnU-Net's order of questions, each answered by Dice.

A case's Dice is needed with and without two rules that do not touch each other's classes. So each case is looked at
once, by itself, and the questions are then answered from a small table.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from msseg.postprocessing.components import keep_largest
from msseg.postprocessing.rules import LARGEST_OF_EACH, LARGEST_TOGETHER, Rule


def candidate_dice(prediction: np.ndarray, reference: np.ndarray, num_classes: int) -> np.ndarray:
    """Dice (2, 2, num_classes - 1) of one case: without/with the whole foreground's rule, then each class's, by class.

    A class that neither prediction nor reference has is NaN.
    """
    classes = range(1, num_classes)
    dice = np.empty((2, 2, num_classes - 1))
    for together in (0, 1):
        label = keep_largest(prediction, classes, together=True) if together else prediction
        dice[together, 0] = _dice(label, reference, num_classes)
        dice[together, 1] = _dice(keep_largest(label, classes), reference, num_classes)
    return dice


def rules_from_dice(candidates: list[np.ndarray]) -> list[Rule]:
    """The rules that raise Dice, from the `candidate_dice` of every validation case; none where there are no cases.

    First the largest component of the whole foreground, kept if the mean Dice of the classes rises and none falls;
    then, upon that, the largest component of each class, kept if that class's Dice rises.
    """
    if not candidates:
        return []
    mean = _mean_over_cases(np.stack(candidates))
    rules = []
    plain, joined = mean[0, 0], mean[1, 0]
    together = int(_mean_of_known(joined) > _mean_of_known(plain) and not np.any(joined < plain))
    if together:
        rules.append(_rule(LARGEST_TOGETHER, range(1, len(plain) + 1), plain, joined))
    before, after = mean[together]
    for index in 1 + np.flatnonzero(after > before):
        rules.append(_rule(LARGEST_OF_EACH, [int(index)], before, after))
    return rules


def _rule(name: str, classes: Iterable[int], before: np.ndarray, after: np.ndarray) -> Rule:
    classes = tuple(classes)
    known = [index for index in classes if not np.isnan(before[index - 1])]
    return Rule(
        rule=name,
        classes=classes,
        dice_before={index: round(float(before[index - 1]), 6) for index in known},
        dice_after={index: round(float(after[index - 1]), 6) for index in known},
    )


def _mean_over_cases(dice: np.ndarray) -> np.ndarray:
    """The mean over the first axis of what is not NaN; NaN where nothing is left."""
    known = ~np.isnan(dice)
    total = np.where(known, dice, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


def _mean_of_known(dice: np.ndarray) -> float:
    known = dice[~np.isnan(dice)]
    return float(known.mean()) if known.size else float("nan")


def _dice(prediction: np.ndarray, reference: np.ndarray, num_classes: int) -> np.ndarray:
    predicted = np.bincount(prediction.reshape(-1), minlength=num_classes)[1:num_classes]
    wanted = np.bincount(reference.reshape(-1), minlength=num_classes)[1:num_classes]
    both = np.bincount(prediction[prediction == reference], minlength=num_classes)[1:num_classes]
    total = predicted + wanted
    return np.where(total > 0, 2 * both / np.maximum(total, 1), np.nan)
