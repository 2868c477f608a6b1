"""How each channel is normalised, by its name and by how much of the image is empty."""

from __future__ import annotations

from collections.abc import Sequence

from planning import rules
from planning.fingerprint import IntensityStatistics
from planning.plan import ChannelPlan


def plan_channels(
    names: Sequence[str], statistics: Sequence[IntensityStatistics], relative_size_after_crop: float
) -> tuple[ChannelPlan, ...]:
    """The normalisation of all channels; red, green and blue together are a colour image."""
    colours = colour_channels(names)
    return tuple(
        plan_channel(name, one, relative_size_after_crop, rules.COLOUR_NORMALISATION if index in colours else None)
        for index, (name, one) in enumerate(zip(names, statistics, strict=True))
    )


def colour_channels(names: Sequence[str]) -> tuple[int, ...]:
    """Where red, green and blue lie among the channels, in this order; empty where one of them is missing."""
    folded = [name.casefold() for name in names]
    if not all(colour in folded for colour in rules.COLOUR_CHANNELS):
        return ()
    return tuple(folded.index(colour) for colour in rules.COLOUR_CHANNELS)


def plan_channel(
    name: str, statistics: IntensityStatistics, relative_size_after_crop: float, scheme: str | None = None
) -> ChannelPlan:
    """The normalisation of the channel `name`; names that are not a scheme's are intensities without a unit.

    `scheme`, where given, is taken whatever the name says.
    """
    named = name.casefold()
    if scheme is None:
        scheme = named if named in rules.NORMALISATION_SCHEMES else rules.DEFAULT_NORMALISATION
    empty_margin = relative_size_after_crop < rules.MASKED_NORMALISATION_BELOW
    return ChannelPlan(
        name=name,
        normalisation=scheme,
        inside_nonzero_mask=empty_margin and scheme in rules.MASKABLE_NORMALISATIONS,
        lower=statistics.percentile_00_5,
        upper=statistics.percentile_99_5,
        mean=statistics.mean,
        std=statistics.std,
    )
