"""From segmentations and references to figures on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from msseg.evaluation.case import CaseMetrics, EvaluationOptions, LabelValues
from msseg.evaluation.evaluate import Evaluation, Outcomes, evaluate_folder, write_evaluation
from msseg.evaluation.pairs import Pair
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
) -> Evaluation:
    """Every metric of every label and case; also written as JSON to `output` (default: `evaluation.json` beside the
    predictions) and as CSV beside it. Raises DatasetError where no prediction has the name of a reference.
    """
    path = Path(output) if output is not None else Path(predictions) / "evaluation.json"
    evaluation = evaluate_folder(
        Path(predictions),
        Path(references),
        labels,
        EvaluationOptions(tolerance_mm=tolerance_mm),
        workers=workers or default_workers(),
        executor=executor,
        watch=partial(_watch, quiet),
    )
    write_evaluation(evaluation, path, path.with_suffix(".csv"))
    return evaluation


def _watch(quiet: bool, outcomes: Outcomes, total: int) -> Iterator[tuple[Pair, Outcome[CaseMetrics]]]:
    return progress(outcomes, "evaluate", total=total, quiet=quiet)
