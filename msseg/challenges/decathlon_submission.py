"""The Medical Segmentation Decathlon's submission: a zip of a folder a task with `hippocampus_002.nii.gz` and the like.

Source: http://medicaldecathlon.com and the dataset.json of its ten tasks (`numTest`): names, labels, and how many test
images. Folders in the zip are named as the tasks', as participants have packed theirs.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial

from msseg.challenges.label_archive import LabelArchive, check_archive, recognise_archive, write_archive


@dataclass(frozen=True)
class DecathlonTask:
    """Folder of a task, how its cases begin, its largest label, and how many of its images are for the test."""

    folder: str
    prefix: str
    largest_label: int
    test_cases: int


TASKS = (
    DecathlonTask("Task01_BrainTumour", "BRATS", 3, 266),
    DecathlonTask("Task02_Heart", "la", 1, 10),
    DecathlonTask("Task03_Liver", "liver", 2, 70),
    DecathlonTask("Task04_Hippocampus", "hippocampus", 2, 130),
    DecathlonTask("Task05_Prostate", "prostate", 2, 16),
    DecathlonTask("Task06_Lung", "lung", 1, 32),
    DecathlonTask("Task07_Pancreas", "pancreas", 2, 139),
    DecathlonTask("Task08_HepaticVessel", "hepaticvessel", 2, 140),
    DecathlonTask("Task09_Spleen", "spleen", 1, 20),
    DecathlonTask("Task10_Colon", "colon", 1, 64),
)
_BY_PREFIX = {task.prefix: task for task in TASKS}
_BY_FOLDER = {task.folder: task for task in TASKS}
_NAME = re.compile(r"(?P<prefix>[A-Za-z]+)_\d+")
_ENDING = ".nii.gz"
_NO_TEST = {"imagesTr", "labelsTr", "labelsTs"}


def _case_of(name: str) -> str | None:
    """`Task04_Hippocampus/hippocampus_002` of a name in any folder but those of training images and labels."""
    *folders, own = name.split("/")
    match = _NAME.fullmatch(own)
    task = _BY_PREFIX.get(match["prefix"]) if match else None
    return None if task is None or _NO_TEST & set(folders) else f"{task.folder}/{own}"


def _case_of_member(name: str) -> str | None:
    case = name.removesuffix(_ENDING)
    return case if name.endswith(_ENDING) and _case_of(case) == case else None


def _folder_of(case: str) -> str:
    return case.split("/")[0]


def _labels(case: str) -> tuple[int, ...]:
    return tuple(range(_BY_FOLDER[_folder_of(case)].largest_label + 1))


def _incomplete(cases: list[str]) -> list[str]:
    """Tasks that have some of their test cases, but not as many as the challenge."""
    counts = Counter(map(_folder_of, cases))
    wanted = {folder: _BY_FOLDER[folder].test_cases for folder in counts}
    return [
        f"{counts[folder]} label maps in {folder}, of {count}"
        for folder, count in sorted(wanted.items())
        if counts[folder] != count
    ]


DECATHLON_ARCHIVE = LabelArchive(
    case_of_member=_case_of_member,
    case_of_prediction=_case_of,
    case_of_image=_case_of,
    member_of=f"{{}}{_ENDING}".format,
    labels=_labels,
    example="Task04_Hippocampus/hippocampus_002.nii.gz",
    part_of=_folder_of,
    whole=_incomplete,
)
write = partial(write_archive, DECATHLON_ARCHIVE)
check = partial(check_archive, DECATHLON_ARCHIVE)
recognise = partial(recognise_archive, DECATHLON_ARCHIVE)
