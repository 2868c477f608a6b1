"""LIDC-IDRI: lung nodules in CT, outlined by four readers; a voxel is nodule where at least two of them say so.

Layout of cancerimagingarchive.net/collection/lidc-idri: `LIDC-IDRI-0001/<study>/<series>/*.dcm` with the readings of
that series as XML beside them (chest radiographs lie in series of their own, whose XML has another root). Eight
patients were scanned twice.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from msseg.challenges.case_folders import folders_below, missing, other_layout
from msseg.challenges.challenge import Challenge, ConversionOptions
from msseg.challenges.form import volume_listing
from msseg.challenges.lidc_readings import read_readings
from msseg.challenges.lidc_submission import check, recognise, write
from msseg.challenges.paging import page_names
from msseg.challenges.source import Listing, Source
from msseg.data.dicom_files import dicom_files
from msseg.data.geometry import Geometry
from msseg.data.problems import FileError, Problem
from msseg.files import content_hash

_PATIENT = re.compile(r"LIDC-IDRI-\d{4}")
_GROUP = r"^(LIDC-IDRI-\d{4})"
_ROOT = "LidcReadMessage"
_CHANNELS = ("CT",)
_LABELS = {"nodule": 1}
_READERS_AGREEING = 2
_SAME_SLICE = 0.5  # of the distance of slices


def list_cases(source: Path, options: ConversionOptions) -> Listing:
    """The CT series of every patient, called by the patient, with `_2` for a second one.

    With pages as images a case is a slice on which two readers outlined a nodule, `_00`, `_01`, … from the feet up.
    """
    patients = [folder for folder in folders_below(source) if _PATIENT.fullmatch(folder.name)]
    if not patients:
        raise other_layout(source, "LIDC-IDRI-0001/<study>/<series>/ in it")
    found = [one for patient in patients for one in _scans(patient)]
    if options.pages == "images":
        found = [_with_slices(one) if isinstance(one, Source) else one for one in found]
        found = [one for one in found if isinstance(one, Problem) or one.pages]
    labels = options.labels or _LABELS
    return volume_listing(
        found, _CHANNELS, labels, read_label=read_outlines, find_page=find_slice, extras={"group_by": _GROUP}
    )


def read_outlines(source: Source, grid: Geometry) -> tuple[np.ndarray, list[Problem]]:
    """The label (z, y, x) uint8: 1 where at least two readers outlined a nodule; FileError for outlines elsewhere."""
    assert source.label is not None
    votes = np.zeros(grid.shape, np.uint8)
    for outlines in read_readings(source.label):
        nodules = np.zeros(grid.shape, bool)
        for outline in sorted(outlines, key=lambda one: not one.is_inside):  # what is left out comes last
            nodules[_slice_at(source.label, outline.z_mm, grid)][outline.mask(grid.shape[1:])] = outline.is_inside
        votes += nodules
    return (votes >= _READERS_AGREEING).astype(np.uint8), []


def _scans(patient: Path) -> list[Source | Problem]:
    scans = [(folder, readings) for folder in folders_below(patient) if (readings := _readings_of(folder))]
    if not scans:
        return [missing(patient.name, patient, "series with readings", "Download images and XML of the patient.")]
    names = [patient.name, *(f"{patient.name}_{number}" for number in range(2, len(scans) + 1))]
    return [Source(name, folder, readings) for name, (folder, readings) in zip(names, scans, strict=True)]


def _readings_of(folder: Path) -> Path | None:
    """The XML of the readings of a folder of DICOM files, None where it has none of a CT."""
    files = sorted(folder.glob("*.xml"))
    return next((file for file in files if _root(file) == _ROOT), None) if files and dicom_files(folder) else None


def _root(path: Path) -> str:
    """The name of the document's root without its namespace, "" for what is no XML."""
    try:
        with path.open("rb") as stream:
            _, element = next(ElementTree.iterparse(stream, events=("start",)))
    except (ElementTree.ParseError, StopIteration):
        return ""
    return str(element.tag).rpartition("}")[2]


def find_slice(source: Source, page: int, grid: Geometry) -> int:
    """The slice that the case of a page is: the heights in mm are the source's facts, behind a hash."""
    return _slice_at(source.image, float(source.facts.split()[1 + page]), grid)


def _with_slices(source: Source) -> Source | Problem:
    """The source with a case for each slice on which readers agree that there is a nodule."""
    assert source.label is not None
    try:
        readings = read_readings(source.label)
    except FileError as error:
        return error.as_problem(source.name)
    heights = [{round(outline.z_mm, 2) for outline in outlines if outline.is_inside} for outlines in readings]
    counts = Counter(z_mm for reader in heights for z_mm in reader)
    agreed = sorted(z_mm for z_mm, count in counts.items() if count >= _READERS_AGREEING)
    facts = " ".join([content_hash(source.label), *map(str, agreed)])
    return replace(source, pages=page_names(source.name, len(agreed)) if agreed else (), facts=facts)


def _slice_at(path: Path, z_mm: float, grid: Geometry) -> int:
    place = (z_mm - grid.origin_mm[2]) / (grid.spacing_mm[0] * grid.direction[0][2])
    if abs(place - round(place)) > _SAME_SLICE or not 0 <= round(place) < grid.shape[0]:
        remedy = "See that XML and series belong together."
        raise FileError(path, f"an outline at z {z_mm:g} mm", "the place of a slice", remedy)
    return round(place)


LIDC = Challenge(
    name="lidc",
    title="LIDC-IDRI, lung nodules in CT",
    url="https://www.cancerimagingarchive.net/collection/lidc-idri/",
    list_cases=list_cases,
    write=write,
    check=check,
    recognise=recognise,
)
