"""Numbers of the networks' parts that the papers set, for the modules and for the counts alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# The two deepest levels have dropout: V-Net, and the U-Net school's U-Net.
LEVELS_WITH_DROPOUT: Final = 2
# A recurrent convolution sees its own answer twice: R2U-Net.
RECURRENT_STEPS: Final = 2
# The U-Net school's head has as many hidden channels as classes, two for one class.
SCHOOL_LEAST_HIDDEN: Final = 2
# Width of an attention gate from the width of its level: Attention U-Net's, and ANU-Net's by its printed counts.
GATE_WIDTHS: Final[dict[str, Callable[[int], int]]] = {
    "half": lambda channels: max(1, channels // 2),
    "half_at_least_32": lambda channels: max(32, channels // 2),
}
# ResNet's first kernel, and how many times narrower its blocks are inside.
STEM_EDGE: Final = 7
BOTTLENECK: Final = 4
# How an encoder's stage is reached from the level above it: over the edge's pooling, or by the stage's own stride.
DOWN_TO_STAGE: Final[dict[str, str]] = {"vgg16": "max_pool", "resnet101": "strided"}
