"""Class weights from class frequencies."""

from __future__ import annotations

from collections.abc import Sequence

from planning import rules


def class_weights(volumes_mm3: Sequence[float]) -> tuple[float, ...]:
    """Weights of background and classes, summing to 1, from the volume of each class over the data set.

    A class weighs the cube root of how much rarer it is than the most frequent one, at most four times; the
    background weighs as much as the most frequent class, though it is far more frequent, since the Dice term already
    ignores it. A class that never occurs weighs as if it were the rarest allowed.
    """
    most = max(volumes_mm3, default=0.0)
    relative = [_relative_weight(volume, most) for volume in volumes_mm3]
    return normalised([1.0, *relative])


def uniform_weights(num_classes: int) -> tuple[float, ...]:
    """Equal weights that sum to 1."""
    return normalised([1.0] * num_classes)


def _relative_weight(volume: float, most: float) -> float:
    if volume <= 0:
        return rules.LARGEST_CLASS_WEIGHT_RATIO
    return float(min((most / volume) ** rules.CLASS_WEIGHT_POWER, rules.LARGEST_CLASS_WEIGHT_RATIO))


def normalised(weights: Sequence[float]) -> tuple[float, ...]:
    """The weights divided by their sum."""
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def paired_weights(count: int) -> tuple[float, ...]:
    """Weights 1, ½, ½, ¼, ¼, … normalised: the MSS U-Net paper's .4, .2, .2, .1, .1 for any number of levels."""
    return normalised([2.0 ** -((level + 1) // 2) for level in range(count)])


def halving_weights(count: int) -> tuple[float, ...]:
    """Weights 1, ½, ¼, … with the coarsest 0, normalised; a single level weighs 1 (nnU-Net, nnUNetTrainer.py)."""
    weights = [2.0**-level for level in range(count)]
    return normalised([*weights[:-1], 0.0] if count > 1 else weights)


# Loss weights of the heads, the one that predicts first, by the name of the rule.
SUPERVISION = {"paired": paired_weights, "halving": halving_weights, "mean": uniform_weights}
