"""From segmentations and references to figures on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from msseg.data.cases import case_name, find_images, list_images, split_channel
from msseg.errors import DatasetError
from msseg.evaluation.case import CaseMetrics, EvaluationOptions, LabelValues
from msseg.evaluation.challenge_files import FILE_SCORES, FileScore
from msseg.evaluation.evaluate import Evaluation, Outcomes, evaluate_folder, write_evaluation
from msseg.evaluation.pairs import Pair, label_files
from msseg.evaluation.pictures import draw_evaluation
from msseg.evaluation.rankings import RANKINGS, find_ranking
from msseg.files import write_json
from msseg.parallel import Outcome, default_workers
from msseg.progress import progress


def evaluate(
    predictions: str | os.PathLike[str],
    references: str | os.PathLike[str],
    labels: Mapping[str, LabelValues] | None = None,
    tolerance_mm: float = 1.0,
    output: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    quiet: bool = True,
    max_ram: int | None = None,
    instances: bool | None = None,
    distance: str = "euclidean",
    challenge: str | None = None,
) -> Evaluation:
    """Every metric of every label and case; also written as JSON to `output` (default: `evaluation.json` beside the
    predictions) and as CSV beside it. `instances` measures numbered objects too (None: where the references turn out to
    be of those). `distance` is "euclidean" or "manhattan". `challenge` measures and averages as that one ranks too.
    `max_ram` bounds the bytes of main memory of all processes together. Raises DatasetError where no prediction has the
    name of a reference or the challenge is unknown, ResourceError where even one worker needs more memory.
    """
    if challenge is not None:
        _refuse_unranked(challenge)
    workers = workers or default_workers()
    if max_ram is not None:
        workers = _affordable(predictions, references, workers, max_ram)
    path = Path(output) if output is not None else Path(predictions) / "evaluation.json"
    evaluation = evaluate_folder(
        Path(predictions),
        Path(references),
        labels,
        EvaluationOptions(tolerance_mm=tolerance_mm, metric=distance, instances=instances, challenge=challenge),
        workers=workers,
        executor=executor,
        watch=partial(_watch, quiet),
    )
    write_evaluation(evaluation, path, path.with_suffix(".csv"))
    return evaluation


def _refuse_unranked(challenge: str) -> None:
    if challenge not in RANKINGS and challenge in FILE_SCORES:
        raise DatasetError(f"--challenge {challenge}: found folders, expected its one file. Give it with -p.")
    find_ranking(challenge)


def score_file(
    challenge: str,
    submission: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
) -> FileScore:
    """The score of a submission that is one file, also written as JSON to `output` (default: `evaluation.json` beside
    the file). Raises DatasetError where the challenge has no such, or a file cannot be read.
    """
    if challenge not in FILE_SCORES:
        raise DatasetError(
            f"--challenge {challenge}: {submission} is a file; expected a folder of segmentations. "
            f"Files are scored for {', '.join(FILE_SCORES)}."
        )
    score = FILE_SCORES[challenge](Path(submission), Path(reference))
    path = Path(output) if output is not None else Path(submission).with_name("evaluation.json")
    write_json(path, asdict(score))
    return score


def _affordable(
    predictions: str | os.PathLike[str], references: str | os.PathLike[str], workers: int, max_ram: int
) -> int:
    from msseg.machine import measured_machine
    from msseg.pipeline.explain_evaluation import evaluating_workers

    return evaluating_workers(predictions, references, measured_machine(), workers, max_ram)


def draw_pictures(
    evaluation: Evaluation,
    images: str | os.PathLike[str],
    predictions: str | os.PathLike[str],
    references: str | os.PathLike[str],
    folder: str | os.PathLike[str],
) -> list[Path]:
    """The PNG files, in `folder`, of the worst, median and best case: the image with both outlines of each label.

    Raises DatasetError where one of them has no image.
    """
    return draw_evaluation(
        evaluation,
        _drawn_images(Path(images)),
        label_files(Path(predictions)),
        label_files(Path(references)),
        Path(folder),
    )


def _drawn_images(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The file to draw by case name; of several channels in a file each, the first."""
    found = {case.name: case.image_paths for case in find_images(folder, 1)[0]}
    for path in list_images(folder):
        name, channel = split_channel(case_name(path))
        if channel == 0:
            found.setdefault(name, (path,))
    return found


def _watch(quiet: bool, outcomes: Outcomes, total: int) -> Iterator[tuple[Pair, Outcome[CaseMetrics]]]:
    return progress(outcomes, "evaluate", total=total, quiet=quiet)
