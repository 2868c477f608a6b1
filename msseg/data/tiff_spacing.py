"""The size of a TIFF's pixels, from the tags that can be trusted.

OME's physical sizes and ImageJ's unit are of the specimen. A resolution per centimetre is taken; one per inch, or a
printer's usual number of dots, is of the paper.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from typing import Any

from msseg.data.geometry import Geometry

_UNITS_MM = {
    "m": 1000.0,
    "cm": 10.0,
    "centimeter": 10.0,
    "mm": 1.0,
    "millimeter": 1.0,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "um": 1e-3,
    "\u00b5m": 1e-3,
    "\u03bcm": 1e-3,
    "\\u00b5m": 1e-3,
    "nm": 1e-6,
    "nanometer": 1e-6,
}
_OME_DEFAULT_UNIT = "um"
_CENTIMETRE = 3
_MM_PER_CENTIMETRE = 10.0
_CENTIMETRES_PER_INCH = 2.54
_PRINTERS_DOTS = (72, 96, 100, 150, 200, 240, 300, 350, 400, 600, 1200, 2400)
_DOTS_TOLERANCE = 0.002

Spacing = tuple[float | None, float, float]


def spacing_of(file: Any, page: Any) -> Spacing | None:
    """The size in mm of a voxel, (z, y, x), of a tifffile; z None where nothing is said of it, None without any."""
    for read in (_ome, _imagej, _per_centimetre):
        spacing = read(file, page)
        if spacing is not None and all(size is None or _is_size(size) for size in spacing):
            return spacing
    return None


def spacing_tags(geometry: Geometry) -> dict[str, Any]:
    """The options of `tifffile.imwrite` for the plane's spacing: pixels per centimetre."""
    if not geometry.has_spacing:
        return {}
    _, y_mm, x_mm = geometry.spacing_mm
    return {"resolution": (_MM_PER_CENTIMETRE / x_mm, _MM_PER_CENTIMETRE / y_mm), "resolutionunit": _CENTIMETRE}


def _is_size(size_mm: float) -> bool:
    return math.isfinite(size_mm) and size_mm > 0


def _ome(file: Any, page: Any) -> Spacing | None:
    if not file.ome_metadata:
        return None
    try:
        root = ElementTree.fromstring(file.ome_metadata)
    except ElementTree.ParseError:
        return None
    pixels = next((element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None
    z_mm, y_mm, x_mm = (_physical_size(pixels.attrib, axis) for axis in "ZYX")
    return None if y_mm is None or x_mm is None else (z_mm, y_mm, x_mm)


def _physical_size(attributes: dict[str, str], axis: str) -> float | None:
    unit_mm = _unit_mm(attributes.get(f"PhysicalSize{axis}Unit", _OME_DEFAULT_UNIT))
    try:
        size = float(attributes[f"PhysicalSize{axis}"])
    except (KeyError, ValueError):
        return None
    return None if unit_mm is None else size * unit_mm


def _imagej(file: Any, page: Any) -> Spacing | None:
    metadata = file.imagej_metadata
    per_unit = _resolution(page)
    if not metadata or per_unit is None:
        return None
    unit_mm = _unit_mm(metadata.get("unit"))
    if unit_mm is None:
        return None
    depth = metadata.get("spacing")
    z_mm = float(depth) * unit_mm if isinstance(depth, int | float) else None
    return z_mm, unit_mm / per_unit[0], unit_mm / per_unit[1]


def _per_centimetre(file: Any, page: Any) -> Spacing | None:
    unit, per_unit = page.tags.get("ResolutionUnit"), _resolution(page)
    if unit is None or per_unit is None or int(unit.value) != _CENTIMETRE:
        return None
    if max(per_unit) <= 1 or all(_is_printers(count) for count in per_unit):
        return None
    return None, _MM_PER_CENTIMETRE / per_unit[0], _MM_PER_CENTIMETRE / per_unit[1]


def _is_printers(per_centimetre: float) -> bool:
    dots = per_centimetre * _CENTIMETRES_PER_INCH
    return any(abs(dots - usual) < _DOTS_TOLERANCE * usual for usual in _PRINTERS_DOTS)


def _resolution(page: Any) -> tuple[float, float] | None:
    """Pixels per unit along y and x, None where a tag is missing or zero."""
    found = [page.tags.get(name) for name in ("YResolution", "XResolution")]
    if any(tag is None for tag in found):
        return None
    (y_count, y_units), (x_count, x_units) = (tag.value for tag in found)
    if not (y_count and y_units and x_count and x_units):
        return None
    return y_count / y_units, x_count / x_units


def _unit_mm(unit: Any) -> float | None:
    return _UNITS_MM.get(str(unit).strip().casefold()) if unit else None
