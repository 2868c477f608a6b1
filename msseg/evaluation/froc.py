"""Candidates with probabilities against nodules: sensitivity at rates of false positives, as LUNA16 ranks."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.errors import DatasetError

# False positives a scan at which LUNA16 takes the sensitivity; their mean ranks (Setio et al. 2017, section 2.4).
FALSE_POSITIVE_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# The diameter of an irrelevant finding that has none (-1) in the challenge's list.
UNKNOWN_DIAMETER_MM = 10.0
# Marks of a scan that the challenge's program (`noduleCADEvaluationLUNA16.py`) looks at.
MOST_MARKS = 100
_POSITION = ("coordX", "coordY", "coordZ")


@dataclass(frozen=True)
class Candidate:
    """A place in one scan, in mm, with the probability that it is a nodule."""

    scan: str
    position_mm: tuple[float, float, float]
    probability: float


@dataclass(frozen=True)
class Nodule:
    """A nodule of the reference; one that is not `counted` is an irrelevant finding: hitting it is no mistake."""

    scan: str
    position_mm: tuple[float, float, float]
    diameter_mm: float
    counted: bool = True


@dataclass(frozen=True)
class Froc:
    """Sensitivity 0..1 at each of `FALSE_POSITIVE_RATES`, their mean, and what it is of."""

    sensitivities: tuple[float, ...]
    score: float
    scans: int
    nodules: int
    found: int
    false_positives: int


def froc(candidates: Iterable[Candidate], nodules: Iterable[Nodule], scans: Sequence[str]) -> Froc:
    """The free-response curve over the scans; candidates and nodules of other scans are left out.

    A candidate hits a nodule whose centre is nearer than its radius; of several on one nodule the most probable
    counts, and none of them is false. Between two probabilities the curve runs straight. Of a scan with more than a
    hundred candidates those count that are more probable than the hundred and first. Raises DatasetError where the
    scans have no nodule.
    """
    marks: dict[str, list[Candidate]] = {scan: [] for scan in scans}
    findings: dict[str, list[Nodule]] = {scan: [] for scan in scans}
    for candidate in candidates:
        marks.get(candidate.scan, []).append(candidate)
    for nodule in nodules:
        findings.get(nodule.scan, []).append(nodule)
    sorted_marks = [_sort_marks(_most_probable(marks[scan]), findings[scan]) for scan in marks]
    hits = [probability for found, _ in sorted_marks for probability in found]
    false = [probability for _, others in sorted_marks for probability in others]
    counted = sum(finding.counted for of_scan in findings.values() for finding in of_scan)
    if not counted:
        raise DatasetError(f"annotations: no nodule in the {len(marks)} scans; expected at least one. Give the list.")
    sensitivities = _curve(hits, false, counted, len(marks))
    return Froc(sensitivities, float(np.mean(sensitivities)), len(marks), counted, len(hits), len(false))


def _most_probable(marks: Sequence[Candidate]) -> Sequence[Candidate]:
    """All marks of a scan, or where they are too many, those above the first that is too many."""
    if len(marks) <= MOST_MARKS:
        return marks
    first_left_out = sorted((mark.probability for mark in marks), reverse=True)[MOST_MARKS]
    return [mark for mark in marks if mark.probability > first_left_out]


def _sort_marks(marks: Sequence[Candidate], findings: Sequence[Nodule]) -> tuple[list[float], list[float]]:
    """The probabilities of the nodules found in a scan, and of the marks that hit nothing."""
    if not marks:
        return [], []
    places = np.array([mark.position_mm for mark in marks])
    probabilities = np.array([mark.probability for mark in marks])
    free = np.ones(len(marks), dtype=bool)
    found = []
    for finding in findings:
        diameter_mm = finding.diameter_mm if finding.diameter_mm >= 0 else UNKNOWN_DIAMETER_MM
        near = ((places - finding.position_mm) ** 2).sum(axis=1) < (diameter_mm / 2) ** 2
        free &= ~near
        if finding.counted and near.any():
            found.append(float(probabilities[near].max()))
    return found, probabilities[free].tolist()


def _curve(hits: Sequence[float], false: Sequence[float], nodules: int, scans: int) -> tuple[float, ...]:
    """The sensitivity at each rate, over thresholds at every probability that occurs, from the highest down."""
    thresholds = np.unique([*hits, *false])[::-1]
    hit, wrong = (np.sort(np.array(side, dtype=np.float64)) for side in (hits, false))
    sensitivity = [0.0, *((len(hit) - np.searchsorted(hit, thresholds)) / nodules)]
    rate = [0.0, *((len(wrong) - np.searchsorted(wrong, thresholds)) / scans)]
    return tuple(float(one) for one in np.interp(FALSE_POSITIVE_RATES, rate, sensitivity))


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates of a CSV with `seriesuid, coordX, coordY, coordZ, probability`. Raises DatasetError."""
    rows = _rows(path, ("seriesuid", *_POSITION, "probability"))
    return [Candidate(scan, (x, y, z), probability) for scan, (x, y, z, probability) in rows]


def read_nodules(path: Path, counted: bool = True) -> list[Nodule]:
    """The nodules of a CSV with `seriesuid, coordX, coordY, coordZ, diameter_mm`. Raises DatasetError."""
    rows = _rows(path, ("seriesuid", *_POSITION, "diameter_mm"))
    return [Nodule(scan, (x, y, z), diameter_mm, counted) for scan, (x, y, z, diameter_mm) in rows]


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[str, list[float]]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        missing = [name for name in columns if name not in (rows.fieldnames or ())]
        if missing:
            raise DatasetError(f"{path}: no column {missing[0]}; expected {', '.join(columns)}. Add the header.")
        return [(row[columns[0]], _numbers(path, rows.line_num, row, columns[1:])) for row in rows]


def _numbers(path: Path, line: int, row: Mapping[str, str | None], columns: Sequence[str]) -> list[float]:
    try:
        numbers = [float(row[name] or "") for name in columns]
    except ValueError:
        numbers = []
    if not numbers or not np.isfinite(numbers).all():
        found = ", ".join(str(row[name]) for name in columns)
        raise DatasetError(f"{path}, line {line}: {found}; expected numbers ({', '.join(columns)}). Mend the row.")
    return numbers
