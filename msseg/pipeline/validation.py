"""The end of a fold: its validation cases predicted and evaluated like new ones, and the postprocessing chosen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from msseg.data.dataset import Dataset, read_dataset
from msseg.data.image import read_label
from msseg.errors import DatasetError, MssegError
from msseg.evaluation.evaluate import Evaluation, evaluate_pairs, write_evaluation
from msseg.evaluation.pairs import Pair
from msseg.folders import Task
from msseg.inference.folder import output_path, predict_folder
from msseg.inference.predictor import RULES_FILE, load_predictor
from msseg.interrupts import StopRequest
from msseg.postprocessing.decide import decide_rules
from msseg.postprocessing.rules import write_rules
from msseg.training.job import TrainingJob, TrainingResult


def validate_fold(
    task: Task, job: TrainingJob, result: TrainingResult, workers: int, quiet: bool, stop: StopRequest
) -> Evaluation:
    """The evaluation of the fold's validation cases, predicted with all mirrors and without postprocessing.

    Writes `validation/` (segmentations), `validation.json` and `.csv` into the fold's folder, and the model's
    postprocessing rules anew from all folds that are validated. Raises DatasetError where the raw data set is gone.
    """
    dataset = read_dataset(task.raw)
    wanted = set(job.split.validation)
    cases = [case for case in dataset.training if case.name in wanted]
    if len(cases) < len(wanted):
        missing = sorted(wanted - {case.name for case in cases})
        raise DatasetError(f"{task.raw}: validation cases are gone ({', '.join(missing[:3])}). Put them back.")
    predictor = load_predictor(job.folder.parent, job.device, [job.fold], postprocess=False)
    output = job.folder / "validation"
    overwrite = not result.already_complete
    report = predict_folder(predictor, cases, output, overwrite=overwrite, quiet=quiet, stop=lambda: stop.requested)
    if not report.is_complete:
        raise _incomplete(output, report.failed, report.stopped)
    pairs = [Pair(case.name, output_path(case, output), case.label_path) for case in cases if case.label_path]
    evaluation = evaluate_pairs(pairs, dataset.labels, workers=workers)
    write_evaluation(evaluation, job.folder / "validation.json", job.folder / "validation.csv")
    choose_postprocessing(job.folder.parent, dataset)
    return evaluation


def choose_postprocessing(model: Path, dataset: Dataset) -> None:
    """Write the rules that helped on the validation cases of all folds that have them."""
    write_rules(model / RULES_FILE, decide_rules(_validated(model, dataset), len(dataset.labels)))


def _validated(model: Path, dataset: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Prediction and reference, as class indices, of every case that a fold has validated."""
    label_map = dataset.label_map
    for case in dataset.training:
        for path in sorted(model.glob(f"fold_[0-9]*/validation/{output_path(case, model).name}")):
            if case.label_path is not None:
                yield label_map.to_index(read_label(path)[0]), label_map.to_index(read_label(case.label_path)[0])


def _incomplete(output: Path, failed: dict[str, str], stopped: tuple[str, ...]) -> MssegError:
    if failed:
        name, reason = next(iter(failed.items()))
        return DatasetError(f"{output}: {len(failed)} validation cases failed; the first is {name}: {reason}")
    return MssegError(f"{output}: stopped with {len(stopped)} cases to go. Run the same command again to go on.")
