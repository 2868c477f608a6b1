"""A data set checked and measured, every file opened once; what was examined before is not examined again."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msseg.data.checks import CaseReport, check_across_cases, check_case, check_dataset_structure
from msseg.data.dataset import Case, Dataset
from msseg.data.labels import LabelCoding, LabelMap
from msseg.data.mask_folders import mask_files
from msseg.data.problems import FileError, Problem
from msseg.data.sides import lateral_axes
from msseg.errors import DatasetError, MssegError
from msseg.files import content_hash, read_json, value_hash, write_json
from msseg.parallel import map_cases
from msseg.preprocessing.decoded import Decoded, DecodedCase, keep
from msseg.preprocessing.measure import MeasuredCase, measure_case
from planning.fingerprint import CaseFingerprint, Fingerprint, IntensitySketch, summarise
from planning.instances import InstancePlan
from planning.json_fields import as_json
from planning.label_pairs import pair_names

EXAMINATION_VERSION = 2

Watch = Callable[[Iterable[Any]], Iterable[Any]]
"""Passes on what it is given, one item a case, and shows how far it is."""


@dataclass(frozen=True)
class ExaminedCase:
    """What one case's files gave: the report of the check, and measurements where the case can be used."""

    report: CaseReport
    measured: MeasuredCase | None


