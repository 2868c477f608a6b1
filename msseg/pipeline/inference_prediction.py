"""Prediction with the final model of a task: one member as it streams, several averaged on the image's grid."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from msseg.data.cases import Case, find_images
from msseg.data.image import read_geometry, read_image, write_label
from msseg.data.problems import FileError, Problem
from msseg.devices import resolve_device
from msseg.errors import CheckpointError, DatasetError
from msseg.files import value_hash
from msseg.inference.averaging import Held
from msseg.inference.folder import PredictionReport, predict_folder
from msseg.inference.memory import SINGLE_BYTES, free_bytes
from msseg.inference.outputs import ProbabilityFiles, output_path
from msseg.inference.predictor import PredictionOptions, Predictor
from msseg.inference.predictor import load_predictor as load_member
from msseg.inference.probability_files import probabilities_path, write_probabilities
from msseg.inference.speeds import speed_of
from msseg.instances.decision import Decision, decision_to_json
from msseg.interrupts import StopRequest
from msseg.parallel import map_cases
from msseg.pipeline.ensemble import AveragedCase, EnsembleOptions, average, label_of
from msseg.pipeline.inference_file import Inference, read_inference
from msseg.pipeline.out_of_fold_scores import Treatment
from msseg.pipeline.prediction import RECORD, OutputWish, PathLike, bounded, predict_with, record_origin
from msseg.pipeline.spread_prediction import PredictionJob, in_short, predict_cases_on, predict_folder_on
from msseg.progress import progress

# Of the free memory, what the mean and a member's probabilities of the largest case may take to be held together.
_SHARE_TOGETHER = 0.5
# Bits of a member's probabilities on the disk, where members predict one after another.
_BITS = 16
_MEMBERS = ".members"


@dataclass(frozen=True)
class _Ensemble:
    """The members, loaded, and what is made of their mean; `device` and `executor` say who predicts."""

    found: Inference
    members: tuple[Predictor, ...]
    options: EnsembleOptions
    device: str
    executor: Executor | None

    def job(self, number: int, wish: OutputWish, folder: Path, **more: Any) -> PredictionJob:
        """What a worker of the executor must know to predict as a member does."""
        one = self.found.members[number]
        return PredictionJob(
            one.model, one.folds, self.members[number].options, False, self.device, wish, folder, **more
        )


class _StoppedError(Exception):
    """Somebody asked to stop in the middle of a case."""


def predict_inference(
    input_folder: PathLike,
    output_folder: PathLike,
    inference: PathLike,
    options: PredictionOptions | None = None,
    postprocess: bool = True,
    overwrite: bool = False,
    device: str = "auto",
    workers: int | None = None,
    quiet: bool = True,
    stop: StopRequest | None = None,
    max_ram: int | None = None,
    outputs: OutputWish | None = None,
    executor: Executor | None = None,
) -> PredictionReport:
    """Segment every image of a folder as a file of `msseg_find_best` says; what became of each case.

    One member streams. Several answer case by case and their probabilities are averaged in memory, where half of what
    is free holds that of the largest case; else, and under `max_ram`, they predict all cases one after another into
    files of 16 bits, which are averaged in slabs and removed. Options are those of `predict`; the workers of an
    `executor` predict in the same way, and average. Raises CheckpointError where the file or a model is not whole, and
    as `predict` does.
    """
    outputs, options, stop = outputs or OutputWish(), options or PredictionOptions(), stop or StopRequest()
    found, workers = read_inference(Path(inference)), workers or 1
    if max_ram is not None:
        options = _bounded(found, options, input_folder, device, workers, max_ram, outputs)
    here = device if executor is None else "cpu"
    members = tuple(
        load_member(one.model, resolve_device(here), one.folds, options, postprocess=False, decide=False)
        for one in found.members
    )
    _check_alike(found, members)
    ensemble = _Ensemble(found, members, _treatment(found, members, postprocess, outputs), device, executor)
    made_with = _made_with(Path(inference), found, ensemble, postprocess)
    places = Path(input_folder), Path(output_folder)
    if len(members) == 1:
        return _streamed(ensemble, *places, made_with, outputs, overwrite, workers, quiet, stop)
    return _averaged(ensemble, *places, made_with, max_ram is None, overwrite, workers, quiet, stop)


def _check_alike(found: Inference, members: Sequence[Predictor]) -> None:
    """Raise CheckpointError where members say different things of a voxel: their mean would mean nothing."""
    said = [(member.model.plan.labels, member.model.plan.regions) for member in members]
    other = next((one for one, its in zip(found.members, said, strict=True) if its != said[0]), None)
    if other is not None:
        raise CheckpointError(
            f"{other.model}: trained with other labels or regions than {found.members[0].model}; expected models of "
            "one data set. Predict with each alone."
        )


def _streamed(
    ensemble: _Ensemble,
    images: Path,
    output: Path,
    made_with: dict[str, Any],
    outputs: OutputWish,
    overwrite: bool,
    workers: int,
    quiet: bool,
    stop: StopRequest,
) -> PredictionReport:
    """The only member as `predict` takes a model, with the file's decision and rules."""
    member, options = ensemble.members[0], ensemble.options
    if ensemble.executor is not None:
        wish = OutputWish(decide=False, instances=outputs.instances, probability_bits=outputs.probability_bits)
        job = ensemble.job(0, wish, output, overwrite=overwrite, treatment=Treatment(options.decision, options.rules))
        channels = len(member.model.plan.channels)
        return predict_folder_on(ensemble.executor, job, images, channels, made_with, quiet, stop)
    single = replace(member, rules=options.rules, decision=options.decision)
    return predict_with(single, images, output, made_with, outputs, overwrite, workers, quiet, stop)


