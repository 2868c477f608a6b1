"""What each pruning level is worth: its score on validation cases beside its parameters, time and memory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from msseg.data.store import StoredCase
from msseg.inference.sliding_window import predict_logits
from msseg.networks.grid_network import GridNetwork
from msseg.networks.outputs import decided_classes
from msseg.pipeline.live_memory import peak_bytes
from msseg.postprocessing.rules import Rule, apply_rules
from msseg.training.validation import Overlap, mean_dice, overlap
from planning.label_pairs import Sides
from planning.plan import Configuration
from planning.regions import Region

# The networks of one fold, by level, with their configurations.
Networks = dict[int, tuple[GridNetwork, Configuration]]


@dataclass(frozen=True)
class Viewing:
    """How cases are shown to a network: where, mirrored or once, answered by all branches (accurate) or one (fast).

    `sides` says which classes a mirror from side to side swaps.
    """

    device: torch.device
    mirror: bool = False
    branches: str = "accurate"
    sides: Sides | None = None


@dataclass(frozen=True)
class LevelScore:
    """One level's measurements. `dice` and `iou` are means by label over the cases that have it, None where none has.

    `memory_bytes` is the most that the weights and a forward pass of one patch take. `mended_dice` is the mean Dice
    after the model's postprocessing, None where it has none.
    """

    level: int
    parameters: int
    memory_bytes: int
    seconds_per_case: float
    cases: int
    dice: dict[str, float | None]
    iou: dict[str, float | None]
    mean_dice: float | None
    mean_iou: float | None
    mended_dice: float | None = None


@dataclass
class LevelMeter:
    """Gathers one level's measurements, case by case; `rules` are the model's.

    `labels` are the names of the foreground's classes, or of the `regions`.
    """

    level: int
    labels: tuple[str, ...]
    rules: Sequence[Rule] = ()
    regions: Sequence[Region] = ()
    parameters: int = 0
    memory_bytes: int = 0
    seconds: list[float] = field(default_factory=list)
    overlaps: list[Overlap] = field(default_factory=list)
    mended: list[Overlap] = field(default_factory=list)

    def add(
        self, label: np.ndarray, reference: np.ndarray, seconds: float, spacing_mm: Sequence[float] | None = None
    ) -> None:
        """Take note of one case's label map, its spacing and the time that it took."""
        self.seconds.append(seconds)
        self.overlaps.append(self._overlap(label, reference))
        if self.rules:
            self.mended.append(self._overlap(apply_rules(label, self.rules, spacing_mm), reference))

    def score(self) -> LevelScore:
        """What was gathered so far."""
        dice = _known(mean_dice(self.overlaps, 1 + len(self.labels)))
        iou = _known(_mean_iou(self.overlaps, 1 + len(self.labels)))
        return LevelScore(
            level=self.level,
            parameters=self.parameters,
            memory_bytes=self.memory_bytes,
            seconds_per_case=sum(self.seconds) / max(len(self.seconds), 1),
            cases=len(self.overlaps),
            dice=dict(zip(self.labels, dice, strict=True)),
            iou=dict(zip(self.labels, iou, strict=True)),
            mean_dice=_mean(dice),
            mean_iou=_mean(iou),
            mended_dice=_mean(_known(mean_dice(self.mended, 1 + len(self.labels)))),
        )

    def _overlap(self, label: np.ndarray, reference: np.ndarray) -> Overlap:
        members = [region.classes for region in self.regions]
        num_classes = 1 + max((max(classes) for classes in members), default=len(self.labels))
        return overlap(label, reference, num_classes, members)


def measure_fold(
    meters: dict[int, LevelMeter], networks: Networks, cases: Iterable[StoredCase], viewing: Viewing
) -> None:
    """Add to `meters` what the networks of one fold make of its validation cases; cases without a label are left out.

    Levels take turns case by case, so that whatever else the machine does slows them alike.
    """
    warm = False
    for case in cases:
        if case.label is None:
            continue
        if not warm:
            _measure_sizes(meters, networks, len(case.image), viewing)
            warm = True
        reference = np.asarray(case.label)
        for level, (network, configuration) in networks.items():
            start = time.perf_counter()
            label = _segment(network, configuration, case.image, meters[level], viewing)
            elapsed_s = time.perf_counter() - start
            meters[level].add(label, reference, elapsed_s, case.properties.get("spacing_mm"))


def smallest_within(scores: Sequence[LevelScore], tolerance: float) -> LevelScore:
    """The smallest level whose mean Dice is at most `tolerance` below the best level's.

    The deepest level where no case has any class, so that nothing could be told.
    """
    known = [(score.mean_dice, score) for score in scores if score.mean_dice is not None]
    if not known:
        return max(scores, key=lambda score: score.level)
    best = max(dice for dice, _ in known)
    return min((score for dice, score in known if dice >= best - tolerance), key=lambda score: score.level)


def _segment(
    network: GridNetwork, configuration: Configuration, image: np.ndarray, meter: LevelMeter, viewing: Viewing
) -> np.ndarray:
    """The class indices (z, y, x) of a preprocessed image."""
    logits = predict_logits(
        [network],
        image,
        configuration,
        len(meter.regions) or 1 + len(meter.labels),
        viewing.device,
        mirror=viewing.mirror,
        branches=viewing.branches,
        sides=viewing.sides,
        regions=bool(meter.regions),
    )
    return decided_classes(logits, meter.regions, dim=0).to(torch.int16).cpu().numpy()


def _measure_sizes(meters: dict[int, LevelMeter], networks: Networks, channels: int, viewing: Viewing) -> None:
    """Count parameters and the peak memory of a patch's forward pass, which also warms the networks up."""
    for level, (network, configuration) in networks.items():
        patch = torch.zeros(1, channels, *configuration.patch_size, device=viewing.device)
        weights = sum(tensor.nbytes for tensor in network.state_dict().values())
        meters[level].parameters = sum(parameter.numel() for parameter in network.parameters())
        with torch.inference_mode():
            peak = peak_bytes(partial(network.main_output, patch), viewing.device)
        meters[level].memory_bytes = max(meters[level].memory_bytes, weights + peak)


def _mean_iou(overlaps: Sequence[Overlap], num_classes: int) -> tuple[float, ...]:
    """Mean intersection over union per foreground class over the cases that have it; NaN where none has."""
    # IoU and Dice of one case determine each other: IoU = Dice / (2 - Dice).
    rows = np.array([one.dice() for one in overlaps]).reshape(len(overlaps), num_classes - 1)
    values = rows / (2 - rows)
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(0)
    return tuple(float(s) / int(n) if n else math.nan for s, n in zip(total, known.sum(0), strict=True))


def _known(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
