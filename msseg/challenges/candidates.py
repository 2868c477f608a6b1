"""Candidate lists: a CSV of places in the patient with a probability each, from probabilities voxel by voxel.

A candidate is a connected component of what lies above a threshold; its place is the mean of its voxels, in mm towards
left, back and head as ITK and DICOM count, and its probability the largest in it, or the mean.
Source: https://luna16.grand-challenge.org/Evaluation/, whose program (`noduleCADEvaluationLUNA16.py`) looks at the
hundred most probable of a scan (`maxNumberOfCADMarks=100`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.challenges.challenge import Fault, Score, SubmissionOptions
from msseg.challenges.image_list import in_natural_order
from msseg.challenges.named_files import CaseOf, named_images, named_predictions
from msseg.challenges.object_masks import refuse_missing
from msseg.challenges.probability_folder import probability_files
from msseg.challenges.text_lines import first_line, read_submission_text, text_lines
from msseg.data.geometry import Geometry
from msseg.data.image import read_geometry, read_label
from msseg.errors import DatasetError

HEADER = "seriesuid,coordX,coordY,coordZ,probability"
MOST_CANDIDATES = 100
_WRITE_AGAIN = "Write the file again with msseg_submit."
_SHOWN = 60


@dataclass(frozen=True)
class CandidateList:
    """How a challenge names its scans: `case_of` gives the scan of a name without channel and ending, or None.

    The probability is that of the class or region `label`, where a model has it, else of all foreground together.
    """

    case_of: CaseOf
    example: str
    label: str


@dataclass(frozen=True)
class Candidate:
    """A place in mm (x, y, z: left, back, head) with its probability."""

    position_mm: tuple[float, float, float]
    probability: float


def find_candidates(
    probability_zyx: np.ndarray, geometry: Geometry, threshold: float, score: Score = "max"
) -> list[Candidate]:
    """The candidates of a scan, most probable first, at most a hundred; voxels that touch at a corner hang together."""
    import cc3d

    above = (probability_zyx > threshold).astype(np.uint8)
    components, count = cc3d.connected_components(above, connectivity=26, return_N=True)
    if not count:
        return []
    places = geometry.positions_mm(cc3d.statistics(components)["centroids"][1:])
    scores = _SCORES[score](probability_zyx, components, count)
    order = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
    return [Candidate(tuple(places[index].tolist()), float(scores[index])) for index in order]


def _largest(probability: np.ndarray, components: np.ndarray, count: int) -> np.ndarray:
    inside = components > 0
    largest = np.zeros(count + 1)
    np.maximum.at(largest, components[inside], probability[inside])
    return largest[1:]


def _mean(probability: np.ndarray, components: np.ndarray, count: int) -> np.ndarray:
    inside = components > 0
    numbers = components[inside]
    sums = np.bincount(numbers, probability[inside], minlength=count + 1)
    return (sums / np.maximum(np.bincount(numbers, minlength=count + 1), 1))[1:]


_SCORES: dict[Score, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {"max": _largest, "mean": _mean}


def write_candidates(rule: CandidateList, predictions: Path, path: Path, options: SubmissionOptions) -> list[str]:
    """Write the list of a folder of probabilities, or of masks, of which each candidate has probability 1.

    Raises DatasetError for files that are no scan's, or where images are given, for scans without a prediction.
    """
    files = probability_files(predictions)
    found = _of_scans(rule, files) if files else named_predictions(predictions, rule.case_of, rule.example)
    if options.images is not None:
        refuse_missing(predictions, found, named_images(options.images, rule.case_of))
    rows = empty = 0
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(HEADER + "\n")
        for scan in in_natural_order(list(found)):
            probability, geometry = (_stored if files else _certain)(rule, found[scan])
            candidates = find_candidates(probability, geometry, options.threshold, options.score)
            stream.writelines(f"{scan},{_row(candidate)}\n" for candidate in candidates)
            rows, empty = rows + len(candidates), empty + (not candidates)
    notes = [f"{rows} candidates above {options.threshold:g} in {len(found)} scans, {empty} of them without any."]
    notes += [] if files else [_NO_PROBABILITIES]
    return notes if options.images is not None else [*notes, _UNCHECKED]


_NO_PROBABILITIES = (
    "Warning: masks hold no probabilities, so that every candidate has 1, and a curve over probabilities is one point. "
    "Predict with --save-probabilities."
)
_UNCHECKED = "Scans and places were not checked: give the challenge's images with -r."


def check_candidates(rule: CandidateList, path: Path, images: Path | None) -> list[Fault]:
    """Every fault of a list, by line; scans and places are checked where the folder of the images is given.

    Found are: too many bytes, text that is not UTF-8, another header, rows of other than five fields, names that
    are no scan's, places and probabilities that are no numbers, probabilities outside 0 to 1, a place twice in a
    scan, an unknown scan, a place outside its image. A scan without a candidate has no row.
    """
    text = read_submission_text(path)
    if isinstance(text, Fault):
        return [text]
    lines, faults = text_lines(text), []
    if not lines or lines[0] != HEADER:
        found = f"the header {_short(lines[0])!r}" if lines else "an empty file"
        faults.append(Fault(path, 1, found, f"{HEADER!r}", "Write this line first."))
    grids = {} if images is None else {scan: read_geometry(p) for scan, p in named_images(images, rule.case_of).items()}
    if images is not None and not grids:
        raise DatasetError(f"{images}: no image such as {rule.example}; expected the scans. Name their folder with -r.")
    places: dict[tuple[str, str], int] = {}
    for number, line in enumerate(lines[1:], start=2):
        reason = _row_fault(rule, line, grids, places, number)
        if reason is not None:
            faults.append(Fault(path, number, *reason))
    return faults


def recognise_candidates(rule: CandidateList, path: Path) -> bool:
    """Whether a file begins with the header, and its first row is of this challenge's scans."""
    if first_line(path) != HEADER:
        return False
    with path.open(encoding="utf-8", errors="replace") as stream:
        stream.readline()
        row = stream.readline(1000).rstrip("\n")
    return not row or rule.case_of(row.split(",")[0]) is not None


