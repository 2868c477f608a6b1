"""What the trainer is asked for and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from msseg.training.distributed import ALONE, Team
from msseg.training.recipes import Recipe
from msseg.training.validation import Segment
from planning.plan import Configuration, Plan
from planning.splits import Split

MakeSegment = Callable[[nn.Module, Configuration], Segment]


@dataclass(frozen=True)
class PreviousStage:
    """What the second network of a cascade learns from.

    `model` is the folder of the first stage's model, `folds` those of its folds that predicted, `predictions` the
    folder with `CASE.npy`: class indices (z, y, x) uint8 of every case, predicted by a fold that did not train on it.
    """

    model: Path
    folds: tuple[str, ...]
    predictions: Path


@dataclass(frozen=True)
class TrainingJob:
    """One fold to train. `folder` receives checkpoints, log and curves.

    `epochs` takes the place of the recipe's; with `budget_s` (seconds, the final validation included) the schedule
    follows the clock, and only epochs that are given end training earlier. `final_validation_cost` is how much
    longer a case takes in the final prediction than with the `segment` used on the way (8 for mirroring on three
    axes), and `final_share` the share of the budget that is kept for what is looked for after it. `encoder_weights`
    is a file that a fresh training starts its encoder from. `restart` forgets what was trained before. `augment`
    says where batches are augmented, by "workers" or on the "device"; None goes on as before, or takes what is
    cheaper. `compiled` None tries torch.compile where it can pay. `previous` is there for the second network of a
    cascade. `team` are the processes that train it together.
    """

    store: Path
    plan: Plan
    configuration_name: str
    split: Split
    fold: str
    recipe: Recipe
    folder: Path
    device: torch.device
    workers: int = 1
    seed: int = 0
    epochs: int | None = None
    budget_s: float | None = None
    final_validation_cost: float = 1.0
    final_share: float = 0.0
    encoder_weights: Path | None = None
    restart: bool = False
    augment: str | None = None
    compiled: bool | None = None
    team: Team = ALONE
    previous: PreviousStage | None = None


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended: `ended` is "epochs", "budget", "early stop" or "stopped" (by a signal)."""

    ended: str
    already_complete: bool
    steps: int
    epochs: int
    elapsed_s: float
    checkpoint: Path
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return self.ended != "stopped"
