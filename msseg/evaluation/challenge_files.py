"""Submissions that are one file, held to the challenge's reference: lists of candidates, stacks of probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.errors import DatasetError
from msseg.evaluation.froc import FALSE_POSITIVE_RATES, Candidate, Nodule, froc, read_candidates, read_nodules
from msseg.evaluation.membranes import best_membrane_scores


@dataclass(frozen=True)
class FileScore:
    """The figures of one submission, as the challenge names them; `score` ranks, more is better."""

    challenge: str
    title: str
    score: float
    ranked_by: str
    figures: Mapping[str, float]
    source: str


ANNOTATIONS, EXCLUDED, SCANS = "annotations.csv", "annotations_excluded.csv", "seriesuids.csv"


def score_candidates(submission: Path, reference: Path) -> FileScore:
    """LUNA16's score of a CSV of candidates.

    `reference` is the list of nodules, or a folder with `annotations.csv`. Beside it, `annotations_excluded.csv` lists
    findings that count neither way, `seriesuids.csv` the scans (a name a line; else those of nodules and candidates).
    Raises DatasetError where a file is missing or cannot be read.
    """
    annotations = reference / ANNOTATIONS if reference.is_dir() else reference
    if not annotations.is_file():
        raise DatasetError(f"{annotations}: no such file; expected the list of the nodules. Give it with -r.")
    candidates, nodules = read_candidates(submission), read_nodules(annotations)
    excluded = annotations.with_name(EXCLUDED)
    if excluded.is_file():
        nodules += read_nodules(excluded, counted=False)
    listed = annotations.with_name(SCANS)
    scans = _scans(listed) if listed.is_file() else _named(candidates, nodules)
    result = froc(candidates, nodules, scans)
    return FileScore(
        challenge="luna16",
        title="LUNA16",
        score=result.score,
        ranked_by="mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives a scan",
        figures={
            **{
                f"sensitivity at {rate:g}": one
                for rate, one in zip(FALSE_POSITIVE_RATES, result.sensitivities, strict=True)
            },
            "scans": result.scans,
            "nodules": result.nodules,
            "found": result.found,
            "false positives": result.false_positives,
        },
        source="Setio et al. 2017, section 2.4; noduleCADEvaluationLUNA16",
    )


def _named(candidates: list[Candidate], nodules: list[Nodule]) -> list[str]:
    return sorted({one.scan for one in candidates} | {one.scan for one in nodules})


def _scans(path: Path) -> list[str]:
    """The scans of a list, which may have a header."""
    lines = [line.strip().strip(",").strip('"') for line in path.read_text(encoding="utf-8-sig").splitlines()]
    return list(dict.fromkeys(line for line in lines if line and line.lower() != "seriesuid"))


def score_membranes(submission: Path, reference: Path) -> FileScore:
    """ISBI 2012's scores of a TIFF of probabilities of the inside of cells against a TIFF of labels, above 0 inside.

    Raises DatasetError where the two differ in pages or their size.
    """
    pages, labels = _stack(submission), _stack(reference)
    if pages.shape != labels.shape:
        raise DatasetError(f"{submission}: {pages.shape} (page, y, x); expected {labels.shape} as in {reference}.")
    if not all(page.any() for page in labels):
        raise DatasetError(f"{reference}: a page without a cell; expected values above 0 inside of cells. Check it.")
    largest = 1.0 if np.issubdtype(pages.dtype, np.floating) else float(np.iinfo(pages.dtype).max)
    scores, threshold = best_membrane_scores(pages / largest, labels > 0)
    return FileScore(
        challenge="isbi2012",
        title="ISBI 2012",
        score=scores.rand,
        ranked_by="foreground-restricted Rand score after border thinning, at the best threshold",
        figures={
            "V Rand": scores.rand,
            "V Info": scores.information,
            "threshold of V Rand": threshold,
            "pages": len(pages),
        },
        source="Arganda-Carreras et al. 2015",
    )


def _stack(path: Path) -> np.ndarray:
    """The pages (page, y, x) of a TIFF."""
    import tifffile

    if not path.is_file():
        raise DatasetError(f"{path}: no such file; expected a TIFF of one page an image. Name it.")
    try:
        pages: np.ndarray = tifffile.imread(path)
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise DatasetError(f"{path}: {error}; expected a TIFF of one page an image. Export it again.") from error
    return pages.reshape(-1, *pages.shape[-2:])


FILE_SCORES: Mapping[str, Callable[[Path, Path], FileScore]] = {
    "luna16": score_candidates,
    "isbi2012": score_membranes,
}


def file_score_table(score: FileScore) -> str:
    """The figures, a line each, and the line that ranks."""
    width = max(len(name) for name in score.figures)
    lines = [f"{name.ljust(width)}  {_number(value)}" for name, value in score.figures.items()]
    return "\n".join([*lines, f"As {score.title} ranks: {score.score:.4f} ({score.ranked_by})."])


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"