def _averaged(
    ensemble: _Ensemble,
    images: Path,
    output: Path,
    made_with: dict[str, Any],
    may_hold: bool,
    overwrite: bool,
    workers: int,
    quiet: bool,
    stop: StopRequest,
) -> PredictionReport:
    """The mean of several members, in memory where they `may_hold` it, and it fits, and this process predicts."""
    plan = ensemble.members[0].model.plan
    cases, problems = find_images(images, len(plan.channels))
    _refuse_to_replace_inputs(cases, output)
    record_origin(output / RECORD, made_with, overwrite)
    skipped = [case for case in cases if not overwrite and _is_written(case, output, ensemble.options)]
    todo = [case for case in cases if case not in skipped]
    together = ensemble.executor is None and may_hold and _fit_together(todo, plan.outputs)
    work = _together if together else _one_after_another
    report = work(ensemble, todo, output, value_hash(made_with), workers, quiet, stop)
    return _with(report, skipped, problems)


def _bounded(
    found: Inference,
    options: PredictionOptions,
    input_folder: PathLike,
    device: str,
    workers: int,
    max_ram: int,
    outputs: OutputWish,
) -> PredictionOptions:
    """The options with what `max_ram` leaves to the scores of one case, whichever member predicts it."""
    kept = replace(outputs.kept, probabilities=True) if len(found.members) > 1 else outputs.kept
    limits = [
        bounded(options, one.model, input_folder, one.folds, device, workers, max_ram, kept).max_bytes
        for one in found.members
    ]
    return replace(options, max_bytes=min((limit for limit in limits if limit is not None), default=None))


def _treatment(
    found: Inference, members: Sequence[Predictor], postprocess: bool, outputs: OutputWish
) -> EnsembleOptions:
    plan = members[0].model.plan
    outputs.check_for(plan)
    decision = found.decision if outputs.decide else None
    if outputs.threshold is not None:
        decision = replace(decision or Decision(), foreground=outputs.threshold)
    rules = outputs.rules_for(plan)
    return EnsembleOptions(
        decision=decision,
        rules=(found.rules if rules is None else rules) if postprocess else (),
        has_spacing=plan.has_spacing,
        instances=outputs.instances,
        probability_bits=outputs.probability_bits,
    )


def _made_with(path: Path, found: Inference, ensemble: _Ensemble, postprocess: bool) -> dict[str, Any]:
    options = ensemble.options
    return {
        "inference": str(path),
        "members": [{"model": str(one.model), "folds": list(one.folds)} for one in found.members],
        "speed": speed_of(ensemble.members[0].options),
        "options": ensemble.members[0].options.as_record(),
        "postprocess": [asdict(rule) for rule in options.rules] if postprocess else False,
        "decision": None if options.decision is None else decision_to_json(options.decision),
        "writes": "objects" if options.instances else "labels",
        "probability_bits": options.probability_bits,
    }


def _fit_together(cases: Sequence[Case], outputs: int) -> bool:
    """Whether the mean and one member's probabilities of the largest case fit into a share of the free memory."""
    free = free_bytes()
    needed = max((2 * outputs * SINGLE_BYTES * _voxels(case) for case in cases), default=0)
    return free is None or needed <= _SHARE_TOGETHER * free


def _voxels(case: Case) -> int:
    try:
        return math.prod(read_geometry(case.image_paths[0]).shape)
    except (FileError, DatasetError):  # reported when the case is read
        return 0


