"""Along which of a model's mirror axes a tile is mirrored. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence

HALF = "half"
# True: all axes; False: none; HALF: the last half of them, rounded down. The very last are the image's columns as a
# rule, along which anatomy is most alike.
Mirror = bool | str


def mirrored_axes(axes: Sequence[int], mirror: Mirror) -> tuple[int, ...]:
    """Those of the model's mirror `axes` along which its tiles are shown mirrored; ValueError for an unknown word."""
    if isinstance(mirror, str) and mirror != HALF:
        raise ValueError(f"mirror: found {mirror!r}, expected True, False or {HALF!r}.")
    if mirror == HALF:
        return tuple(axes[len(axes) - len(axes) // 2 :])
    return tuple(axes) if mirror else ()
