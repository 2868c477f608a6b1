"""Learning rates: pure functions of the share of training that is done, or of the loss's plateau."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

POLY_EXPONENT = 0.9


def poly(progress: float, warmup: float) -> float:
    """Factor (1 - progress) ** 0.9 after a linear rise over the share `warmup`; nnU-Net's schedule at warmup 0."""
    return _rise(progress, warmup) * (1 - min(max(progress, 0.0), 1.0)) ** POLY_EXPONENT


def cosine(progress: float, warmup: float) -> float:
    """Factor that rises linearly over the share `warmup` and then falls to 0 along half a cosine."""
    rest = min(max((progress - warmup) / (1 - warmup), 0.0), 1.0)
    return _rise(progress, warmup) * (1 + math.cos(math.pi * rest)) / 2


def constant(progress: float, warmup: float) -> float:
    """Factor 1 after the linear rise; the plateau rule works on top of it."""
    return _rise(progress, warmup)


def _rise(progress: float, warmup: float) -> float:
    return 1.0 if warmup <= 0 else min(1.0, progress / warmup)


SCHEDULES: dict[str, Callable[[float, float], float]] = {"poly": poly, "cosine": cosine, "constant": constant}


@dataclass(frozen=True)
class PlateauRule:
    """When the rate falls and when training stops, on a moving average of the epochs' training losses.

    Defaults: the MSS U-Net (rate: its code; stop: its paper).
    """

    smoothing: float = 0.93
    factor: float = 0.2
    patience: int = 30
    threshold: float = 1e-3
    stop_patience: int = 50
    stop_threshold: float = 5e-4


@dataclass(frozen=True)
class Plateau:
    """What the rule remembers between epochs; `scale` multiplies the learning rate."""

    average: float | None = None
    best: float = math.inf
    epochs_without: int = 0
    stop_best: float = math.inf
    stop_epochs_without: int = 0
    scale: float = 1.0


def after_epoch(plateau: Plateau, rule: PlateauRule, loss: float) -> Plateau:
    """The plateau after an epoch whose mean training loss was `loss`."""
    old = plateau.average
    average = loss if old is None else rule.smoothing * old + (1 - rule.smoothing) * loss
    better = average < plateau.best - rule.threshold
    stop_better = average < plateau.stop_best - rule.stop_threshold
    without = 0 if better else plateau.epochs_without + 1
    falls = without >= rule.patience
    return replace(
        plateau,
        average=average,
        best=average if better else plateau.best,
        epochs_without=0 if falls else without,
        stop_best=average if stop_better else plateau.stop_best,
        stop_epochs_without=0 if stop_better else plateau.stop_epochs_without + 1,
        scale=plateau.scale * (rule.factor if falls else 1.0),
    )


def has_settled(plateau: Plateau, rule: PlateauRule) -> bool:
    """Whether the loss has not fallen for so long that training should stop."""
    return plateau.stop_epochs_without >= rule.stop_patience


def budget_progress(elapsed_s: float, budget_s: float, reserve_s: float) -> float:
    """The share of the training time that is spent, when `reserve_s` at the end belongs to the final validation.

    The reserve never takes more than half of the budget.
    """
    return min(1.0, elapsed_s / max(budget_s - reserve_s, 0.5 * budget_s))