def _together(
    ensemble: _Ensemble, cases: Sequence[Case], output: Path, _key: str, _workers: int, quiet: bool, stop: StopRequest
) -> PredictionReport:
    """All members on one case after another."""
    written, failed = [], {}
    for case in progress(cases, "predict", total=len(cases), quiet=quiet):
        if stop.requested:
            break
        try:
            _write(_mean(ensemble.members, case, stop), case, output, ensemble.options)
        except _StoppedError:
            break
        except Exception as error:  # whatever is wrong with a case harms no other
            failed[case.name] = in_short(error)
        else:
            written.append(case.name)
    ended = {*written, *failed}
    return PredictionReport(tuple(written), (), failed, tuple(case.name for case in cases if case.name not in ended))


def _mean(members: Sequence[Predictor], case: Case, stop: StopRequest) -> Held:
    plan = members[0].model.plan
    image, geometry = read_image(case.image_paths, len(plan.channels))
    mean: np.ndarray | None = None
    for member in members:
        prepared = member.prepare(image, geometry.known_spacing_mm)
        found = member.probabilities(prepared, _stopper(stop))
        mean = found if mean is None else np.add(mean, found, out=mean)
        del found, prepared
    assert mean is not None
    mean /= len(members)
    return Held(mean, geometry, dict(plan.labels), plan.instances, plan.regions)


def _write(mean: Held, case: Case, output: Path, options: EnsembleOptions) -> None:
    """The label map last: where it is, the probabilities are."""
    if options.probability_bits is not None:
        path = probabilities_path(case.name, output)
        coding = mean.labels, options.probability_bits, mean.instances, mean.regions
        write_probabilities(path, mean.values, mean.geometry, *coding)
    write_label(output_path(case, output), label_of(mean, options), mean.geometry)


def _one_after_another(
    ensemble: _Ensemble, cases: Sequence[Case], output: Path, key: str, workers: int, quiet: bool, stop: StopRequest
) -> PredictionReport:
    """Every member on all cases, then their files' mean; the files are kept where that is stopped."""
    rooms = [output / _MEMBERS / key / str(number) for number in range(len(ensemble.members))]
    failed: dict[str, str] = {}
    for number, room in enumerate(rooms):
        left_to_do = [case for case in cases if case.name not in failed]
        report = _member_files(ensemble, number, left_to_do, room, workers, quiet, stop)
        failed |= report.failed
        if report.stopped:
            left = tuple(case.name for case in cases if case.name not in failed)
            return PredictionReport((), (), failed, left)
    averaged = [
        AveragedCase(case.name, tuple(probabilities_path(case.name, room) for room in rooms), output_path(case, output))
        for case in cases
        if case.name not in failed
    ]
    outcomes = map_cases(partial(average, options=ensemble.options), averaged, 1, ensemble.executor)
    for averaged_case, outcome in outcomes:
        if outcome.error is not None:
            failed[averaged_case.name] = in_short(outcome.error)
    shutil.rmtree(output / _MEMBERS, ignore_errors=True)
    return PredictionReport(tuple(one.name for one in averaged if one.name not in failed), (), failed)


def _member_files(
    ensemble: _Ensemble,
    number: int,
    cases: Sequence[Case],
    room: Path,
    workers: int,
    quiet: bool,
    stop: StopRequest,
) -> PredictionReport:
    """A member's probabilities of the cases as files in its room."""
    if ensemble.executor is not None:
        job = ensemble.job(number, OutputWish(decide=False, probability_bits=_BITS), room, labels=False)
        return predict_cases_on(ensemble.executor, job, cases, quiet, stop)
    return predict_folder(
        ensemble.members[number],
        cases,
        room,
        labels=False,
        beside=[ProbabilityFiles(room, _BITS)],
        workers=workers,
        quiet=quiet,
        stop=lambda: stop.requested,
    )


def _with(report: PredictionReport, skipped: Sequence[Case], problems: Sequence[Problem]) -> PredictionReport:
    """The report with what was there before, and with cases that could not be found whole."""
    broken = {
        one.case: f"{one.file}: {one.found}; expected {one.expected}. {one.remedy}"
        for one in problems
        if one.severity == "error"
    }
    return replace(report, skipped=tuple(case.name for case in skipped), failed={**broken, **report.failed})


def _is_written(case: Case, output: Path, options: EnsembleOptions) -> bool:
    saved = options.probability_bits is None or probabilities_path(case.name, output).is_file()
    return saved and output_path(case, output).is_file()


def _refuse_to_replace_inputs(cases: Sequence[Case], output: Path) -> None:
    inputs = {path.resolve() for case in cases for path in case.image_paths}
    replaced = [case for case in cases if output_path(case, output).resolve() in inputs]
    if replaced:
        raise DatasetError(f"{output}: the output would replace the image of {replaced[0].name}. Name another folder.")


def _stopper(stop: StopRequest) -> Callable[[int, int], None]:
    def on_batch(_done: int, _total: int) -> None:
        if stop.requested:
            raise _StoppedError

    return on_batch
