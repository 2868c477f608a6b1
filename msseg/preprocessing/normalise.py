"""Intensities on a common scale: one function a scheme, chosen per channel by the plan; some take channels together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from msseg.errors import DatasetError
from planning.errors import PlanError
from planning.plan import ChannelPlan

_SMALLEST_DIVISOR = 1e-8
_RGB_MAXIMUM = 255.0

Scheme = Callable[[np.ndarray, ChannelPlan, "np.ndarray | None"], None]
"""Changes one channel (float32) in place; the mask is None where the plan does not ask for it."""
SchemeTogether = Callable[[Sequence[np.ndarray]], None]
"""Changes all channels of the scheme (float32) in place, as what one becomes depends on the others."""


def normalise(
    image_czyx: np.ndarray, channels: Sequence[ChannelPlan], mask: np.ndarray | None, overwrite: bool = False
) -> np.ndarray:
    """The normalised image (c, z, y, x) float32: a contiguous copy, or a float32 image itself where it may be changed.

    `mask` (z, y, x) is used by the channels whose plan says `inside_nonzero_mask`; outside it they are zero.
    """
    if len(image_czyx) != len(channels):
        raise DatasetError(
            f"The image has {len(image_czyx)} channels, but the plan has {len(channels)}: "
            f"{', '.join(channel.name for channel in channels)}. Give one file per channel, in that order."
        )
    is_own = overwrite and image_czyx.dtype == np.float32
    normalised = image_czyx if is_own else np.array(image_czyx, np.float32, order="C")
    for values, channel in zip(normalised, channels, strict=True):
        if channel.normalisation not in TOGETHER:
            _scheme(channel)(values, channel, mask if channel.inside_nonzero_mask else None)
    for name, together in TOGETHER.items():
        together(
            [values for values, channel in zip(normalised, channels, strict=True) if channel.normalisation == name]
        )
    return normalised


def _scheme(channel: ChannelPlan) -> Scheme:
    try:
        return SCHEMES[channel.normalisation]
    except KeyError:
        raise PlanError(
            f"Channel {channel.name}: normalisation {channel.normalisation!r}; known are "
            f"{', '.join((*SCHEMES, *TOGETHER))}."
        ) from None


def _ct(values: np.ndarray, channel: ChannelPlan, mask: np.ndarray | None) -> None:
    mean, divisor = np.float32(channel.mean), np.float32(max(channel.std, _SMALLEST_DIVISOR))
    for part in values:  # a slice stays in the cache for all three
        np.clip(part, channel.lower, channel.upper, out=part)
        part -= mean
        part /= divisor


def _zscore(values: np.ndarray, channel: ChannelPlan, mask: np.ndarray | None) -> None:
    if mask is None:
        values -= np.float32(values.mean(dtype=np.float64))
        values /= np.float32(max(_root_mean_square(values), _SMALLEST_DIVISOR))
    elif mask.any():
        inside = values[mask]
        _zscore(inside, channel, None)
        values[...] = 0
        values[mask] = inside


def _root_mean_square(values: np.ndarray) -> float:
    """In float32 slice by slice and in float64 across slices: exact enough, and without a float64 copy."""
    slices = values if values.ndim > 1 else np.array_split(values, values.size // 65536 + 1)
    total = sum(float(np.vdot(part, part)) for part in slices)
    return (total / max(values.size, 1)) ** 0.5


def _nonorm(values: np.ndarray, channel: ChannelPlan, mask: np.ndarray | None) -> None:
    """Intensities already have a meaning of their own."""


def _rescale_to_0_1(values: np.ndarray, channel: ChannelPlan, mask: np.ndarray | None) -> None:
    values -= values.min()
    values /= np.float32(max(values.max(), _SMALLEST_DIVISOR))


def _rgb_to_0_1(values: np.ndarray, channel: ChannelPlan, mask: np.ndarray | None) -> None:
    lowest, highest = float(values.min()), float(values.max())
    if lowest < 0 or highest > _RGB_MAXIMUM:
        raise DatasetError(
            f"Channel {channel.name}: intensities from {lowest:g} to {highest:g}, but rgb_to_0_1 expects 0 to 255. "
            "Name the channel otherwise in dataset.json, or choose another normalisation in the plan."
        )
    values /= np.float32(_RGB_MAXIMUM)


def _colour(channels: Sequence[np.ndarray]) -> None:
    """Each its own mean, and one deviation for all: that of their values about these means."""
    for values in channels:
        values -= np.float32(values.mean(dtype=np.float64))
    squares = [_root_mean_square(values) ** 2 for values in channels]
    divisor = np.float32(max(math.sqrt(math.fsum(squares) / max(len(squares), 1)), _SMALLEST_DIVISOR))
    for values in channels:
        values /= divisor


SCHEMES: dict[str, Scheme] = {
    "ct": _ct,
    "zscore": _zscore,
    "nonorm": _nonorm,
    "rescale_to_0_1": _rescale_to_0_1,
    "rgb_to_0_1": _rgb_to_0_1,
}

TOGETHER: dict[str, SchemeTogether] = {"colour": _colour}
