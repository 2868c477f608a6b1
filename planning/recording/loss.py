"""The loss as a tape sees it; the twin of `msseg.losses`' cross entropy and Dice at every level."""

from __future__ import annotations

import math

from planning.recording.network import Recorded
from planning.recording.tape import INT64_BYTES, SINGLE_BYTES, Map, Tape


def record_loss(tape: Tape, outputs: Recorded) -> Map:
    """Cross entropy and Dice at every map of logits, coarse ones of rendering included, and of the points' logits."""
    terms = [_loss_of_logits(tape, one) for one in (*outputs.logits, *outputs.points, *outputs.coarse)]
    return tape.apply([*terms, *outputs.presence], 0, ())


def _loss_of_logits(tape: Tape, logits: Map) -> Map:
    """Keeps log-probabilities and probabilities in single precision, where each class is, and the labels."""
    voxels = math.prod(logits.shape) * tape.batch
    single = voxels * logits.channels * SINGLE_BYTES
    masks = voxels * (logits.channels + 1) + voxels * INT64_BYTES
    return tape.apply([logits], 0, (), keeps_bytes=2 * single + masks, scratch=2 * single)
