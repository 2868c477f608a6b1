"""LUNA16: lung nodules in CT, as centres and diameters, which become balls.

Layout of luna16.grand-challenge.org/Data and doi 10.5281/zenodo.3723295: `subset0` to `subset9` with `<seriesuid>.mhd`
and `.raw`, and `annotations.csv` (`seriesuid,coordX,coordY,coordZ,diameter_mm`: 1186 nodules of at least 3 mm that
three of four readers marked, in mm of the patient's frame). 287 of the 888 scans have none. The subsets are the folds
of the challenge's cross-validation.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.challenges.case_folders import folders_below, other_layout
from msseg.challenges.challenge import Challenge, ConversionOptions
from msseg.challenges.form import volume_form
from msseg.challenges.luna16_submission import check, recognise, write
from msseg.challenges.source import Listing, Source
from msseg.data.balls import paint_ball
from msseg.data.geometry import Geometry
from msseg.data.problems import FileError, Problem
from msseg.errors import DatasetError

_ANNOTATIONS = "annotations.csv"
_SUBSET = "subset"
_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
_CHANNELS = ("CT",)
_LABELS = {"nodule": 1}


@dataclass(frozen=True)
class Nodule:
    """A nodule's centre (x, y, z) in mm of the patient's frame, left-back-up, and its diameter in mm."""

    centre_mm: tuple[float, float, float]
    diameter_mm: float


def list_cases(source: Path, options: ConversionOptions) -> Listing:
    """Every scan below the folder with the nodules that annotations.csv has of it, which may be none."""
    folders = list(folders_below(source))
    scans = sorted(path for folder in folders for path in folder.glob("*.mhd") if "seg" not in folder.name)
    tables = [folder / _ANNOTATIONS for folder in folders if (folder / _ANNOTATIONS).is_file()]
    if not scans or not tables:
        raise other_layout(source, f"{_ANNOTATIONS}, and subset0/<seriesuid>.mhd")
    nodules = read_annotations(tables[0])
    sources = [Source(scan.stem, scan, tables[0], facts=_facts(nodules.get(scan.stem, ()))) for scan in scans]
    absent = sorted(nodules.keys() - {scan.stem for scan in scans})
    notes = [_absent(tables[0], absent)] if absent else []
    labels = options.labels or _LABELS
    return Listing(
        sources=tuple(sources),
        problems=tuple(notes),
        labels=labels,
        instances=False,
        form=volume_form(_CHANNELS, labels),
        read_label=read_nodules,
        extras=_folds(scans),
    )


def _folds(scans: Sequence[Path]) -> dict[str, list[list[str]]]:
    """The challenge's folds as an entry of dataset.json: the scans of each subset; none where not all lie in one."""
    subsets: dict[int, list[str]] = defaultdict(list)
    for scan in scans:
        number = scan.parent.name.removeprefix(_SUBSET)
        if not scan.parent.name.startswith(_SUBSET) or not number.isdecimal():
            return {}
        subsets[int(number)].append(scan.stem)
    return {"folds": [subsets[number] for number in sorted(subsets)]} if len(subsets) > 1 else {}


def read_annotations(path: Path) -> dict[str, tuple[Nodule, ...]]:
    """The nodules of each scan; DatasetError that names the line where a table is none of the challenge's."""
    found: dict[str, list[Nodule]] = defaultdict(list)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream)
        if not set(_COLUMNS) <= set(rows.fieldnames or ()):
            raise DatasetError(f"{path}: columns {rows.fieldnames}; expected {', '.join(_COLUMNS)}. Copy it again.")
        for row in rows:
            try:
                x, y, z, diameter = (float(row[column]) for column in _COLUMNS[1:])
            except (TypeError, ValueError):
                found_text = ",".join(str(row[column]) for column in _COLUMNS)
                place = f"{path}, line {rows.line_num}"
                raise DatasetError(f"{place}: {found_text}; expected an id and four numbers. Copy it again.") from None
            found[row[_COLUMNS[0]]].append(Nodule((x, y, z), diameter))
    return {uid: tuple(nodules) for uid, nodules in found.items()}


def read_nodules(source: Source, grid: Geometry) -> tuple[np.ndarray, list[Problem]]:
    """The label (z, y, x) uint8 with a ball a nodule, its centre voxel always in it; FileError for one outside."""
    label = np.zeros(grid.shape, np.uint8)
    for line in source.facts.splitlines()[1:]:
        x, y, z, diameter = map(float, line.split())
        if not paint_ball(label, grid, (x, y, z), diameter / 2):
            found = f"a nodule at {x:g} {y:g} {z:g} mm, outside of the scan"
            raise FileError(source.image, found, "nodules inside", "See that scan and annotations belong together.")
    return label, []


def _facts(nodules: tuple[Nodule, ...]) -> str:
    """The nodules as text, a line each after a heading, to tell whether they changed."""
    lines = [" ".join(map(repr, (*nodule.centre_mm, nodule.diameter_mm))) for nodule in nodules]
    return "\n".join(["x y z diameter", *lines])


def _absent(table: Path, scans: list[str]) -> Problem:
    found = f"nodules of {len(scans)} scans that are not there, the first {scans[0]}"
    return Problem("", str(table), found, "scans of all subsets", "Nothing, if other subsets are meant.", "note")


LUNA16 = Challenge(
    name="luna16",
    title="LUNA16, lung nodules in CT",
    url="https://luna16.grand-challenge.org",
    list_cases=list_cases,
    write=write,
    check=check,
    recognise=recognise,
)
