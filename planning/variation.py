"""In what the images of a data set differ from each other, beyond what every training varies."""

from __future__ import annotations

from planning import rules
from planning.fingerprint import Fingerprint
from planning.normalisation import colour_channels

COLOUR, POLARITY = "colour", "polarity"


def variations(fingerprint: Fingerprint) -> tuple[str, ...]:
    """Names of `planning.plan.VARIATIONS`: colour where channels are colours, polarity where some targets are dark."""
    found = {COLOUR: bool(colour_channels(fingerprint.channels)), POLARITY: _mixed(fingerprint)}
    return tuple(name for name, holds in found.items() if holds)


def polarity_shares(fingerprint: Fingerprint) -> tuple[float, float] | None:
    """The shares of the images whose foreground is clearly brighter and clearly darker than the background.

    None where no contrast was measured.
    """
    contrasts = [case.contrast for case in fingerprint.cases if case.contrast is not None]
    if not contrasts:
        return None
    brighter = sum(contrast >= rules.CLEAR_CONTRAST for contrast in contrasts)
    darker = sum(contrast <= -rules.CLEAR_CONTRAST for contrast in contrasts)
    return brighter / len(contrasts), darker / len(contrasts)


def _mixed(fingerprint: Fingerprint) -> bool:
    shares = polarity_shares(fingerprint)
    return shares is not None and min(shares) >= rules.MIXED_POLARITY_SHARE
