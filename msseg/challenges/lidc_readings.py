"""The readings of an LIDC scan: outlines of nodules of at least 3 mm, by reader.

Format: the collection's XML documentation (LIDC_XML_Documentation_1_Jan_2009.doc, wiki.cancerimagingarchive.net). A
nodule of at least 3 mm has `roi` elements, one a slice, with an `edgeMap` a point; smaller ones have a single point,
and what is no nodule is a `nonNodule`. The points of an outline are the first pixels outside of the nodule.
`inclusion` FALSE outlines a hole.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.problems import FileError

_SPACE = "{http://www.nih.gov}"
_FEWEST_POINTS = 3


@dataclass(frozen=True)
class Outline:
    """One outline: its place along the body in mm, its points (n, 2) as (y, x) pixels, whether it encloses nodule."""

    z_mm: float
    points_yx: np.ndarray
    is_inside: bool

    def mask(self, shape_yx: tuple[int, ...]) -> np.ndarray:
        """The pixels (y, x) bool within the outline, without its own."""
        from skimage.draw import polygon, polygon_perimeter

        mask = np.zeros(shape_yx, bool)
        rows, columns = self.points_yx[:, 0], self.points_yx[:, 1]
        mask[polygon(rows, columns, shape_yx)] = True
        mask[polygon_perimeter(rows, columns, shape_yx, clip=True)] = False
        return mask


def read_readings(path: Path) -> list[list[Outline]]:
    """The outlines of each reader; FileError for XML that is damaged or holds no readings."""
    try:
        root = ElementTree.parse(path).getroot()
        sessions = root.findall(f"{_SPACE}readingSession")
        readings = [[_outline(roi) for roi in _rois(session)] for session in sessions]
    except (ElementTree.ParseError, TypeError, ValueError) as problem:
        raise FileError(path, f"damaged readings ({problem})", "XML of the collection", "Copy it again.") from None
    if not readings:
        raise FileError(path, "no readingSession", "readings of four readers", "Copy it again.")
    return [[outline for outline in outlines if len(outline.points_yx) >= _FEWEST_POINTS] for outlines in readings]


def _rois(session: ElementTree.Element) -> list[ElementTree.Element]:
    return session.findall(f"{_SPACE}unblindedReadNodule/{_SPACE}roi")


def _outline(roi: ElementTree.Element) -> Outline:
    """TypeError or ValueError for an element that lacks something, or has what is no number."""
    points = [(int(_text(edge, "yCoord")), int(_text(edge, "xCoord"))) for edge in roi.findall(f"{_SPACE}edgeMap")]
    is_inside = _text(roi, "inclusion").upper() != "FALSE"
    return Outline(float(_text(roi, "imageZposition")), np.array(points, np.int64).reshape(-1, 2), is_inside)


def _text(element: ElementTree.Element, name: str) -> str:
    text = element.findtext(f"{_SPACE}{name}")
    if text is None:
        raise ValueError(f"no {name} in {element.tag.rpartition('}')[2]}")
    return text.strip()
