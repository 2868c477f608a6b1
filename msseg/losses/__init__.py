"""Losses: tables of functions of logits and target, and their sum over the supervised levels."""

from msseg.losses.supervision import SupervisedLoss
from msseg.losses.table import LOSSES, build_loss

__all__ = ["LOSSES", "SupervisedLoss", "build_loss"]