def _of_scans(rule: CandidateList, files: Mapping[str, Path]) -> dict[str, Path]:
    other = [path for name, path in files.items() if rule.case_of(name) is None]
    if other:
        raise DatasetError(f"{other[0]}: a name of no scan; expected one such as {rule.example}. Move it away.")
    return {scan: path for name, path in files.items() if (scan := rule.case_of(name)) is not None}


def _stored(rule: CandidateList, path: Path) -> tuple[np.ndarray, Geometry]:
    from msseg.inference.probability_files import read_probabilities

    stored = read_probabilities(path)
    wanted = stored.called(rule.label)
    return stored.foreground() if wanted is None else wanted, stored.geometry


def _certain(_: CandidateList, path: Path) -> tuple[np.ndarray, Geometry]:
    label, geometry = read_label(path)
    return (label != 0).astype(np.float32), geometry


def _row(candidate: Candidate) -> str:
    x, y, z = candidate.position_mm
    return f"{x:.4f},{y:.4f},{z:.4f},{candidate.probability:.6f}"


def _row_fault(
    rule: CandidateList, line: str, grids: Mapping[str, Geometry], places: dict[tuple[str, str], int], number: int
) -> tuple[str, str, str] | None:
    """What was found, what was expected and what to do, None for a row as it should be."""
    scan, *texts = line.split(",")
    if len(texts) != 4 or rule.case_of(scan) != scan:
        return f"the row {_short(line)!r}", f"a scan such as {rule.example}, three places, a probability", _WRITE_AGAIN
    numbers = _numbers(texts)
    if numbers is None:
        return f"the row {_short(','.join(texts))!r}", "four finite numbers", _WRITE_AGAIN
    if not 0 <= numbers[3] <= 1:
        return f"the probability {texts[3]}", "0 to 1", "Divide by the largest possible value."
    first = places.setdefault((scan, repr(numbers[:3])), number)
    if first != number:
        return f"the place of line {first} again", "every place once", "Delete one of them."
    if grids and scan not in grids:
        return f"the unknown scan {scan}", "a scan of the challenge", "Take its rows out."
    if grids and not _is_inside(grids[scan], numbers[:3]):
        place = ", ".join(f"{value:g}" for value in numbers[:3])
        return f"the place {place} mm outside the scan", "one inside", "Write x, y, z in mm, as ITK counts them."
    return None


def _numbers(texts: list[str]) -> list[float] | None:
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _is_inside(geometry: Geometry, position_mm: list[float]) -> bool:
    """Whether a place is in the box of the voxels, which reaches half a voxel beyond their centres."""
    steps_mm = np.asarray(geometry.spacing_mm)[:, None] * np.asarray(geometry.direction)
    voxel = np.linalg.solve(steps_mm.T, np.asarray(position_mm) - np.asarray(geometry.origin_mm))
    return bool(((voxel >= -0.5) & (voxel <= np.asarray(geometry.shape) - 0.5)).all())


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
