"""How each channel is normalised, by its name and by how much of the image is empty."""

from __future__ import annotations

from planning import rules
from planning.fingerprint import IntensityStatistics
from planning.plan import ChannelPlan


def plan_channel(name: str, statistics: IntensityStatistics, relative_size_after_crop: float) -> ChannelPlan:
    """The normalisation of the channel `name`; names that are not a scheme's are intensities without a unit."""
    named = name.casefold()
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
