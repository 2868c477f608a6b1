"""Left and right of a data set: the label pairs it declares, and along which axes its images run from side to side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msseg.data.geometry import Geometry
from msseg.data.image import image_ending, read_geometry
from msseg.data.layouts import malformed

# Pictures have no patient that they lie in.
_WITHOUT_DIRECTIONS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
# The sine of 30 degrees: an axis this far along the patient's is one that a mirror would confuse the sides along.
_ALONG = 0.5
_EXAMPLE = '[["left kidney", "right kidney"]], or [] for none'

NamePairs = tuple[tuple[str, str], ...]


def declared_pairs(source: Path, value: Any, labels: Iterable[str]) -> NamePairs | None:
    """The `label_pairs` of a dataset.json, None where it has none; DatasetError unless they are pairs of its labels.

    `labels` are the names that may be paired, the background first.
    """
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise malformed(source, f"label_pairs {value!r}", f"pairs of label names, such as {_EXAMPLE}")
    foreground = list(labels)[1:]
    members = [name for pair in value for name in pair]
    if any(name not in foreground for name in members) or len(set(members)) < len(members):
        raise malformed(source, f"label_pairs {value!r}", f"pairs of {', '.join(foreground)}, each in one pair")
    return tuple((left, right) for left, right in value)


def lateral_axes(paths: Iterable[Path]) -> tuple[int, ...]:
    """The array axes (z, y, x) along which any of these images runs from side to side; () where one does not tell.

    Only headers are read. An image that lies within 30 degrees of its patient's axes gives one axis.
    """
    found: set[int] = set()
    for path in paths:
        axes = _lateral_axes_of(read_geometry(path)) if _tells_directions(path) else ()
        if not axes:
            return ()
        found.update(axes)
    return tuple(sorted(found))


def _tells_directions(path: Path) -> bool:
    return image_ending(path) not in _WITHOUT_DIRECTIONS


def _lateral_axes_of(geometry: Geometry) -> tuple[int, ...]:
    stored = geometry.nifti
    if not geometry.has_spacing or (stored is not None and stored.qform_code == stored.sform_code == 0):
        return ()
    return _along_left(geometry.direction)


def _along_left(direction: Sequence[Sequence[float]]) -> tuple[int, ...]:
    return tuple(axis for axis, (left, _, _) in enumerate(direction) if abs(left) >= _ALONG)
