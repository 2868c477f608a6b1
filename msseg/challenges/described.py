"""Folders whose dataset.json describes them: the Decathlon's tasks, nnU-Net's raw data sets of both versions.

msseg reads all three as they are; converting them makes one layout, nnU-Net v2's, of a file a channel. Layouts:
medicaldecathlon.com (4-D images, `modality`), nnU-Net v1 (the same with `CASE_0000.nii.gz`), nnU-Net v2
(`channel_names`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from msseg.challenges.challenge import Challenge, ConversionOptions
from msseg.challenges.form import Form
from msseg.challenges.source import Listing, Source
from msseg.data.cases import Case
from msseg.data.dataset import Dataset, read_dataset
from msseg.data.image import PICTURE_ENDINGS, output_ending
from msseg.data.problems import Problem
from msseg.errors import DatasetError
from msseg.files import read_json

_DESCRIPTION = "dataset.json"
_DECATHLON, _NNUNET = "modality", "channel_names"
_CARRIED = ("group_by", "folds", "label_pairs")


def list_cases(source: Path, options: ConversionOptions, key: str) -> Listing:
    """The cases that a dataset.json with the entry `key` describes; notes on files that it does not."""
    description = read_json(source / _DESCRIPTION, DatasetError)
    if not isinstance(description, dict) or key not in description:
        other = {_DECATHLON: "nnunet_v2", _NNUNET: "decathlon or nnunet_v1"}[key]
        raise DatasetError(f"{source / _DESCRIPTION}: no entry {key}; for other layouts use --from {other}.")
    dataset = read_dataset(source)
    labels = {name: value for name, value in dataset.labels.items() if value != 0}
    labels = options.labels or labels
    training = [_source(case, is_test=False) for case in dataset.training]
    test = [_source(case, is_test=True) for case in dataset.test]
    missing = [problem for one in [*training, *test] for problem in _missing(one)]
    lacking = {(problem.case, problem.expected) for problem in missing}
    return Listing(
        sources=tuple(one for one in [*training, *test] if (one.name, _kind(one)) not in lacking),
        problems=(*dataset.notes, *missing),
        labels=labels,
        instances=dataset.instances,
        form=_form(dataset, options.labels or None, is_packed=_is_packed(dataset)),
        extras={entry: description[entry] for entry in _CARRIED if entry in description},
    )


def _form(dataset: Dataset, labels: dict[str, int] | None, is_packed: bool) -> Form:
    """The form of the data set, with these `labels` in place of all that it declares itself, if any are given."""
    ending, named = output_ending(dataset.file_ending), labels or dict(list(dataset.labels.items())[1:])
    form = Form(ending, dataset.channels, {"background": 0, **named}, dataset.instances, "slices", is_packed)
    if labels is not None:
        return form
    return replace(form, regions=dataset.regions, painted=dataset.painted, ignore=dataset.ignore)


def _is_packed(dataset: Dataset) -> bool:
    """Whether one picture holds all channels of a case."""
    cases = [*dataset.training, *dataset.test]
    return dataset.file_ending in PICTURE_ENDINGS and all(len(case.image_paths) == 1 for case in cases)


def _source(case: Case, is_test: bool) -> Source:
    first, *further = case.image_paths
    return Source(case.name, first, case.label_path, is_test, further=tuple(further))


def _kind(source: Source) -> str:
    return f"the files of the {'test' if source.is_test else 'training'} case"


def _missing(source: Source) -> list[Problem]:
    """An error for every file of a training case that is not there, a note for one of a test case."""
    paths = [*source.images, *([source.label] if source.label is not None else [])]
    problem = Problem(source.name, "", "no such file", _kind(source), "Copy it, or take the case out.")
    if source.is_test:
        problem = replace(problem, remedy="Left out.", severity="note")
    return [replace(problem, file=str(path)) for path in paths if not path.exists()]


NNUNET_V1 = Challenge(
    name="nnunet_v1",
    title="nnU-Net v1 raw data",
    url="https://github.com/MIC-DKFZ/nnUNet/tree/nnunetv1",
    list_cases=partial(list_cases, key=_DECATHLON),
)
NNUNET_V2 = Challenge(
    name="nnunet_v2",
    title="nnU-Net v2 raw data",
    url="https://github.com/MIC-DKFZ/nnUNet",
    list_cases=partial(list_cases, key=_NNUNET),
)
list_decathlon = partial(list_cases, key=_DECATHLON)