@dataclass(frozen=True)
class Examination:
    """All training cases, by name, and all problems of the data set."""

    problems: tuple[Problem, ...]
    cases: tuple[ExaminedCase, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the training cases that an error keeps from being used."""
        known = {case.report.name for case in self.cases}
        return tuple(sorted({p.case for p in self.problems if p.severity == "error" and p.case in known}))

    @property
    def unannotated(self) -> tuple[str, ...]:
        """The names of the training cases whose labels are ignored everywhere."""
        return tuple(case.report.name for case in self.cases if not case.report.is_annotated)


def examine_dataset(
    dataset: Dataset,
    cache: Path,
    workers: int,
    executor: Executor | None = None,
    watch: Watch = iter,
    decoded: Decoded | None = None,
) -> Examination:
    """The examination of every training case, mapped over the executor.

    `cache` is a folder that holds one JSON file an examined case, named by the case and keyed by the content of its
    files: an interrupted examination goes on where it stopped, and a changed file is examined anew.
    What is read on the way is left in `decoded`, if given, for preparing the cases.
    """
    examine = _Examine(cache, dataset.channels, dataset.label_map, decoded)
    examined = []
    for case, outcome in watch(map_cases(examine, dataset.training, workers, executor)):
        examined.append(outcome.value or _failed(case, outcome.error))
    examined.sort(key=lambda case: case.report.name)
    reports = [case.report for case in examined]
    problems = [
        *check_dataset_structure(dataset),
        *(problem for report in reports for problem in report.problems),
        *check_across_cases(reports),
    ]
    return Examination(tuple(dict.fromkeys(problems)), tuple(examined))


def fingerprint_of(dataset: Dataset, examination: Examination, skip: Collection[str] = ()) -> Fingerprint:
    """The fingerprint of the cases that can be used, without those named in `skip`.

    Raises DatasetError where none is left.
    """
    left_out = {*skip, *examination.broken}
    kept = [case for case in examination.cases if case.measured and case.report.name not in left_out]
    measured = [case.measured for case in kept if case.measured]
    if not measured:
        raise DatasetError(
            f"{dataset.folder}: none of {len(examination.cases)} training cases can be used. "
            "Mend what the table of problems lists."
        )
    has_spacing = all(case.report.has_spacing for case in kept)
    fingerprint = summarise(
        dataset.name,
        dataset.channels,
        dataset.class_names,
        [case.fingerprint if has_spacing else _in_pixels(case.fingerprint) for case in measured],
        [case.sketches for case in measured],
    )
    instances = InstancePlan(*dataset.object_label) if dataset.instances else None
    fingerprint = replace(fingerprint, instances=instances, has_spacing=has_spacing, label_pairs=dataset.label_pairs)
    fingerprint = replace(fingerprint, ignore=dataset.ignore, regions=dataset.planned_regions)
    return _with_lateral_axes(fingerprint, dataset)


def _with_lateral_axes(fingerprint: Fingerprint, dataset: Dataset) -> Fingerprint:
    """With what the headers tell of left and right, which nobody asks for where no labels have sides."""
    if not pair_names(fingerprint):
        return fingerprint
    names = {case.name for case in fingerprint.cases}
    paths = [case.image_paths[0] for case in dataset.training if case.name in names]
    return replace(fingerprint, lateral_axes=lateral_axes(paths))


def _in_pixels(case: CaseFingerprint) -> CaseFingerprint:
    """The case with voxels of 1 x 1 x 1."""
    voxel_mm3 = math.prod(case.spacing_mm)
    sizes = tuple(tuple(size / voxel_mm3 for size in sizes) for sizes in case.object_sizes_mm3)
    return replace(case, spacing_mm=(1.0,) * len(case.spacing_mm), object_sizes_mm3=sizes)


@dataclass(frozen=True)
class _Examine:
    """Examines one case in a worker, or takes it from the cache."""

    cache: Path
    channels: tuple[str, ...]
    label_map: LabelCoding
    decoded: Decoded | None = None

    def __call__(self, case: Case) -> ExaminedCase:
        path = self.cache / f"{case.name}.json"
        content = _content(case)
        key = self._key(case, content)
        remembered = None if content is None else _remembered(path, key)
        if remembered is not None:
            return remembered
        examined = self._examine(case, content)
        if content is not None and examined.measured is not None:
            write_json(path, {"key": key, **as_json(examined)})
        return examined

    def _key(self, case: Case, content: str | None) -> str:
        """What the examination depends on."""
        paths = [str(path) for path in case_paths(case)]
        return value_hash([EXAMINATION_VERSION, paths, content, self.channels, coding_key(self.label_map)])

    def _examine(self, case: Case, content: str | None) -> ExaminedCase:
        checked = check_case(case, len(self.channels), self.label_map, self.channels)
        usable = checked.report.is_usable
        if not usable or checked.image is None or checked.label is None or checked.geometry is None:
            return ExaminedCase(checked.report, None)
        num_classes, spacing_mm = len(self.label_map.values), checked.geometry.spacing_mm
        if self.decoded is not None and content is not None:
            keep(self.decoded, case.name, DecodedCase(checked.image, checked.label, spacing_mm, content))
        measured = measure_case(case.name, checked.image, checked.label, spacing_mm, num_classes)
        return ExaminedCase(checked.report, measured)


def case_paths(case: Case) -> tuple[Path, ...]:
    """The files of a case, the label's last: one, or those of its folder of masks."""
    label = case.label_path
    if label is None:
        return case.image_paths
    return (*case.image_paths, *(mask_files(label) if label.is_dir() else [label]))


def coding_key(label_map: LabelCoding) -> list[Any]:
    """What tells one way of coding labels as classes from another, as a JSON value."""
    if isinstance(label_map, LabelMap):
        return [*label_map.values, *([] if label_map.ignore is None else [["ignore", label_map.ignore]])]
    from msseg.instances import coding

    return [type(label_map).__name__, coding.BORDER_PX, coding.CORE_DEPTH, list(label_map.values)]


def _content(case: Case) -> str | None:
    """The hash of the case's files, None where one cannot be read, which the check will say better."""
    try:
        return content_hash(*case_paths(case))
    except OSError:
        return None


def _failed(case: Case, error: Exception | None) -> ExaminedCase:
    """A case that could not be examined at all, as a report; faults of this program are raised."""
    if not isinstance(error, MssegError):
        raise error or RuntimeError(f"{case.name}: examined without a result")
    problem = (
        error.as_problem(case.name)
        if isinstance(error, FileError)
        else Problem(case.name, str(case.image_paths[0]), str(error), "a case that can be read", "See what was found.")
    )
    return ExaminedCase(CaseReport(case.name, problem.file, (problem,)), None)


def _remembered(path: Path, key: str) -> ExaminedCase | None:
    """The examined case in a cache file, or None where there is none of this key in this version's shape."""
    try:
        value = read_json(path)
        if value["key"] != key:
            return None
        report, measured = value["report"], value["measured"]
        problems = tuple(Problem(**problem) for problem in report["problems"])
        return ExaminedCase(
            replace(CaseReport(**report), problems=problems),
            MeasuredCase(
                CaseFingerprint(**_with_tuples(measured["fingerprint"])),
                tuple(IntensitySketch(**_with_tuples(sketch)) for sketch in measured["sketches"]),
            ),
        )
    except (MssegError, OSError, KeyError, TypeError):
        return None


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _as_tuple(value) for name, value in fields.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(one) for one in value) if isinstance(value, list) else value
