"""Pictures that are to be shown turned: a tag says so, which some programs follow and others do not.

Labels drawn on such a picture lie the one way or the other, and half a turn or a mirror does not even show in the
shape. So they are refused, and turned by whoever knows.
Source: EXIF 2.32 and TIFF 6.0, tag 274.
"""

from __future__ import annotations

from pathlib import Path

from msseg.data.problems import FileError

ORIENTATION = 274
_TURNS = {
    2: "mirrored left to right",
    3: "turned by half",
    4: "mirrored top to bottom",
    5: "mirrored along its diagonal",
    6: "turned by a quarter to the right",
    7: "mirrored along its other diagonal",
    8: "turned by a quarter to the left",
}


def refuse_turned(path: Path, orientation: object) -> None:
    """FileError where the tag says that the pixels are not stored as they are shown; None and others say nothing."""
    if not isinstance(orientation, int) or orientation not in _TURNS:
        return
    raise FileError(
        path,
        f"a picture to be shown {_TURNS[orientation]} (orientation {int(orientation)} in its tags)",
        "pixels stored as they are shown",
        "Save it turned (mogrify -auto-orient FILE), or take the tag out where labels lie on the stored pixels.",
    )
