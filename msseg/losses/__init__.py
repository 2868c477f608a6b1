"""Losses: tables of functions of logits and target, and their sum over the supervised levels."""

from msseg.losses.level_targets import downscale_target, rarest_first
from msseg.losses.regions import region_targets
from msseg.losses.supervision import SupervisedLoss
from msseg.losses.table import LOSSES, build_loss

__all__ = ["LOSSES", "SupervisedLoss", "build_loss", "downscale_target", "rarest_first", "region_targets"]
