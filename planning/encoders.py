"""Encoders of the literature, whose widths and depths are their own: the tables for modules and for counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from planning.errors import PlanError

OWN = "blocks"


@dataclass(frozen=True)
class EncoderStages:
    """Channels and convolutions (blocks, where they are residual) of each stage, the first one on `first_level`.

    Levels above `first_level` keep the network's own blocks.
    """

    first_level: int
    widths: tuple[int, ...]
    convolutions: tuple[int, ...]

    @property
    def levels(self) -> int:
        """The most levels a grid may have."""
        return self.first_level + len(self.widths)


ENCODERS: Final[Mapping[str, EncoderStages]] = {
    # Simonyan and Zisserman (2014), configuration D: a level a block, max pooling in between.
    "vgg16": EncoderStages(0, (64, 128, 256, 512, 512), (2, 2, 3, 3, 3)),
    # He et al. (2015): its 7 × 7 stem, which sees the image, halves already, so full resolution is the network's own.
    "resnet101": EncoderStages(1, (64, 256, 512, 1024, 2048), (1, 3, 4, 23, 3)),
}


def stage(encoder: str, level: int) -> int | None:
    """The stage of an encoder that stands on a level, None where the network's own block does.

    Raises PlanError where the encoder has no stage for the level.
    """
    if encoder == OWN:
        return None
    stages = ENCODERS[encoder]
    if level >= stages.levels:
        raise PlanError(f"network option encoder: {encoder} has {stages.levels} levels at most, found {level + 1}.")
    return level - stages.first_level if level >= stages.first_level else None


def check_encoder(encoder: str, dimensions: int, levels: int) -> None:
    """Raise PlanError where an encoder of the literature cannot stand in a grid."""
    if encoder != OWN and dimensions != 2:
        wanted = f"{OWN!r}, or a 2D configuration"
        raise PlanError(f"network option encoder: found {encoder!r} in {dimensions}D, expected {wanted}.")
    stage(encoder, levels - 1)
